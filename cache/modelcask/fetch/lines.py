"""Connections for all transfers of one event loop: bounded a host and in all, given to the earliest file first."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from modelcask.fetch.governor import Governor

HOSTS_AT_ONCE: Final = 4
"""All hosts together may have this many times what one may have."""

_Waiting = tuple[int, int, asyncio.Future[None]]


@dataclass(slots=True)
class _Host:
    governor: Governor
    running: int = 0
    waiting: list[_Waiting] = field(default_factory=list)
    """A heap: the earliest file first, then whoever came first."""

    def is_starved(self) -> bool:
        while self.waiting and self.waiting[0][2].done():
            heapq.heappop(self.waiting)
        return bool(self.waiting)


class Line:
    """One connection's permit, while it is held."""

    __slots__ = ("_host", "_lines", "_shrunk")

    def __init__(self, lines: Lines, host: _Host) -> None:
        self._lines = lines
        self._host = host
        self._shrunk = host.governor.shrunk

    def received(self, count: int) -> None:
        """Say that bytes have come over it."""
        host = self._host
        if host.governor.received(count, self._lines.clock(), starved=host.is_starved()):
            self._lines.grant()

    def broke(self) -> None:
        """Say that it could not be had, or broke."""
        if self._is_news():
            self._host.governor.broke()

    def too_many(self) -> None:
        """Say that the server asked for fewer."""
        if self._is_news():
            self._host.governor.too_many()

    def _is_news(self) -> bool:
        return self._shrunk == self._host.governor.shrunk  # what failed side by side failed once


class Lines:
    """See the head of this file. ``most`` bounds the connections to one host."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._most = most
        self._running = 0
        self._hosts: dict[str, _Host] = {}
        self._count = itertools.count()

    @contextlib.asynccontextmanager
    async def line(self, host: str, order: int) -> AsyncIterator[Line]:
        """Hold one connection to ``host``, once one is free; a lower ``order`` is served first."""
        entry = self._hosts.setdefault(host, _Host(Governor(self._most)))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(entry.waiting, (order, next(self._count), turn))
        self.grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free(entry)
            raise
        try:
            yield Line(self, entry)
        finally:
            self._free(entry)

    def _free(self, entry: _Host) -> None:
        entry.running -= 1
        self._running -= 1
        if not entry.running:
            entry.governor.rest()
        self.grant()

    def grant(self) -> None:
        """Give away what is free."""
        for entry in self._hosts.values():
            while (
                entry.running < entry.governor.limit
                and self._running < self._most * HOSTS_AT_ONCE
                and entry.is_starved()
            ):
                heapq.heappop(entry.waiting)[2].set_result(None)
                entry.running += 1
                self._running += 1
