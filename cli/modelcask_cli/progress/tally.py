"""The sums of a pull: what is done, how fast, how long it will take. No drawing here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import modelcask
from modelcask_cli import words

Phase = modelcask.Phase

ENDED: Final = frozenset({Phase.DONE, Phase.REUSED, Phase.FAILED, Phase.CANCELLED})
_HERE: Final = frozenset({Phase.DONE, Phase.REUSED})
_MOVES: Final = frozenset({Phase.DOWNLOADING, Phase.RETRYING, Phase.VERIFYING, Phase.PUBLISHING, Phase.REUSED})
"""The phases whose events tell how much was resumed; the others say 0."""
_WINDOW_S: Final = 10.0

WORDS: Final = {
    Phase.RESOLVING: "asking the source",
    Phase.WAITING: "waiting for another process",
    Phase.CHECKING: "checking what is kept",
    Phase.RETRYING: "retrying",
    Phase.VERIFYING: "verifying",
    Phase.PUBLISHING: "publishing",
    Phase.DONE: "done",
    Phase.REUSED: "already here",
    Phase.FAILED: "failed",
    Phase.CANCELLED: "cancelled",
}
"""Phases as they are shown; where one is missing, figures say more."""


class Meter:
    """The speed of a growing number over the last ten seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, value: int) -> None:
        """Take the number as it is now."""
        now = self._clock()
        if self._samples and value < self._samples[-1][1]:
            self._samples.clear()  # it began again: what was before says nothing
        self._samples.append((now, value))
        while now - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()

    def rate(self) -> float | None:
        """Return the growth per second, None where too little is known."""
        if not self._samples:
            return None
        since, first = self._samples[0]
        passed = self._clock() - since
        return (self._samples[-1][1] - first) / passed if passed >= 1 else None


@dataclass(slots=True)
class File:
    """One file of a pull."""

    path: str
    meter: Meter
    phase: modelcask.Phase = Phase.RESOLVING
    done: int = 0
    total: int | None = None
    resumed: int = 0
    message: str = ""

    @property
    def fetched(self) -> int:
        """What came just now."""
        return max(self.done - self.resumed, 0)

    @property
    def words(self) -> str:
        """How it stands, for a person."""
        if self.phase is not Phase.DOWNLOADING:
            return WORDS[self.phase] + (f": {modelcask.display(self.message)}" if self.phase is Phase.RETRYING else "")
        return figures(self.done, self.total, self.meter.rate())


@dataclass(slots=True)
class Tally:
    """All files of all pulls of one command, as far as their events have told."""

    clock: Callable[[], float] = time.monotonic
    files: dict[tuple[str, str], File] = field(default_factory=dict)
    ended: int = 0
    done: int = 0
    total: int = 0
    fetched: int = 0
    unsized: int = 0
    """How many files have no known size: while there are any, nobody knows how long it will take."""
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = Meter(self.clock)

    def note(self, event: modelcask.Progress) -> File:
        """Take one event that names a file; return that file as it is now."""
        key = event.uri, event.path
        file = self.files.get(key)
        if file is None:
            file = self.files[key] = File(event.path, Meter(self.clock))
        else:
            self._count(file, -1)
        file.phase, file.message = event.phase, event.message
        file.done = event.bytes_done
        file.total = event.bytes_total if event.phase not in _HERE else event.bytes_done
        if event.phase in _MOVES:
            file.resumed = event.bytes_resumed
        self._count(file, 1)
        file.meter.note(file.fetched)
        self.meter.note(self.fetched)
        return file

    def _count(self, file: File, sign: int) -> None:
        self.ended += sign * (file.phase in ENDED)
        self.done += sign * file.done
        self.total += sign * (file.total or 0)
        self.fetched += sign * file.fetched
        self.unsized += sign * (file.total is None)

    @property
    def words(self) -> str:
        """How all of it stands, for a person."""
        if not self.files:
            return WORDS[Phase.RESOLVING]
        counted = f"{self.ended:,} of {words.count(len(self.files), 'file')}, "
        return counted + figures(self.done, None if self.unsized else self.total, self.meter.rate())


def asking(event: modelcask.Progress) -> str:
    """Return, for a person, what an event says that names no file: why a source has to be asked once more."""
    return f"{WORDS[event.phase]}: {modelcask.display(event.message)}"


def figures(done: int, total: int | None, rate: float | None) -> str:
    """Return ``1.0 GB of 4.2 GB, 120.0 MB/s, 27 s left``, as far as it is known."""
    parts = [words.size(done) if total is None else f"{words.size(done)} of {words.size(total)}"]
    if rate is not None:
        parts.append(f"{words.size(rate)}/s")
        if total is not None and rate > 0 and total > done:
            parts.append(f"{words.duration((total - done) / rate)} left")
    return ", ".join(parts)
