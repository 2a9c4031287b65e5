"""Cancelled at each moment of a pull that can be told: it ends, leaves nothing behind, and the next pull goes on."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from behaviours import Behind, Drip, Gate, HoldAfter, Normal, never_answer
from cancelled import claimed_bytes, goes_on, leftovers, outcomes
from modelcask import locks
from modelcask.cancellation import CancelToken
from modelcask.catalog.rows import Outcome
from modelcask.errors import PullCancelledError
from modelcask.fetch import plan, work
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.store import fs, ingest, stream
from modelcask.types import Phase, Progress, Snapshot
from origin import Origin
from pull_jobs import SMALL_BLOCK_BYTES, SMALL_SEGMENT_BYTES

CONTENT = random.Random(1).randbytes(3 << 20)
_PATIENCE_S = 10.0
"""It takes milliseconds; a machine that is busy elsewhere may take more."""


@pytest.fixture(autouse=True)
def _small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", SMALL_BLOCK_BYTES)
    monkeypatch.setattr(ingest, "SEGMENT_BYTES", SMALL_SEGMENT_BYTES)
    monkeypatch.setattr(plan, "SPLIT_BYTES", 4 * SMALL_SEGMENT_BYTES)
    monkeypatch.setattr(plan, "SPAN_BYTES", (2 * SMALL_SEGMENT_BYTES, 8 * SMALL_SEGMENT_BYTES))
    monkeypatch.setattr(work, "ALIGNMENT_BYTES", SMALL_BLOCK_BYTES)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as started:
        yield started


@pytest.fixture
def root(new_root: Path, cask: Path) -> Path:
    shutil.copytree(new_root, cask)
    return cask


class Trial:
    """One pull that is cancelled, by its token or as a task."""

    def __init__(self, root: Path, *, as_task: bool) -> None:
        self.root = root
        self.result: Snapshot | None = None
        self._as_task = as_task
        self._began = threading.Event()
        self._cancel: Callable[[], None] = lambda: None
        self._cancelled_at = 0.0
        self._is_over = False
        self._late: list[str] = []

    def cancel(self) -> None:
        """Cancel it now, from any thread; only the first call counts."""
        if not self._cancelled_at:
            self._cancelled_at = time.monotonic()
            self._cancel()

    def watch(self, step: str | None = None) -> None:
        """Listen to the steps: cancel just before the first one of this name, and let that one take a while."""

        def hook(name: str) -> None:
            if name == step and not self._cancelled_at:
                self.cancel()
                time.sleep(0.1)
            if self._is_over:
                self._late.append(name)

        fs.on_step(hook)

    async def run(self, url: str, *, progress: Callable[[Progress], None] | None = None, keep: bool = True) -> None:
        """Pull until it is cancelled, and assert what holds then whenever that was."""
        token = CancelToken()
        loop = asyncio.get_running_loop()
        try:
            async with ModelCache(self.root) as cache:
                pull = cache.pull_async(url, cancel=token, progress=progress, keep_partial=keep)
                task = asyncio.ensure_future(pull)
                self._cancel = (lambda: loop.call_soon_threadsafe(task.cancel) and None) if self._as_task else token.cancel
                self._began.set()
                with contextlib.suppress(PullCancelledError, asyncio.CancelledError):
                    [self.result] = await task
                self._is_over = True
                took_s = time.monotonic() - self._cancelled_at
        finally:
            fs.on_step(None)
        assert self._cancelled_at, "the moment never came"
        assert took_s < _PATIENCE_S
        await asyncio.sleep(0.12)
        assert self._late == [], "something was written when the pull was over"
        assert leftovers(self.root) == []
        if not keep:
            assert list((self.root / "partial").iterdir()) == []

    def when(self, come: Callable[[], bool]) -> threading.Thread:
        """Cancel from a thread of its own as soon as something has come."""

        def wait() -> None:
            self._began.wait(60)
            end = time.monotonic() + 60
            while not come() and time.monotonic() < end:
                time.sleep(0.002)
            self.cancel()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


@pytest.fixture(params=[False, True], ids=["by its token", "as a task"])
def trial(request: pytest.FixtureRequest, root: Path) -> Trial:
    return Trial(root, as_task=request.param)


async def test_while_resolving(trial: Trial, origin: Origin) -> None:
    """The server does not answer: nothing was begun, so there is no attempt."""
    url = origin.add("/m", CONTENT, behaviours=[never_answer(), Normal()])
    thread = trial.when(lambda: bool(origin.requests))
    await trial.run(url)
    thread.join()
    assert outcomes(trial.root) == []
    await asyncio.to_thread(goes_on, trial.root, url, CONTENT)


async def test_while_connecting(trial: Trial) -> None:
    """Nobody takes the connection: the server's queue is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            crowd = stack.enter_context(socket.socket())
            crowd.setblocking(False)
            crowd.connect_ex(server.getsockname())
        told = threading.Event()
        thread = trial.when(told.is_set)
        await trial.run(f"http://127.0.0.1:{server.getsockname()[1]}/m", progress=lambda _: told.set())
        thread.join()
    assert outcomes(trial.root) == []


async def test_before_the_first_byte(trial: Trial, origin: Origin) -> None:
    """All connections wait for their headers."""
    url = origin.add("/m", CONTENT, behaviours=[Behind(0, never_answer())])
    thread = trial.when(lambda: sum(request.method == "GET" for request in origin.requests) >= 2)
    await trial.run(url)
    thread.join()
    assert outcomes(trial.root) == [Outcome.CANCELLED]
    origin.add("/m", CONTENT)
    await asyncio.to_thread(goes_on, trial.root, url, CONTENT)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not kept"])
async def test_while_several_connections_bring_bytes(trial: Trial, origin: Origin, keep: bool) -> None:
    """What has arrived stays, or goes if the caller wants it so."""
    url = origin.add("/m", CONTENT, behaviours=[Drip(8 << 10, 0.002)])
    thread = trial.when(lambda: claimed_bytes(trial.root) >= 4 * SMALL_SEGMENT_BYTES)
    await trial.run(url, keep=keep)
    thread.join()
    assert outcomes(trial.root) == [Outcome.CANCELLED]
    assert (claimed_bytes(trial.root) >= 4 * SMALL_SEGMENT_BYTES) is keep
    await asyncio.to_thread(goes_on, trial.root, url, CONTENT)


async def test_while_another_process_has_the_file(trial: Trial, origin: Origin) -> None:
    """Its lock stays as it is."""
    url = origin.add("/m", CONTENT, behaviours=[Drip(8 << 10, 0.002)])
    told = threading.Event()
    # The key is known once somebody has begun.
    first = threading.Event()
    held = await asyncio.to_thread(_cancel_soon, trial.root, url, first)
    lock = locks.try_lock(Layout(trial.root).key_lock(held))
    assert lock is not None

    def hear(event: Progress) -> None:
        if event.phase is Phase.WAITING:
            told.set()
            lock.release(remove=True)

    thread = trial.when(told.is_set)
    await trial.run(url, progress=hear)
    thread.join()
    assert outcomes(trial.root)[0] is Outcome.CANCELLED
    await asyncio.to_thread(goes_on, trial.root, url, CONTENT)


def _cancel_soon(root: Path, url: str, first: threading.Event) -> str:
    token = CancelToken()

    def hear(event: Progress) -> None:
        if event.phase is Phase.DOWNLOADING:
            token.cancel()

    with ModelCache(root) as cache, contextlib.suppress(PullCancelledError):
        cache.pull(url, cancel=token, progress=hear)
    return ""


STEPS = {
    "while its folder is made": "partial.mkdir",
    "while its space is reserved": "partial.data.preallocate",
    "while bytes are written": "partial.data.write",
    "while a segment is claimed": "partial.journal.write",
    "while it is sealed": "partial.data.fsync",
    "while it is published": "blob.link",
    "while its folder is synced": "blob.fsync-folder",
    "while its manifest is written": "manifest.rename",
    "while it is linked": "snapshot.symlink",
    "while its partial is removed": "partial.rmdir",
}


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not kept"])
@pytest.mark.parametrize("moment", STEPS)
async def test_at_a_step(trial: Trial, origin: Origin, moment: str, keep: bool) -> None:
    """What cannot be left halfway comes to its end first; a file that is published by then is done."""
    url = origin.add("/m", CONTENT)
    trial.watch(STEPS[moment])
    await trial.run(url, keep=keep)
    [outcome] = outcomes(trial.root)
    with ModelCache(trial.root) as cache:
        assert outcome is Outcome.CANCELLED or cache.lookup(url) is not None
    await asyncio.to_thread(goes_on, trial.root, url, CONTENT)
