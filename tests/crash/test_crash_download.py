"""Killed at any step of a download, and pulled again: the right bytes, and none that was claimed comes twice."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest

from behaviours import CutAfter, Normal
from modelcask.layout import Layout
from modelcask.store import journal
from origin import Origin
from zygote import Zygote

pytestmark = pytest.mark.usefixtures("_no_retries")

CONTENT = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def _no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pull end where it is cut, so that the next one has something to go on with."""
    monkeypatch.setenv("MODELCASK_RETRIES", "0")


def claimed_bytes(root: Path) -> int:
    """Return how many bytes the journal of the one partial claims."""
    return sum(journal.claimed_bytes(path) for path in Layout(root).partials.glob("*/journal"))


class Pull:
    """One pull over the network, to be killed and taken up again as often as is asked."""

    def __init__(self, zygote: Zygote, yard: Path, new_root: Path, origin: Origin) -> None:
        self._zygote = zygote
        self._root = yard / "download"
        self._new = new_root
        self._origin = origin
        self._pinned = self._resumed = False
        self._url = ""

    def of(self, *, pinned: bool, resumed: bool) -> None:
        self._pinned, self._resumed = pinned, resumed

    def _begin(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.copytree(self._new, self._root)
        cut = len(CONTENT) // 3
        self._url = self._origin.add("/m", CONTENT, behaviours=[CutAfter(cut), Normal()] if self._resumed else [])
        self._url += f"#sha256={SHA256}" if self._pinned else ""
        if self._resumed:
            self._zygote.start("kill_jobs:pull_in_small_segments", self._root, self._url, None).wait()
            assert 0 < claimed_bytes(self._root) <= cut

    def points(self) -> list[tuple[int, str]]:
        """Return number and name of the steps before which a kill leaves something new."""
        self._begin()
        steps = self._zygote.run("kill_jobs:pull_in_small_segments", self._root, self._url, None)
        assert "partial.journal.fdatasync" in steps
        return [(at, name) for at, name in enumerate(steps) if at == 0 or ".f" not in steps[at - 1]]

    def check(self, at: int, name: str) -> None:
        self._begin()
        self._zygote.start("kill_jobs:pull_in_small_segments", self._root, self._url, at).wait()
        claimed, served = claimed_bytes(self._root), self._origin.bytes_served
        found = self._zygote.run("kill_jobs:recover", self._root, "pull", (self._url,), {self._url: CONTENT}, None)
        where = f"killed before step {at}, {name}, with {claimed} bytes claimed"
        assert self._origin.bytes_served - served <= len(CONTENT) - claimed, where
        if self._pinned:
            # By a pin that is held the source is not asked again, so the revision whose manifest was begun is not met
            # again either; such a temporary file is the collector's.
            found["litter"] = [name for name in found["litter"] if not name.startswith("manifests/")]
        expected = {"lies": [], "found": {self._url}, "partials": [], "litter": [], "orphans": [], "quarantine": 0}
        assert found == expected, where


@pytest.fixture
def pull(zygote: Zygote, yard: Path, new_root: Path, origin: Origin) -> Pull:
    return Pull(zygote, yard, new_root, origin)


@pytest.mark.parametrize("pinned", [False, True], ids=["by its ETag", "by its digest"])
@pytest.mark.parametrize("resumed", [False, True], ids=["a first pull", "a resumed pull"])
def test_no_claimed_byte_is_fetched_twice(pull: Pull, seed: int, pinned: bool, resumed: bool) -> None:
    """At a sample of the steps; the bytes are counted where they are served, not where they arrive."""
    pull.of(pinned=pinned, resumed=resumed)
    for at, name in random.Random(seed).sample(pull.points(), 4):
        pull.check(at, name)


@pytest.mark.long
@pytest.mark.parametrize("pinned", [False, True], ids=["by its ETag", "by its digest"])
@pytest.mark.parametrize("resumed", [False, True], ids=["a first pull", "a resumed pull"])
def test_no_claimed_byte_is_fetched_twice_whichever_step_it_is(pull: Pull, pinned: bool, resumed: bool) -> None:
    """At every step."""
    pull.of(pinned=pinned, resumed=resumed)
    for at, name in pull.points():
        pull.check(at, name)
