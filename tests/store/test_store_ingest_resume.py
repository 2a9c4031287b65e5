"""What an earlier attempt has left is taken up as far as it is right, and not a byte further."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingests import KEY, check, damage, failing, feed, identity, leave, opened, promise, spans, take
from modelcask.layout import Layout
from modelcask.store import fs
from modelcask.store.ingest import SEGMENT_BYTES
from modelcask.store.journal import Identity
from modelcask.store.lanes import BLOCK_BYTES
from modelcask.store.sealed import discard_partial
from zygote import Zygote, ended

pytestmark = pytest.mark.usefixtures("_clean")


@pytest.mark.usefixtures("_small")
@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 1500), stops=st.lists(st.integers(0, 1500), max_size=4), promised=st.booleans())
def test_whatever_had_arrived_is_there_when_it_is_taken_up_again(
    layout: Layout, size: int, stops: list[int], promised: bool
) -> None:
    """Left at any byte, any number of times: not one of them is asked for again, and the digests are right."""
    content = random.Random(size).randbytes(size)
    of = identity(content, "sha256", etag=None) if promised else identity(content)

    async def run() -> None:
        furthest = 0
        for stop in stops:
            async with opened(layout, of) as sink:
                assert sink.held == spans((0, furthest))
                await feed(sink, content[:stop], cuts=[stop // 2])
                furthest = max(furthest, min(stop, size))
        sealed, resumed = await take(layout, content, of)
        assert resumed == furthest
        check(sealed, content)

    asyncio.run(run())
    discard_partial(layout.partial(KEY))


async def test_what_is_kept_may_come_from_elsewhere_if_the_digest_is_the_same(layout: Layout) -> None:
    """Another source that promises the same SHA-256 goes on where the first one stopped."""
    content = random.Random(2).randbytes(100_000)
    await leave(layout, content[:60_000], identity(content, "sha256"))
    other = Identity("hf://models/o/r", "c1", "x", len(content), None, promise(content, "sha256"))
    sealed, resumed = await take(layout, content, other)
    assert resumed == 60_000
    check(sealed, content)


def test_a_killed_process_loses_no_claimed_byte(zygote: Zygote, layout: Layout) -> None:
    """Killed after three segments and a bit, before any sync: the segments are there, and only the rest comes again."""
    content = random.Random(3).randbytes(3 * SEGMENT_BYTES + 100_000)
    of = identity(content, "sha256")
    child = zygote.start("store_jobs:ingest_until_killed", layout.root, KEY, of, content)
    with ended(child):
        assert "partial.data.fdatasync" not in child.hears("written")
        child.kill()
        child.wait()
    sealed, resumed = asyncio.run(take(layout, content, of))
    assert resumed == 3 * SEGMENT_BYTES
    check(sealed, content)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("at", [0, 255, 256, 600, 767, 768, 999])
async def test_a_byte_that_changed_on_disk_costs_its_segment(layout: Layout, at: int) -> None:
    """What is before and behind it stays; afterwards the whole is kept again."""
    content = random.Random(4).randbytes(1500)
    await leave(layout, content[:1000], identity(content))
    damage(layout.partial(KEY) / "data", at)
    async with opened(layout, identity(content)) as sink:
        start = at // 256 * 256
        assert sink.held.gaps(1000) == spans((start, min(start + 256, 1000)))
        await feed(sink, content[:1200], cuts=[at + 1])
    sealed, resumed = await take(layout, content, identity(content))
    assert resumed == 1200
    check(sealed, content)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("size", [0, 100, 256, 300])
async def test_a_file_that_was_cut_on_disk_is_taken_up_where_it_is_whole(layout: Layout, size: int) -> None:
    """Claims beyond its end are not believed."""
    content = random.Random(5).randbytes(1500)
    await leave(layout, content[:1000], identity(content))
    os.truncate(layout.partial(KEY) / "data", size)
    sealed, resumed = await take(layout, content, identity(content))
    assert resumed == size // 256 * 256
    check(sealed, content)


@pytest.mark.parametrize("gone", ["data", "meta", "journal"])
async def test_without_one_of_its_files_an_ingest_begins_again(layout: Layout, gone: str) -> None:
    """Whichever is lost, nothing is believed without it."""
    content = b"x" * 1000
    await leave(layout, content[:500], identity(content))
    (layout.partial(KEY) / gone).unlink()
    sealed, resumed = await take(layout, content, identity(content))
    assert resumed == 0
    check(sealed, content)


async def test_another_file_starts_over_in_a_new_inode(layout: Layout) -> None:
    """The old one is not truncated: where locks lie, somebody may still be writing to it."""
    await leave(layout, b"old" * 100, identity(b"old" * 200))
    path = layout.partial(KEY) / "data"
    with path.open("rb") as old:
        changed = identity(b"new" * 200, etag='"e2"')
        async with opened(layout, changed) as sink:
            assert not sink.held
            assert path.stat().st_ino != os.fstat(old.fileno()).st_ino
            assert old.read(300) == b"old" * 100
            await feed(sink, b"new" * 200)
            check(await sink.finish(), b"new" * 200)


@pytest.mark.parametrize("of", [identity(b"", etag=None), identity(b"x" * 50, "md5", "git-sha1", etag=None)])
async def test_what_nobody_could_take_up_again_is_not_kept(layout: Layout, of: Identity) -> None:
    """Without a validator or a strong digest, equal identity does not mean equal bytes."""
    await leave(layout, b"x" * 20, of)
    assert list(layout.partials.iterdir()) == []


@pytest.mark.usefixtures("_small")
async def test_claims_beyond_a_size_that_is_known_now_are_not_believed(layout: Layout) -> None:
    """The digest is the same, the size was not known before: what does not fit is not joined, and is cut off."""
    content = b"x" * 1000
    of = identity(content[:600], "sha256", size=None)
    await leave(layout, content, of)
    async with opened(layout, identity(content[:600], "sha256")) as sink:
        assert sink.held == spans((0, 512))
        await feed(sink, content[:600])
        check(await sink.finish(), content[:600])


async def test_what_cannot_be_claimed_in_leaving_costs_only_time(layout: Layout) -> None:
    """The transfer's own error is on its way up: a journal that cannot be written is no second one."""
    content = random.Random(13).randbytes(1000)
    fs.on_step(failing("partial.journal.write", 28))
    await leave(layout, content[:500], identity(content))
    sealed, resumed = await take(layout, content, identity(content))
    assert resumed == 0
    check(sealed, content)


async def test_a_sealed_file_whose_process_died_is_proved_and_not_fetched(layout: Layout) -> None:
    """It is complete and durable: hashing it again is all that it lacks. Nobody opens it for writing."""
    content = random.Random(7).randbytes(3 * BLOCK_BYTES)
    for of in (identity(content), identity(content, "sha256", etag=None)):
        await leave(layout, content[:BLOCK_BYTES], of)
        sealed, _ = await take(layout, content, of)
        async with opened(layout, of) as sink:
            assert sink.held == spans((0, len(content)))
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.pwrite(sink._partial._fd, b"!", 0)
            again = await sink.finish()
        assert again == sealed
        check(again, content)
        discard_partial(again.path.parent)


@pytest.mark.usefixtures("_small")
async def test_a_sealed_file_that_is_not_claimed_as_a_whole_is_fetched_again(layout: Layout) -> None:
    """Nobody may write to it any more, so it is taken up whole or not at all."""
    content = random.Random(15).randbytes(1000)
    await take(layout, content, identity(content))
    log = layout.partial(KEY) / "journal"
    os.truncate(log, log.stat().st_size - 1)
    again, resumed = await take(layout, content, identity(content))
    assert resumed == 0
    check(again, content)


async def test_what_a_killed_writer_left_aside_goes_with_the_partial(layout: Layout) -> None:
    """Temporary names of a process that died in the middle of a small file."""
    content = b"x" * 1000
    await leave(layout, content[:500], identity(content))
    (layout.partial(KEY) / ".meta.77-0000abcd").write_bytes(b"{")
    sealed, _ = await take(layout, content, identity(content))
    discard_partial(sealed.path.parent)
    assert list(layout.partials.iterdir()) == []


async def test_a_link_in_the_way_is_not_written_through(layout: Layout, tmp_path: Path) -> None:
    """It is removed, what it points to is left alone."""
    content = b"x" * 100
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    await leave(layout, content[:50], identity(content))
    data = layout.partial(KEY) / "data"
    data.unlink()
    data.symlink_to(victim)
    sealed, resumed = await take(layout, content, identity(content))
    assert resumed == 0
    check(sealed, content)
    assert victim.read_bytes() == b"precious"
