"""A bound on the rate of all transfers together: a token bucket that may be overdrawn by one chunk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

_BURST_S: Final = 0.1


class Limiter:
    """Hold everybody who takes bytes to ``bytes_per_s`` in all; None holds nobody."""

    def __init__(
        self,
        bytes_per_s: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._free_at = float("-inf")

    @property
    def is_active(self) -> bool:
        """Whether anybody is held."""
        return self._rate is not None

    async def take(self, count: int) -> None:
        """Return when ``count`` more bytes may have come."""
        if self._rate is None:
            return
        now = self._clock()
        # Whoever comes later waits for all who came before: the debt is in the common clock.
        self._free_at = max(self._free_at, now - _BURST_S) + count / self._rate
        if self._free_at > now:
            await self._sleep(self._free_at - now)
