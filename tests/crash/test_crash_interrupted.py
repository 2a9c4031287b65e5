"""What a dead process left open in the record of attempts, and two that meet where locks lie."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from behaviours import Gate, HoldAfter
from cancelled import outcomes
from modelcask.catalog.catalog import Catalog
from modelcask.catalog.rows import Outcome
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from origin import Origin
from system.command import run
from zygote import Zygote, ended

CONTENT = random.Random(1).randbytes(1 << 20)


def logged() -> list[str | None]:
    """Return the outcomes that ``modelcask log`` shows, the newest first."""
    return [attempt["outcome"] for attempt in json.loads(run("log", "--json").out)["attempts"]]


def test_what_a_dead_process_left_open_is_interrupted(zygote: Zygote, root: Path, origin: Origin) -> None:
    """Shown so as soon as it is dead, and written down by the next pull, of whatever it is."""
    url = origin.add("/m", CONTENT, behaviours=[HoldAfter(100_000, Gate())])
    child = zygote.start("pull_jobs:pull", root, url, True)
    with ended(child):
        while not any((root / "partial").glob("*/journal")):
            assert zygote.ask("ended", child.pid) is None
            time.sleep(0.002)
        assert outcomes(root) == [None], "it goes on"
    assert logged() == ["interrupted"]
    with ModelCache(root) as cache:
        cache.pull(origin.add("/other", CONTENT[:1000]))
    with Catalog.open(Layout(root)) as catalog:
        written = [attempt.outcome for attempt in catalog.list_attempts(lambda _: True)]
    assert written == [Outcome.DONE, Outcome.INTERRUPTED], "whoever lives"
    assert logged() == ["done", "interrupted"]


@pytest.mark.parametrize(("processes", "pause_s"), [(2, 0.001), (2, 0.01), (3, 0.002)])
def test_where_locks_lie_all_succeed(  # noqa: PLR0917 - fixtures
    zygote: Zygote, root: Path, origin: Origin, seed: int, processes: int, pause_s: float
) -> None:
    """Each is sure that it is alone, at random distances from the others: no byte is wrong, none fails (I7)."""
    chance = random.Random(seed)
    url = origin.add("/m", CONTENT)
    children = [
        zygote.start("pull_jobs:pull_where_locks_lie", root, url, chance.randrange(1 << 32), pause_s)
        for _ in range(processes)
    ]
    with ended(*children):
        for child in children:
            child.result()
    found = zygote.run("kill_jobs:recover", root, "pull", (url,), {url: CONTENT}, None)
    assert found == {"lies": [], "found": {url}, "partials": [], "litter": [], "orphans": [], "quarantine": 0}
