"""What a pull that was cancelled may not leave behind, and what the next one finds."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from asked import asked_for, overlap
from modelcask import locks
from modelcask.cancellation import CancelToken
from modelcask.catalog.rows import Outcome
from modelcask.errors import PullCancelledError
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.ranges import ByteRange, RangeSet
from modelcask.store import fs, journal
from modelcask.store.sessions import is_alive
from modelcask.types import ProgressCallback, Snapshot
from origin import Origin

PATIENCE_S = 10.0
"""What ending may take at most; it takes milliseconds, but this machine may be busy elsewhere."""
_PAUSE_S = 0.1


def leftovers(root: Path) -> list[str]:
    """Return the locks that are held, the room that is reserved and the threads that live on. No cache is open."""
    layout = Layout(root)
    found = []
    for path in sorted(layout.locks.iterdir()):
        if path.name.startswith("room-"):
            if is_alive(layout, path.name.removeprefix("room-")):
                found.append(f"{path.name} is reserved")
        elif path.name.startswith("uri-"):
            found.append(f"{path.name} is left")
        elif (lock := locks.try_lock(path)) is None:
            found.append(f"{path.name} is held")
        else:
            lock.release()
    return found + [thread.name for thread in threading.enumerate() if thread.name.startswith("modelcask")]


def claimed(root: Path) -> RangeSet:
    """Return which bytes of the one unfinished file are claimed."""
    claims = [claim for path in Layout(root).partials.glob("*/journal") for claim in journal.read(path)]
    return RangeSet(ByteRange(claim.offset, claim.end) for claim in claims)


def outcomes(root: Path) -> list[Outcome | None]:
    """Return how the attempts ended, the newest first; None for those that are open."""
    with ModelCache(root) as cache:
        return [attempt.outcome for attempt in cache.list_attempts()]


def goes_on(root: Path, origin: Origin, path: str, content: bytes) -> None:
    """Assert that the next pull ends right, asks for nothing that is claimed, and leaves nothing."""
    held, seen = claimed(root), len(origin.requests)
    with ModelCache(root) as cache:
        [snapshot] = cache.pull(origin.add(path, content))
        assert snapshot.path.read_bytes() == content
    asked = [request.asked for request in origin.requests[seen:] if request.method == "GET"]
    assert overlap(asked_for(asked, len(content)), held) == 0
    assert list((root / "partial").iterdir()) == []
    assert leftovers(root) == []


class Trial:
    """One pull that is cancelled, by its token or as a task, in ``run``; say before when."""

    def __init__(self, root: Path, *, as_task: bool) -> None:
        self.root = root
        self.result: Snapshot | None = None
        """What it came to, where the end came first."""
        self.took_s: float | None = None
        """From the cancelling to the end; None where that came first."""
        self._as_task = as_task
        self._began = threading.Event()
        self._thread: threading.Thread | None = None
        self._cancel: Callable[[], object] = _nothing
        self._cancelled_at = 0.0
        self._is_over = False
        self._late: list[str] = []

    def at_step(self, step: str) -> None:
        """Cancel just before the first step of this name, and let that one take a while."""

        def hook(name: str) -> None:
            if name == step and not self._cancelled_at:
                self.cancel()
                time.sleep(_PAUSE_S)
            if self._is_over:
                self._late.append(name)

        fs.on_step(hook)

    def when(self, come: Callable[[], bool]) -> None:
        """Cancel from a thread of its own as soon as something has come."""

        def wait() -> None:
            self._began.wait()
            end = time.monotonic() + 60
            while not come() and not self._is_over and time.monotonic() < end:
                time.sleep(0.001)
            self.cancel()

        self._thread = threading.Thread(target=wait)
        self._thread.start()

    def after(self, delay_s: float) -> None:
        """Cancel from a thread of its own after a time."""
        began = time.monotonic()
        self.when(lambda: time.monotonic() > began + delay_s)

    def cancel(self) -> None:
        """Cancel it now, from any thread."""
        if not self._is_over:
            self._cancelled_at = time.monotonic()
            self._cancel()

    async def run(
        self, url: str, *, progress: ProgressCallback | None = None, keep: bool = True, alone: bool = True
    ) -> None:
        """Pull, and assert what holds when that has ended, whenever it was cancelled."""
        token = CancelToken()
        loop = asyncio.get_running_loop()
        async with ModelCache(self.root) as cache:
            task = asyncio.ensure_future(cache.pull_async(url, cancel=token, progress=progress, keep_partial=keep))
            self._cancel = (lambda: loop.call_soon_threadsafe(task.cancel)) if self._as_task else token.cancel
            self._began.set()
            with contextlib.suppress(PullCancelledError, asyncio.CancelledError):
                [self.result] = await task
            ended_at = time.monotonic()
            self._is_over = True
        if self._thread is None:
            await asyncio.sleep(2 * _PAUSE_S)  # whoever still writes is about to
            fs.on_step(None)
        else:
            self._thread.join()
        if self.result is None:
            self.took_s = ended_at - self._cancelled_at
            assert self.took_s < PATIENCE_S
        assert self._late == [], "something was written when the pull was over"
        if alone:
            assert leftovers(self.root) == []
        if not keep:
            assert list((self.root / "partial").iterdir()) == []


def _nothing() -> None:
    """Be what cancels before there is anything to cancel."""
