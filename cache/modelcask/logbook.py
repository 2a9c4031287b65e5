"""The logbook of one pull: each file's attempt, recorded in the catalog together and in groups.

A thousand small files must not cost a thousand commits. What dies with the process is found open by the next one,
which closes it as interrupted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from modelcask.cancellation import through
from modelcask.catalog.attempts import EndedAttempt, NewAttempt
from modelcask.catalog.catalog import Catalog
from modelcask.catalog.rows import Outcome
from modelcask.errors import CacheError
from modelcask.uri import ModelURI

_log = logging.getLogger("modelcask.pull")

FLUSH_S: Final = 5.0
"""How long an attempt that has ended may wait to be recorded, while others run."""


@dataclass(slots=True)
class Logbook:
    """Begin, end and record attempts, on one event loop. ``open`` and ``flush`` write; the others only remember."""

    catalog: Catalog
    session: str
    """The name of this process's session file."""
    uri: ModelURI
    request_id: str
    _running: dict[str, EndedAttempt] = field(default_factory=dict, init=False)
    _ended: list[EndedAttempt] = field(default_factory=list, init=False)

    async def open(self, files: Sequence[tuple[str, int | None]]) -> None:
        """Record that files are wanted: each path, with its size if the store holds it already."""
        if not files:
            return
        attempts = [NewAttempt(self.request_id, self.session, self.uri, path, held) for path, held in files]

        def begin() -> None:
            numbers = self.catalog.begin_attempts(attempts)
            self._running = {
                path: EndedAttempt(number, Outcome.DONE)
                for (path, held), number in zip(files, numbers, strict=True)
                if held is None
            }

        await through(asyncio.to_thread(begin))  # cancelled, their rows are there, and are to be closed

    def begin(self, path: str) -> None:
        """Say that a file's turn has come."""
        self._running[path] = replace(self._running[path], started_at=_now())

    def moved(self, path: str, *, fetched: int, reused: int) -> None:
        """Say how many bytes of a file came, and how many were here, whatever becomes of it."""
        self._running[path] = replace(self._running[path], bytes_fetched=fetched, bytes_reused=reused)

    def end(self, path: str, error: BaseException | None = None) -> None:
        """Say how a file's attempt has ended: an error that is none of ours means that it was cancelled."""
        outcome, name = Outcome.DONE, None
        if isinstance(error, CacheError):
            outcome, name = Outcome.FAILED, type(error).__name__
        elif error is not None:
            outcome = Outcome.CANCELLED
        attempt = self._running.pop(path)
        self._ended.append(replace(attempt, outcome=outcome, error_class=name, finished_at=_now()))

    def end_all(self, error: BaseException) -> None:
        """Say that what has not ended will not run any more."""
        for path in list(self._running):
            self.end(path, error)

    async def refuse(self, error: BaseException) -> None:
        """Record that a pull ended before anybody knew its files: the attempt's path is empty."""
        try:
            await self.open([("", None)])
        except CacheError as fault:
            _log.warning("the record of this attempt could not be written: %s", fault)
        self.end_all(error)
        await self.flush()

    async def flush(self) -> None:
        """Record what has ended, also if nobody waits for it. An error is logged: it must not hide the pull's own."""
        ended, self._ended = self._ended, []
        if ended:
            await through(asyncio.to_thread(self._record, ended))

    def _record(self, ended: list[EndedAttempt]) -> None:
        try:
            self.catalog.end_attempts(ended)
        except CacheError as error:
            _log.warning("the record of %d attempts could not be written: %s", len(ended), error)


def _now() -> int:
    return time.time_ns() // 1000
