"""Several streams of one ingest, and several ingests of one lane: nothing is lost, mixed up or held for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingests import KEY, check, damage, failing, feed, identity, leave, opened, spans, take
from modelcask.errors import DigestMismatchError, StorageError, StoreFullError
from modelcask.layout import Layout
from modelcask.ranges import ByteRange
from modelcask.store import fs, journal
from modelcask.store.ingest import SEGMENT_BYTES, Ingest
from modelcask.store.lanes import BLOCKS_IN_FLIGHT, Lanes
from modelcask.store.sealed import discard_partial
from modelcask.types import Stream

BLOCK = 64

pytestmark = pytest.mark.usefixtures("_clean")


class Barrier:
    """Holds a thread at a step of the file system until it is let go."""

    def __init__(self, step: str, *, times: int = 1) -> None:
        self._step = step
        self._left = times
        self.reached = threading.Event()
        self._go_on = threading.Event()

    def __call__(self, name: str) -> None:
        if name == self._step and self._left:
            self._left -= 1
            self.reached.set()
            self._go_on.wait()

    def __enter__(self) -> Self:
        fs.on_step(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()
        fs.on_step(None)


async def settled(count: Callable[[], object]) -> None:
    """Return when the loop has nothing more to do that changes ``count``."""
    unchanged, last = 0, count()
    while unchanged < 50:
        await asyncio.sleep(0)
        unchanged, last = (unchanged + 1 if count() == last else 0), count()


async def write_all(stream: Stream, content: bytes, chunk: int = 50) -> None:
    for start in range(0, len(content), chunk):
        await stream.write(content[start : start + chunk])
    stream.close()


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    made = Lanes()
    yield made
    made.close()


@pytest.mark.usefixtures("_small")
async def test_a_slow_disk_makes_writers_wait(layout: Layout) -> None:
    """However many streams there are: a bounded number of blocks is in memory, and one open one for each stream."""
    content = random.Random(1).randbytes(8 * 100 * BLOCK)
    with Barrier("partial.data.write") as disk:
        async with opened(layout, identity(content, "sha256")) as sink:
            parts = [(start, content[start : start + 100 * BLOCK]) for start in range(0, len(content), 100 * BLOCK)]
            writing = [asyncio.ensure_future(write_all(sink.stream(start), part)) for start, part in parts]
            await settled(lambda: sink.held.size_bytes)
            assert not any(task.done() for task in writing)
            taken = sink.held.size_bytes // BLOCK
            assert BLOCKS_IN_FLIGHT <= taken <= BLOCKS_IN_FLIGHT + len(parts)
            disk.__exit__()
            await asyncio.gather(*writing)
            check(await sink.finish(), content)
            await settled(lambda: sink.lanes.room._value)
            assert sink.lanes.room._value == BLOCKS_IN_FLIGHT


@pytest.mark.usefixtures("_small")
async def test_one_that_is_stuck_holds_up_nobody_for_ever(layout: Layout, lanes: Lanes) -> None:
    """Five ingests share the lanes: while one is stuck the room fills; once it goes on all come to an end."""
    content = random.Random(2).randbytes(100 * BLOCK + 7)
    of = identity(content, "sha256")
    async with contextlib.AsyncExitStack() as stack:
        sinks = [
            await stack.enter_async_context(Ingest(layout, f"{KEY}{number}", of, name="m", lanes=lanes))
            for number in range(5)
        ]
        with Barrier("partial.data.write") as disk:
            writing = [asyncio.ensure_future(write_all(sink.stream(0), content)) for sink in sinks]
            await asyncio.to_thread(disk.reached.wait)
            await settled(lambda: [sink.held.size_bytes for sink in sinks])
            assert not writing[0].done()
        await asyncio.gather(*writing)
        for sink in sinks:
            check(await sink.finish(), content)
    for number in range(5):
        discard_partial(layout.partial(f"{KEY}{number}"))


@pytest.mark.usefixtures("_small")
async def test_one_that_checks_what_it_kept_holds_up_nobody(layout: Layout, lanes: Lanes) -> None:
    """Reading a hundred gigabytes may take minutes; all others are opened, written, sealed and left meanwhile."""
    content = random.Random(3).randbytes(10 * BLOCK)
    of = identity(content, "sha256")
    await leave(layout, content[:600], of)
    reading, go_on = threading.Event(), threading.Event()
    slow = Ingest(layout, KEY, of, name="m", lanes=lanes)
    true = slow._partial._is_true

    def hold(claim: journal.Segment) -> bool:
        reading.set()
        go_on.wait()
        return true(claim)

    slow._partial._is_true = hold  # type: ignore[method-assign] # stands for a slow disk
    opening = asyncio.ensure_future(slow.__aenter__())
    await asyncio.to_thread(reading.wait)
    for number in range(4):
        async with Ingest(layout, f"{KEY}{number}", of, name="m", lanes=lanes) as sink:
            await feed(sink, content)
            check(await sink.finish(), content)
        discard_partial(layout.partial(f"{KEY}{number}"))
    opening.cancel()
    await settled(opening.done)
    assert not opening.done()  # it uses the descriptor
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert (await take(layout, content, of))[1] == 600


@pytest.mark.usefixtures("_small")
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_a_write_that_is_cancelled_has_taken_what_it_says(layout: Layout, seed: int) -> None:
    """At any await, any number of times, with hardly any room: ``position`` tells where to go on."""
    chance = random.Random(seed)
    content = chance.randbytes(1500)

    async def run() -> None:
        async with opened(layout, identity(content, "sha256")) as sink:
            sink.lanes.room = asyncio.Semaphore(1)
            for start, end in ((700, 1500), (0, 700)):
                stream = sink.stream(start)
                while stream.position < end:
                    size = chance.randint(1, 300)
                    before = stream.position
                    writing = asyncio.ensure_future(stream.write(content[before : min(before + size, end)]))
                    for _ in range(chance.randint(0, 4)):
                        await asyncio.sleep(0)
                    if chance.random() < 0.7:
                        writing.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await writing
                    assert before <= stream.position <= min(before + size, end)
                    assert sink.held.end_of_run(start) >= stream.position
                stream.close()
            check(await sink.finish(), content)
            longest = max(claim.length for claim in journal.read(layout.partial(KEY) / "journal"))
            assert longest <= 256

    asyncio.run(run())
    discard_partial(layout.partial(KEY))


@pytest.mark.usefixtures("_small")
async def test_the_odd_tails_of_several_streams_are_kept(layout: Layout) -> None:
    """Left while all are open: each byte that was taken is there next time, wherever it is."""
    content = random.Random(4).randbytes(3000)
    runs = [(0, 301), (500, 777), (1000, 1001), (1024, 2000), (2900, 3000)]
    async with opened(layout, identity(content)) as sink:
        for start, end in runs:
            await sink.stream(start).write(content[start:end])
    async with opened(layout, identity(content)) as sink:
        assert sink.held == spans(*runs)
        await feed(sink, content)
        check(await sink.finish(), content)


@pytest.mark.usefixtures("_small")
async def test_a_stream_that_is_closed_is_claimed(layout: Layout) -> None:
    """Killed afterwards, not even its odd tail comes again; what is still open loses its unfinished segment."""
    content = random.Random(5).randbytes(3000)
    async with opened(layout, identity(content)) as sink:
        await sink.stream(2000).write(content[2000:2400])
        await write_all(sink.stream(0), content[:600])
        await write_all(sink.stream(1000), content[1000:1010])
        await sink.digest_of(ByteRange(0, 1))
        found = journal.read(layout.partial(KEY) / "journal")
    assert {(claim.offset, claim.end) for claim in found} == {
        *((0, 256), (256, 512), (512, 600), (1000, 1010), (2000, 2048), (2048, 2304))
    }


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("after", [0, 1, 3, 8, 20, 33])
async def test_a_full_disk_in_the_middle_keeps_what_was_claimed(layout: Layout, after: int) -> None:
    """Whichever write of whichever stream it is: the error is raised, and the next attempt has all claims."""
    content = random.Random(6).randbytes(3000)
    async with opened(layout, identity(content)) as sink:
        fs.on_step(failing("partial.data.write", 28, after=after))
        streams = [sink.stream(start) for start in (0, 1000, 2000)]
        with contextlib.suppress(StoreFullError):
            for at in range(0, 1000, 100):
                for stream in streams:
                    await stream.write(content[stream.position : stream.position + 100])
                    assert stream.position % 1000 in {at + 100, 0}
        with pytest.raises(StoreFullError):
            await sink.check()
        found = journal.read(layout.partial(KEY) / "journal")
    async with opened(layout, identity(content)) as sink:
        for claim in found:
            assert sink.held.end_of_run(claim.offset) >= claim.end
        for one in sink.held:
            assert os.pread(sink._partial._fd, one.size_bytes, one.start) == content[one.start : one.end]
        await feed(sink, content)
        check(await sink.finish(), content)


@pytest.mark.usefixtures("_small")
async def test_on_a_full_disk_the_last_claim_makes_room_for_the_others(layout: Layout) -> None:
    """The journal did not fit: the end of the file is cut off for it, and what is before it is kept."""
    content = random.Random(11).randbytes(1000)
    async with opened(layout, identity(content)) as sink:
        for start, end in ((0, 100), (200, 210), (520, 600)):
            await write_all(sink.stream(start), content[start:end])
        fs.on_step(failing("partial.journal.write", 28))
    assert (layout.partial(KEY) / "data").stat().st_size == 210
    async with opened(layout, identity(content)) as sink:
        assert sink.held == spans((0, 100), (200, 210))
        await feed(sink, content)
        check(await sink.finish(), content)


@pytest.mark.usefixtures("_small")
async def test_what_fails_in_one_stream_ends_that_stream_only(layout: Layout) -> None:
    """Nothing that follows a hole is claimed; what others bring is written and claimed as before."""
    content = random.Random(7).randbytes(2000)
    async with opened(layout, identity(content)) as sink:
        fs.on_step(failing("partial.data.write", 5))
        first, second = sink.stream(0), sink.stream(1000)
        await first.write(content[:BLOCK])
        with pytest.raises(StorageError):
            await sink.digest_of(ByteRange(0, 1))
        with pytest.raises(StorageError):
            await first.write(content[BLOCK:1000])
        await second.write(content[1000:2000])
    async with opened(layout, identity(content)) as sink:
        assert sink.held == spans((1000, 2000))


async def held_in_step(layout: Layout, content: bytes, step: str, act: Callable[[Ingest], Awaitable[Any]]) -> None:
    """Cancel ``act`` twice while it is held in a step, and leave the ingest."""
    lanes = Lanes()
    async with Ingest(layout, KEY, identity(content), name="m", lanes=lanes) as sink:
        await feed(sink, content)
        with Barrier(step) as disk:
            acting = asyncio.ensure_future(act(sink))
            await asyncio.to_thread(disk.reached.wait)
            for _ in range(2):
                acting.cancel()
                await settled(acting.done)
                assert not acting.done()
            disk.__exit__()
            with pytest.raises(asyncio.CancelledError):
                await acting
    lanes.close()


@pytest.mark.parametrize("step", ["partial.data.fsync", "partial.data.chmod"])
@pytest.mark.parametrize("size", [0, 1000, SEGMENT_BYTES + 1000], ids=["empty", "short", "long"])
async def test_a_seal_that_is_cancelled_ends_and_is_taken_up_as_a_whole(layout: Layout, step: str, size: int) -> None:
    """However often it is cancelled: the next attempt finds a file that lacks nothing."""
    content = random.Random(8).randbytes(size)
    await held_in_step(layout, content, step, lambda sink: sink.finish())
    sealed, resumed = await take(layout, content, identity(content))
    assert resumed == size
    check(sealed, content)


async def test_a_seal_that_is_cancelled_can_still_be_dropped(layout: Layout) -> None:
    """As who wants no partial kept does."""
    content = b"x" * 1000

    async def finish(sink: Ingest) -> None:
        try:
            await sink.finish()
        except asyncio.CancelledError:
            await sink.drop()
            raise

    await held_in_step(layout, content, "partial.data.fsync", finish)
    assert list(layout.partials.iterdir()) == []


async def test_a_restart_that_is_cancelled_has_happened(layout: Layout) -> None:
    """The descriptor is never closed under a thread that uses it."""
    await held_in_step(layout, b"x" * 1000, "partial.data.create", lambda sink: sink.restart())
    assert list(layout.partials.iterdir()) == []


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("wrong", [(0, 256), (256, 1024), (300, 310), (100, 1000), (0, 2000)])
async def test_wrong_bytes_are_forgotten_and_fetched_again(layout: Layout, wrong: tuple[int, int]) -> None:
    """The file is right in the end, and so is the journal at each moment: what is right of a segment stays claimed."""
    content = random.Random(9).randbytes(2000)
    of = identity(content, "sha256")
    start, end = wrong
    async with opened(layout, of) as sink:
        await feed(sink, content[:start] + bytes(end - start) + content[end:])
        assert isinstance(await sink.check(), DigestMismatchError)
        before = await sink.digest_of(ByteRange(*wrong))
        await sink.forget([ByteRange(*wrong)])
        assert sink.held.gaps(2000) == spans(wrong)
        kept = layout.partial(KEY).with_name("killed")
        shutil.copytree(layout.partial(KEY), kept)
        await feed(sink, content)
        assert await sink.check() is None
        assert await sink.digest_of(ByteRange(*wrong)) != before
        check(await sink.finish(), content)
    sealed, resumed = await take(layout, content, of)
    assert resumed == 2000
    check(sealed, content)
    discard_partial(layout.partial(KEY))
    kept.rename(layout.partial(KEY))
    sealed, resumed = await take(layout, content, of)
    assert resumed == 2000 - (end - start)
    check(sealed, content)


@pytest.mark.usefixtures("_small")
async def test_a_digest_is_of_what_is_on_the_disk(layout: Layout) -> None:
    """Not of what was given: this is how a mirror is found out."""
    content = random.Random(10).randbytes(1000)
    async with opened(layout, identity(content)) as sink:
        await feed(sink, content)
        right = await sink.digest_of(ByteRange(100, 900))
        damage(layout.partial(KEY) / "data", 500)
        assert await sink.digest_of(ByteRange(100, 900)) != right
        assert await sink.digest_of(ByteRange(100, 500)) == await sink.digest_of(ByteRange(100, 500))
