"""Pausing: whoever transfers looks at the gate, ends his request when it is shut, and waits until it opens."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final


class Gate:
    """Open at first. Shut and opened from any thread; waited at on any event loop."""

    def __init__(self) -> None:
        self._is_shut = False
        self._waiting: Final[dict[asyncio.Event, asyncio.AbstractEventLoop]] = {}

    @property
    def is_shut(self) -> bool:
        """Whether nobody may transfer now."""
        return self._is_shut

    def shut(self) -> None:
        """Let nobody transfer until ``open``."""
        self._is_shut = True

    def open(self) -> None:
        """Let everybody go on."""
        self._is_shut = False
        for event, loop in list(self._waiting.items()):
            with contextlib.suppress(RuntimeError):  # nobody waits there any more, and the loop is closed
                loop.call_soon_threadsafe(event.set)

    async def passed(self) -> None:
        """Return when it is open."""
        while self._is_shut:
            event = asyncio.Event()
            self._waiting[event] = asyncio.get_running_loop()
            try:
                if self._is_shut:  # not opened just before this one was known
                    await event.wait()
            finally:
                del self._waiting[event]
