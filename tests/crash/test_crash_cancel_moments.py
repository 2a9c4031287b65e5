"""Cancelled at each moment of a pull that can be told: it ends, leaves nothing behind, and the next pull goes on."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from pathlib import Path

import pytest

from behaviours import Drip, StallAfter, never_answer
from cancelled import Trial, claimed, goes_on, outcomes
from modelcask import locks
from modelcask.catalog.rows import Outcome
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.types import Phase
from origin import Origin
from pull_jobs import SMALL, SMALL_SEGMENT_BYTES
from reply import BEFORE_HEAD, Reply
from zygote import Zygote, ended

CONTENT = random.Random(1).randbytes(3 << 20)


class NoBody(StallAfter):
    """Answer a HEAD, and nothing to a GET."""

    def answer(self, reply: Reply) -> None:
        if reply.request.method == "GET":
            super().answer(reply)


@pytest.fixture(autouse=True)
def _small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in SMALL:
        monkeypatch.setattr(module, name, value)


@pytest.fixture(params=[False, True], ids=["by its token", "as a task"])
def trial(request: pytest.FixtureRequest, root: Path) -> Trial:
    return Trial(root, as_task=request.param)


async def test_while_resolving(trial: Trial, origin: Origin) -> None:
    """The server does not answer: no file was begun, and the log tells of it all the same."""
    url = origin.add("/m", CONTENT, behaviours=[never_answer()])
    trial.when(lambda: bool(origin.requests))
    await trial.run(url)
    assert outcomes(trial.root) == [Outcome.CANCELLED]
    await asyncio.to_thread(goes_on, trial.root, origin, "/m", CONTENT)


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
        trial.when(told.is_set)
        await trial.run(f"http://127.0.0.1:{server.getsockname()[1]}/m", progress=lambda _: told.set())
        assert outcomes(trial.root) == [Outcome.CANCELLED]


async def test_before_the_first_byte(trial: Trial, origin: Origin) -> None:
    """All connections wait for their headers."""
    url = origin.add("/m", CONTENT, behaviours=[NoBody(BEFORE_HEAD)])
    trial.when(lambda: sum(request.method == "GET" for request in origin.requests) >= 2)
    await trial.run(url)
    assert outcomes(trial.root) == [Outcome.CANCELLED]
    await asyncio.to_thread(goes_on, trial.root, origin, "/m", CONTENT)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not kept"])
async def test_while_several_connections_bring_bytes(trial: Trial, origin: Origin, keep: bool) -> None:
    """What has arrived stays, or goes if the caller wants it so."""
    url = origin.add("/m", CONTENT, behaviours=[Drip(8 << 10, 0.002)])
    trial.when(lambda: claimed(trial.root).size_bytes >= 4 * SMALL_SEGMENT_BYTES)
    await trial.run(url, keep=keep)
    assert outcomes(trial.root) == [Outcome.CANCELLED]
    assert (claimed(trial.root).size_bytes >= 4 * SMALL_SEGMENT_BYTES) is keep
    await asyncio.to_thread(goes_on, trial.root, origin, "/m", CONTENT)


async def test_while_another_process_has_the_file(trial: Trial, origin: Origin, zygote: Zygote) -> None:
    """Its lock stays, and so does the attempt of that one."""
    url = origin.add("/m", CONTENT, behaviours=[Drip(8 << 10, 0.02)])
    other = zygote.start("pull_jobs:pull", trial.root, url, True)
    with ended(other):
        while not claimed(trial.root):
            assert zygote.ask("ended", other.pid) is None
            await asyncio.sleep(0.002)
        waits = threading.Event()
        trial.when(waits.is_set)
        await trial.run(url, progress=lambda event: waits.set() if event.phase is Phase.WAITING else None, alone=False)
        assert outcomes(trial.root) == [Outcome.CANCELLED, None]
        [path] = Layout(trial.root).locks.glob("uri-*")
        assert locks.try_lock(path) is None
    await asyncio.to_thread(goes_on, trial.root, origin, "/m", CONTENT)


async def test_as_soon_as_its_last_file_is_published(trial: Trial, origin: Origin) -> None:
    """The attempt is done by then, so the revision is recorded although nobody waits for it."""
    url = origin.add("/m", CONTENT)
    await trial.run(url, progress=lambda event: trial.cancel() if event.phase is Phase.DONE else None)
    assert trial.result is None
    assert outcomes(trial.root) == [Outcome.DONE]
    with ModelCache(trial.root) as cache:
        assert cache.lookup(url) is not None
    await asyncio.to_thread(goes_on, trial.root, origin, "/m", CONTENT)


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


@pytest.mark.parametrize("moment", STEPS)
@pytest.mark.parametrize(("as_task", "keep"), [(False, True), (True, False)], ids=["a token, kept", "a task, not kept"])
async def test_at_a_step(root: Path, origin: Origin, moment: str, as_task: bool, keep: bool) -> None:
    """What cannot be left halfway comes to its end first; a file that is recorded by then is done."""
    trial = Trial(root, as_task=as_task)
    url = origin.add("/m", CONTENT)
    trial.at_step(STEPS[moment])
    await trial.run(url, keep=keep)
    assert trial.took_s is not None
    [outcome] = outcomes(root)
    with ModelCache(root) as cache:
        assert outcome is Outcome.CANCELLED or (outcome is Outcome.DONE and cache.lookup(url) is not None)
    await asyncio.to_thread(goes_on, root, origin, "/m", CONTENT)
