"""Cancelled at random moments, in each way that there is: it ends soon, leaves nothing, and the next pull goes on.

``TEST_CANCELS`` in the environment says how many cancels there are to be, such as 200; ``-s`` shows how soon they end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from behaviours import Drip
from cancelled import PATIENCE_S, Trial, goes_on, leftovers, outcomes
from modelcask.catalog.rows import Outcome
from modelcask.manager import ModelCache
from origin import Origin
from pull_jobs import SMALL
from zygote import Zygote, ended

CONTENT = random.Random(1).randbytes(3 << 20)


class Campaign:
    """One file on one server, pulled into one root after the other."""

    def __init__(self, zygote: Zygote, new_root: Path, root: Path, origin: Origin, chance: random.Random) -> None:
        self._zygote = zygote
        self._new = new_root
        self._root = root
        self._origin = origin
        self._chance = chance
        self._url = self._serve()
        self.took_s: dict[str, list[float]] = {"a token": [], "a task": [], "SIGINT": [], "SIGTERM": []}

    def run(self, cancels: int) -> None:
        lasts_s = {way: self._measure(way) for way in self.took_s}
        while (done := sum(map(len, self.took_s.values()))) < cancels:
            self._begin()
            way = list(self.took_s)[done % len(self.took_s)]
            delay_s = self._chance.uniform(0, 1.1) * lasts_s[way]
            took_s = self._command(way, delay_s) if way.startswith("SIG") else self._call(way, delay_s)
            if took_s is None:
                continue  # it had ended before
            self.took_s[way].append(took_s)
            self._check()
        for way, seconds in self.took_s.items():
            print(f"{len(seconds)} by {way}: median {statistics.median(seconds):.3f} s, most {max(seconds):.3f} s")  # noqa: T201

    def _serve(self) -> str:
        return self._origin.add("/m", CONTENT, behaviours=[Drip(8 << 10, 0.002)])

    def _begin(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.copytree(self._new, self._root)
        self._serve()

    def _measure(self, way: str) -> float:
        """Return how long a pull takes here that is left alone, in seconds."""
        self._begin()
        began = time.monotonic()
        if way.startswith("SIG"):
            assert self._zygote.run("pull_jobs:run_command", self._url) == 0
        else:
            with ModelCache(self._root) as cache:
                cache.pull(self._url)
        return time.monotonic() - began

    def _call(self, way: str, delay_s: float) -> float | None:
        trial = Trial(self._root, as_task=way == "a task")
        trial.after(delay_s)
        asyncio.run(trial.run(self._url, keep=self._chance.random() < 0.7))
        return trial.took_s

    def _command(self, way: str, delay_s: float) -> float | None:
        number = signal.Signals[way]
        child = self._zygote.start("pull_jobs:run_command", self._url)
        with ended(child):
            child.hears("ready")
            time.sleep(delay_s)
            at = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                child.kill(number)
            status = child.wait()
            took_s = time.monotonic() - at
        if status == -number:
            return took_s  # before the command had a say
        code = child.result()
        assert code in {0, 128 + number}
        return took_s if code else None

    def _check(self) -> None:
        assert leftovers(self._root) == []
        with ModelCache(self._root) as cache:
            found = cache.lookup(self._url) is not None
        # None at all where it was still resolving; done where the file was recorded before the word came.
        assert set(outcomes(self._root)) <= {Outcome.CANCELLED} | ({Outcome.DONE} if found else set())
        goes_on(self._root, self._origin, "/m", CONTENT)


@pytest.fixture
def campaign(
    monkeypatch: pytest.MonkeyPatch, zygote: Zygote, new_root: Path, cask: Path, seed: int
) -> Iterator[Campaign]:
    for module, name, value in SMALL:
        monkeypatch.setattr(module, name, value)
    with Origin() as origin:
        yield Campaign(zygote, new_root, cask, origin, random.Random(seed))


def number(default: int) -> int:
    return int(os.environ.get("TEST_CANCELS") or default)


def test_a_pull_that_is_cancelled_anywhere_ends_and_goes_on(campaign: Campaign) -> None:
    """No lock, no room, no thread and no open attempt is left; what is claimed is used by the next pull."""
    campaign.run(number(8))
    assert max(max(seconds) for seconds in campaign.took_s.values()) < PATIENCE_S


@pytest.mark.long
def test_many_pulls_that_are_cancelled_anywhere_end_and_go_on(campaign: Campaign) -> None:
    """The same more often."""
    campaign.run(number(40))
    assert max(max(seconds) for seconds in campaign.took_s.values()) < PATIENCE_S
