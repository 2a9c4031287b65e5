"""Cancelling: a word from any thread that a pull is not wanted any more."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

_T = TypeVar("_T")


class CancelToken:
    """Ends every pull that was begun with it, once and for all. Safe from any thread, and from a signal handler.

    What has arrived is kept, unless the pull was told otherwise, and the next pull goes on from there.
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """End what runs with this token, and what would begin with it later. Safe to call twice."""
        with self._guard:
            self._cancelled = True
            callbacks, self._callbacks = list(self._callbacks.values()), {}
        for callback in callbacks:
            callback()

    @contextlib.contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Have ``callback`` called, once and from whichever thread cancels, if that happens in the ``with`` block."""
        key = object()
        with self._guard:
            self._callbacks[key] = callback
            # Looked at afterwards: a signal handler may cancel between any two lines, also of this thread.
            missed = self._cancelled and self._callbacks.pop(key, None) is not None
        if missed:
            callback()
        try:
            yield
        finally:
            with self._guard:
                self._callbacks.pop(key, None)


async def through(work: Awaitable[_T]) -> _T:
    """Return what ``work`` comes to. Cancelled meanwhile, wait until it has ended, then raise CancelledError.

    For what must not be left behind half done, such as a thread that writes.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # has been seen: nobody waits for it any more
        raise
