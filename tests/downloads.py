"""What tests of downloaders share: waiting for what they come to, and acting on it from another thread."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable

import modelcask

CONTENT = bytes(range(256)) * 20_000  # 5 MB


def pinned(url: str, content: bytes = CONTENT) -> str:
    return f"{url}#sha256={hashlib.sha256(content).hexdigest()}"


class When:
    """A progress callback that has something called, once and from another thread, when a file has so many bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.call: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None

    def __call__(self, event: modelcask.Progress) -> None:
        if self._thread is None and event.bytes_done >= self.size:
            self._thread = threading.Thread(target=self.call)
            self._thread.start()


async def until(true: Callable[[], bool]) -> None:
    """Return when it is so; fail if it never is."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for is another thread's
            await asyncio.sleep(0.01)
