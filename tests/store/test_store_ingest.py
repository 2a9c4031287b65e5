"""An ingest takes bytes in any chunking, keeps what has arrived, and seals only what was promised."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from ingests import KEY, check, failing, feed, identity, leave, opened, promise, take
from modelcask.errors import (
    CacheError,
    DigestMismatchError,
    SizeMismatchError,
    StorageError,
    StoreFullError,
)
from modelcask.layout import Layout
from modelcask.store import fs
from modelcask.store.ingest import SEGMENT_BYTES
from modelcask.store.journal import Identity
from modelcask.store.lanes import BLOCK_BYTES, BLOCKS_IN_FLIGHT
from modelcask.store.sealed import discard_partial
from zygote import Zygote

pytestmark = pytest.mark.usefixtures("_clean")

EDGES = [0, 1, 63, 64, 65, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025]


@pytest.mark.usefixtures("_small")
@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from(EDGES) | st.integers(0, 1500), cuts=st.lists(st.integers(0, 1500), max_size=60), data=st.data()
)
def test_any_chunking_gives_the_same_file(layout: Layout, size: int, cuts: list[int], data: st.DataObject) -> None:
    """Empty, byte by byte, across blocks and segments: bytes and every digest are those of the libraries."""
    content = random.Random(size).randbytes(size)
    algorithms = data.draw(st.lists(st.sampled_from(["blake3", "sha256", "md5", "git-sha1"]), unique=True))
    known = data.draw(st.booleans()) or "git-sha1" in algorithms
    of = identity(content, *algorithms, size=-1 if known else None)
    sealed, _ = asyncio.run(take(layout, content, of, cuts))
    check(sealed, content)
    assert set(of.digests) <= set(sealed.digests)
    discard_partial(sealed.path.parent)


@pytest.mark.usefixtures("_small")
def test_single_bytes_make_the_same_file(layout: Layout) -> None:
    """The smallest chunks there are."""
    content = random.Random(1).randbytes(1000)
    check(asyncio.run(take(layout, content, identity(content), range(1000)))[0], content)


@pytest.mark.parametrize("chunk", [BLOCK_BYTES - 1, BLOCK_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES])
async def test_chunks_of_real_size_make_the_same_file(layout: Layout, chunk: int) -> None:
    """Around the real block and segment."""
    content = random.Random(chunk).randbytes(2 * SEGMENT_BYTES + 12345)
    sealed, _ = await take(layout, content, identity(content, "sha256"), range(0, len(content), chunk))
    check(sealed, content)


async def test_a_restart_throws_the_bytes_away(layout: Layout) -> None:
    """And begins at zero in a new file, digests and journal included."""
    content = random.Random(6).randbytes(50_000)
    await leave(layout, b"wrong" * 5000, identity(content))
    async with opened(layout, identity(content)) as sink:
        await feed(sink, b"more wrong bytes" * 2000)
        await sink.restart()
        assert (sink.held.size_bytes, sink.resumed_bytes) == (0, 0)
        await feed(sink, content[:20_000])
    sealed, resumed = await take(layout, content, identity(content))
    assert resumed == 20_000
    check(sealed, content)


async def test_a_dropped_ingest_is_gone(layout: Layout) -> None:
    """Its bytes and the source do not belong together."""
    async with opened(layout, identity(b"x" * 100)) as sink:
        stream = sink.stream(0)
        await stream.write(b"x" * 50)
        await sink.drop()
    assert list(layout.partials.iterdir()) == []
    discard_partial(layout.partial(KEY))


async def test_a_file_that_is_shorter_than_what_was_written_is_not_sealed(layout: Layout) -> None:
    """Whoever cut it: what was hashed is not what is there."""
    async with opened(layout, identity(b"x" * 100)) as sink:
        await feed(sink, b"x" * 100)
        assert await sink.check() is None
        os.truncate(layout.partial(KEY) / "data", 50)
        with pytest.raises(StorageError):
            await sink.finish()


async def test_an_ingest_that_got_nothing_leaves_nothing(layout: Layout) -> None:
    """No empty folders of pulls that failed early."""
    await leave(layout, b"", identity(b"x" * 100))
    assert list(layout.partials.iterdir()) == []


WRONG: dict[str, tuple[Identity, type[CacheError]]] = {
    "sha256": (identity(b"other", "sha256"), DigestMismatchError),
    "blake3": (identity(b"other", "blake3"), DigestMismatchError),
    "md5": (identity(b"other", "md5"), DigestMismatchError),
    "git-sha1": (identity(b"other", "git-sha1"), DigestMismatchError),
    "one of two": (
        Identity("s", "r", "m", 5, None, promise(b"right", "sha256") + promise(b"other", "md5")),
        DigestMismatchError,
    ),
    "too long": (identity(b"righ", size=4), SizeMismatchError),
    "too short": (identity(b"right!", size=6), SizeMismatchError),
    "git-sha1 of unknown size": (identity(b"right", "git-sha1", size=None), StorageError),
}


@pytest.mark.parametrize(("of", "error"), WRONG.values(), ids=WRONG.keys())
async def test_what_was_not_promised_is_neither_sealed_nor_kept(
    layout: Layout, of: Identity, error: type[CacheError]
) -> None:
    """A wrong digest of any kind, or a wrong size: the bytes are gone, so the next attempt begins clean."""
    with pytest.raises(error):
        await take(layout, b"right", of)
    assert list(layout.partials.iterdir()) == []


async def test_a_mismatch_says_both_digests(layout: Layout) -> None:
    """The one that was promised and the one of the bytes."""
    [promised] = promise(b"other", "sha256")
    [actual] = promise(b"right", "sha256")
    with pytest.raises(DigestMismatchError) as caught:
        await take(layout, b"right", Identity("s", "r", "m", 5, None, (promised,)))
    assert (caught.value.expected, caught.value.actual) == (str(promised), str(actual))


async def test_an_empty_file_is_a_file(layout: Layout) -> None:
    """Of known and of unknown size."""
    for size in (0, None):
        sealed, _ = await take(layout, b"", identity(b"", "sha256", size=size))
        check(sealed, b"")
        discard_partial(sealed.path.parent)


async def test_a_sealed_file_is_a_durable_one(layout: Layout) -> None:
    """It becomes read-only after its bytes are synced: after a power cut, who finds it so can rely on it."""
    steps: list[str] = []
    fs.on_step(steps.append)
    await take(layout, b"x" * 100, identity(b"x" * 100))
    assert steps.index("partial.data.fsync") < steps.index("partial.data.chmod")
    assert steps[-1] == "partial.data.chmod"


@pytest.mark.usefixtures("_small")
async def test_a_segment_is_claimed_when_it_is_written(layout: Layout) -> None:
    """A kill loses none that is complete; for a power cut, checkpoints sync the data and then the journal."""
    steps: list[str] = []
    fs.on_step(steps.append)
    content = bytes(4096)
    await take(layout, content, identity(content), range(0, 4096, 100))
    claims = [at for at, step in enumerate(steps) if step == "partial.journal.write"]
    assert len(claims) == 4096 // 256
    for number, at in enumerate(claims, 1):
        assert steps[:at].count("partial.data.write") >= number * 4
    syncs = [step for step in steps if step.endswith(".fdatasync")]
    assert len(syncs) > 3
    assert syncs[:-1] == ["partial.data.fdatasync", "partial.journal.fdatasync"] * (len(syncs) // 2)
    assert steps.index("partial.data.fdatasync") > claims[0]
    assert steps[-3:] == ["partial.journal.fdatasync", "partial.data.fsync", "partial.data.chmod"]


@pytest.mark.usefixtures("_small")
async def test_what_comes_slowly_is_claimed_block_by_block(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow line a kill must not cost minutes: no segment stays open for long."""
    monkeypatch.setattr("modelcask.store.ingest.SLOW_S", 0.0)
    steps: list[str] = []
    fs.on_step(steps.append)
    content = bytes(4096)
    await take(layout, content, identity(content), range(0, 4096, 64))
    assert steps.count("partial.journal.write") == 4096 // 64


async def test_a_small_file_that_comes_at_once_needs_no_journal(layout: Layout) -> None:
    """Most files of a repository are such: one file is made for each, and two syncs."""
    steps: list[str] = []
    fs.on_step(steps.append)
    content = bytes(BLOCK_BYTES + 1)
    await take(layout, content, identity(content))
    assert [step for step in steps if "sync" in step] == ["partial.data.fsync"]
    assert [path.name for path in layout.partial(KEY).iterdir()] == ["data"]


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("step", ["partial.data.fdatasync", "partial.data.fsync"])
async def test_after_a_sync_that_failed_no_byte_is_believed(layout: Layout, step: str) -> None:
    """The kernel may show pages that never reached the disk, and the next sync would succeed without them."""
    content = random.Random(8).randbytes(2000)
    fs.on_step(failing(step, 5))
    with pytest.raises(StorageError):
        await take(layout, content, identity(content), range(0, 2000, 50))
    assert list(layout.partials.iterdir()) == []


async def test_a_sync_that_failed_while_leaving_keeps_nothing(layout: Layout) -> None:
    """The same at the end of a cancelled pull."""
    fs.on_step(failing("partial.data.fdatasync", 5))
    await leave(layout, b"x" * 100, identity(b"x" * 200))
    assert list(layout.partials.iterdir()) == []


def record_steps(layout: Layout, content: bytes) -> list[str]:
    steps: list[str] = []
    fs.on_step(steps.append)
    asyncio.run(leave(layout, content[:900], identity(content), cuts=range(0, 900, 50)))
    asyncio.run(take(layout, content, identity(content), range(0, len(content), 50)))
    fs.on_step(None)
    discard_partial(layout.partial(KEY))
    return sorted(set(steps))


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("error", [5, 28, 122, 30, 1], ids=["EIO", "ENOSPC", "EDQUOT", "EROFS", "EPERM"])
def test_an_error_at_any_step_is_typed_and_the_next_attempt_succeeds(layout: Layout, error: int) -> None:
    """Each step of an ingest that is left and taken up again fails once, with each kind of error."""
    content = random.Random(9).randbytes(2000)
    steps = record_steps(layout, content)
    assert len(steps) > 8
    for step in steps:
        fs.on_step(failing(step, error))
        for attempt in (leave(layout, content[:900], identity(content)), take(layout, content, identity(content))):
            with contextlib.suppress(StoreFullError if error in {28, 122} else StorageError):
                asyncio.run(attempt)
        fs.on_step(None)
        sealed, _ = asyncio.run(take(layout, content, identity(content)))
        check(sealed, content)
        discard_partial(layout.partial(KEY))


async def test_two_that_both_hold_the_key_do_not_spoil_each_other(layout: Layout) -> None:
    """As where locks lie: what the first has checked is not what lies under its path, and it can tell."""
    content = random.Random(11).randbytes(5000)
    of = identity(content, etag=None, size=-1)
    async with opened(layout, of) as first:
        await feed(first, content)
        async with opened(layout, of) as second:
            await feed(second, content[:100])
            sealed = await first.finish()
            assert sealed.digest.hex == blake3(content).hexdigest()
            assert sealed.path.stat().st_ino != sealed.inode


LONG = [
    pytest.param(1 << 16, 256 << 20, marks=pytest.mark.long),
    pytest.param(1 << 20, 96 << 20),
    pytest.param(128, 4 << 20),
    pytest.param(1, 1 << 20),
]


@pytest.mark.parametrize(("chunk", "total"), LONG)
def test_memory_is_bounded_whatever_the_chunks(zygote: Zygote, layout: Layout, chunk: int, total: int) -> None:
    """However much comes, and in however small pieces: the blocks in flight and a few more."""
    of = Identity("https://host/m", "r1", "m", total, None, ())
    grown, digest = zygote.run("store_jobs:peak_bytes", layout.root, KEY, of, chunk, total)
    assert grown < (BLOCKS_IN_FLIGHT + 16) * BLOCK_BYTES
    expected = blake3()
    piece = (bytes(range(256)) * (chunk // 256) or b"x" * chunk) * max((1 << 20) // chunk, 1)
    for _ in range(total // len(piece)):
        expected.update(piece)
    assert digest == expected.hexdigest()
