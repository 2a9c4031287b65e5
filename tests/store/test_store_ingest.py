"""An ingest takes bytes in any chunking, keeps what has arrived, and seals only what was promised."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcask.digest import Digest, new_hash
from modelcask.errors import (
    AccessDeniedError,
    CacheError,
    DigestMismatchError,
    RemoteChangedError,
    SizeMismatchError,
    StorageError,
    StoreFullError,
)
from modelcask.layout import Layout
from modelcask.store import fs, ingest, system
from modelcask.store.ingest import BLOCK_BYTES, SEGMENT_BYTES, Ingest
from modelcask.store.journal import Identity
from modelcask.store.root import open_root
from modelcask.store.sealed import SealedFile, discard_partial
from zygote import Zygote, ended

KEY = "key"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    made, _ = open_root(tmp_path_factory.mktemp("ingest") / "cask")
    return made


@pytest.fixture(autouse=True)
def _clean(layout: Layout) -> Iterator[None]:
    yield
    fs.on_step(None)
    shutil.rmtree(layout.partial(KEY), ignore_errors=True)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks and segments so small that a kilobyte crosses many of them."""
    monkeypatch.setattr(ingest, "BLOCK_BYTES", 64)
    monkeypatch.setattr(ingest, "SEGMENT_BYTES", 256)
    monkeypatch.setattr(ingest, "_SMALL_BYTES", 16)
    monkeypatch.setattr(ingest, "CHECKPOINT_S", 0)


def promise(content: bytes, *algorithms: str) -> tuple[Digest, ...]:
    found = []
    for algorithm in algorithms:
        running = new_hash(algorithm, size=len(content))
        running.update(content)
        found.append(Digest(algorithm, running.hexdigest()))
    return tuple(found)


def identity(content: bytes, *algorithms: str, size: int | None = -1, etag: str | None = '"e1"') -> Identity:
    known = len(content) if size == -1 else size
    return Identity("https://host/m", "r1", "m", known, etag, promise(content, *algorithms))


async def feed(sink: Ingest, content: bytes, cuts: Sequence[int] = ()) -> None:
    """Write what the sink still lacks of ``content``, cut at the given places."""
    edges = sorted({sink.front, *(cut for cut in cuts if sink.front < cut < len(content)), len(content)})
    for start, end in itertools.pairwise(edges):
        await sink.write(content[start:end])


async def take(layout: Layout, content: bytes, of: Identity, cuts: Sequence[int] = ()) -> tuple[SealedFile, int]:
    """Ingest the whole content; return the sealed file and how much of it an earlier attempt had left."""
    async with Ingest(layout, KEY, of, name="m") as sink:
        resumed = sink.resumed_bytes
        assert sink.front == resumed
        await feed(sink, content, cuts)
        return await sink.finish(), resumed


async def leave(layout: Layout, content: bytes, of: Identity, *, cuts: Sequence[int] = ()) -> None:
    """Ingest only so much and leave, as a cancelled pull does."""
    async with Ingest(layout, KEY, of, name="m") as sink:
        await feed(sink, content, cuts)


def check(sealed: SealedFile, content: bytes) -> None:
    assert sealed.path.read_bytes() == content
    assert sealed.size_bytes == len(content)
    assert sealed.digest.hex == blake3(content).hexdigest()
    assert sealed.digests[0] == sealed.digest
    assert Digest("sha256", hashlib.sha256(content).hexdigest()) in sealed.digests
    assert sealed.path.stat().st_mode & 0o777 == 0o444
    assert sealed.path.stat().st_ino == sealed.inode


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
            async with Ingest(layout, KEY, of, name="m") as sink:
                assert sink.front == sink.resumed_bytes == furthest
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
    """Killed after three segments and a bit: the segments are there, checked, and only the rest is written again."""
    content = random.Random(3).randbytes(3 * SEGMENT_BYTES + 100_000)
    of = identity(content, "sha256")
    child = zygote.start("store_jobs:ingest_until_killed", layout.root, KEY, of, content)
    with ended(child):
        assert child.hears("written") == len(content)
        child.kill()
        child.wait()
    sealed, resumed = asyncio.run(take(layout, content, of))
    assert resumed == 3 * SEGMENT_BYTES
    check(sealed, content)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("at", [0, 255, 256, 600, 767, 768, 999])
async def test_a_byte_that_changed_on_disk_is_found_and_fetched_again(layout: Layout, at: int) -> None:
    """From the last good segment before it; afterwards the whole is kept again."""
    content = random.Random(4).randbytes(1500)
    await leave(layout, content[:1000], identity(content))
    data = layout.partial(KEY) / "data"
    damaged = bytearray(data.read_bytes())
    damaged[at] ^= 1
    data.write_bytes(damaged)
    async with Ingest(layout, KEY, identity(content), name="m") as sink:
        assert sink.front == at // 256 * 256
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
        async with Ingest(layout, KEY, changed, name="m") as sink:
            assert sink.front == 0
            assert path.stat().st_ino != os.fstat(old.fileno()).st_ino
            assert old.read(300) == b"old" * 100
            await feed(sink, b"new" * 200)
            check(await sink.finish(), b"new" * 200)


async def test_a_restart_throws_the_bytes_away(layout: Layout) -> None:
    """And begins at zero in a new file, digests and journal included."""
    content = random.Random(6).randbytes(50_000)
    await leave(layout, b"wrong" * 5000, identity(content))
    async with Ingest(layout, KEY, identity(content), name="m") as sink:
        await sink.write(b"more wrong bytes")
        await sink.restart()
        assert (sink.front, sink.resumed_bytes) == (0, 0)
        await feed(sink, content[:20_000])
    sealed, resumed = await take(layout, content, identity(content))
    assert resumed == 20_000
    check(sealed, content)


@pytest.mark.parametrize("of", [identity(b"", etag=None), identity(b"x" * 50, "md5", "git-sha1", etag=None)])
async def test_what_nobody_could_take_up_again_is_not_kept(layout: Layout, of: Identity) -> None:
    """Without a validator or a strong digest, equal identity does not mean equal bytes."""
    await leave(layout, b"x" * 20, of)
    assert list(layout.partials.iterdir()) == []


@pytest.mark.usefixtures("_small")
async def test_claims_beyond_a_size_that_is_known_now_are_not_believed(layout: Layout) -> None:
    """The digest is the same, the size was not known before: what does not fit is not joined."""
    content = b"x" * 1000
    await leave(layout, content, identity(content, "sha256", size=None))
    async with Ingest(layout, KEY, identity(content, "sha256", size=600), name="m") as sink:
        assert sink.front == 512


async def test_what_cannot_be_claimed_in_leaving_costs_only_time(layout: Layout) -> None:
    """The transfer's own error is on its way up: a journal that cannot be written is no second one."""
    content = random.Random(13).randbytes(1000)
    fs.on_step(failing("partial.journal.write", 28))
    await leave(layout, content[:500], identity(content))
    sealed, resumed = await take(layout, content, identity(content))
    assert resumed == 0
    check(sealed, content)


async def test_a_dropped_ingest_is_gone(layout: Layout) -> None:
    """Its bytes and the source do not belong together."""
    async with Ingest(layout, KEY, identity(b"x" * 100), name="m") as sink:
        await sink.write(b"x" * 50)
        await sink.drop()
    assert list(layout.partials.iterdir()) == []
    discard_partial(layout.partial(KEY))


async def test_a_file_that_is_shorter_than_what_was_written_is_not_sealed(layout: Layout) -> None:
    """Whoever cut it: what was hashed is not what is there."""
    async with Ingest(layout, KEY, identity(b"x" * 100), name="m") as sink:
        await sink.write(b"x" * 100)
        await sink._drain()
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


async def test_a_sealed_file_whose_process_died_is_proved_and_not_fetched(layout: Layout) -> None:
    """It is complete and durable: hashing it again is all that it lacks. Nobody opens it for writing."""
    content = random.Random(7).randbytes(3 * BLOCK_BYTES)
    for of in (identity(content), identity(content, "sha256", etag=None)):
        await leave(layout, content[:BLOCK_BYTES], of)
        sealed, _ = await take(layout, content, of)
        async with Ingest(layout, KEY, of, name="m") as sink:
            assert sink.front == sink.resumed_bytes == len(content)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.pwrite(sink._fd, b"!", 0)
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


async def test_a_sealed_file_is_a_durable_one(layout: Layout) -> None:
    """It becomes read-only after its bytes are synced: after a power cut, who finds it so can rely on it."""
    steps: list[str] = []
    fs.on_step(steps.append)
    await take(layout, b"x" * 100, identity(b"x" * 100))
    assert steps.index("partial.data.fsync") < steps.index("partial.data.chmod")
    assert steps[-1] == "partial.data.chmod"


@pytest.mark.usefixtures("_small")
async def test_no_segment_is_claimed_before_its_bytes_are_durable(layout: Layout) -> None:
    """For each checkpoint: sync of the data, then the record, then sync of the journal."""
    steps: list[str] = []
    fs.on_step(steps.append)
    content = bytes(4096)
    await take(layout, content, identity(content), range(0, 4096, 100))
    order = [
        step
        for step in steps
        if step in {"partial.data.fdatasync", "partial.journal.write", "partial.journal.fdatasync"}
    ]
    assert len(order) > 3
    assert order == ["partial.data.fdatasync", "partial.journal.write", "partial.journal.fdatasync"] * (len(order) // 3)


def failing(step: str, error: int) -> Callable[[str], None]:
    def hook(name: str) -> None:
        if name == step:
            fs.on_step(None)
            raise OSError(error, os.strerror(error))

    return hook


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


@pytest.mark.usefixtures("_small")
async def test_a_write_that_was_cancelled_has_still_happened(layout: Layout) -> None:
    """A caller that gives up waiting, here for a slow sync, and goes on finds every byte hashed once."""
    content = random.Random(10).randbytes(4000)
    syncing, go_on = threading.Event(), threading.Event()

    def hold(name: str) -> None:
        if name == "partial.data.fdatasync":
            syncing.set()
            go_on.wait()

    fs.on_step(hold)
    async with Ingest(layout, KEY, identity(content, "sha256"), name="m") as sink:
        try:
            given_up = 0
            while given_up < 3 and sink.front < len(content):
                writing = asyncio.ensure_future(sink.write(content[sink.front : sink.front + 64]))
                await asyncio.wait([writing], timeout=0.05 if syncing.is_set() else None)
                given_up += writing.cancel()
                await asyncio.wait([writing])
        finally:
            go_on.set()
        assert given_up == 3
        await feed(sink, content)
        check(await sink.finish(), content)


async def test_two_that_both_hold_the_key_do_not_spoil_each_other(layout: Layout) -> None:
    """As where locks lie: what the first has checked is not what lies under its path, and it can tell."""
    content = random.Random(11).randbytes(5000)
    of = identity(content, etag=None, size=-1)
    async with Ingest(layout, KEY, of, name="m") as first:
        await feed(first, content)
        async with Ingest(layout, KEY, of, name="m") as second:
            await feed(second, content[:100])
            sealed = await first.finish()
            assert sealed.digest.hex == blake3(content).hexdigest()
            assert sealed.path.stat().st_ino != sealed.inode


async def copy(layout: Layout, path: Path, of: Identity) -> tuple[SealedFile, bool]:
    async with Ingest(layout, KEY, of, name="m", reserve=False) as sink:
        shared = await sink.copy_from(path)
        return await sink.finish(), shared


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 7])
async def test_a_local_file_is_copied(layout: Layout, tmp_path: Path, size: int) -> None:
    """Byte for byte; here without sharing blocks, or with it where the file system can."""
    content = random.Random(size).randbytes(size)
    (tmp_path / "source").write_bytes(content)
    sealed, _ = await copy(layout, tmp_path / "source", identity(content, "sha256", etag=None))
    check(sealed, content)


async def test_shared_blocks_are_hashed_as_they_are_kept(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system can, nothing is copied; here a copy stands in for it, and the source changes after."""
    content = random.Random(14).randbytes(2 * BLOCK_BYTES + 3)
    path = tmp_path / "source"
    path.write_bytes(content)

    def share(source: int, target: int) -> bool:
        os.write(target, os.pread(source, len(content) + 1, 0))
        stamp = path.stat()
        with path.open("r+b") as file:
            file.write(b"changed")
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        return True

    monkeypatch.setattr(system, "clone_file", share)
    sealed, shared = await copy(layout, path, identity(content, "sha256", etag=None))
    assert shared
    check(sealed, content)


@pytest.mark.parametrize(("number", "error"), [(13, AccessDeniedError), (2, RemoteChangedError), (5, StorageError)])
@pytest.mark.parametrize("call", ["open", "pread"])
async def test_what_the_system_says_of_a_local_file_is_typed(  # noqa: PLR0917 - fixtures
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[CacheError], call: str
) -> None:
    """Not to be read, gone, or on a disk that fails: the error names the file."""
    path = tmp_path / "source"
    path.write_bytes(b"x" * 100)
    real = getattr(os, call)

    def refuse(at: object, *arguments: object) -> object:
        if at == path or (isinstance(at, int) and os.fstat(at).st_ino == path.stat().st_ino):
            raise OSError(number, os.strerror(number))
        return real(at, *arguments)

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(error) as caught:
        await copy(layout, path, identity(b"", etag=None, size=None))
    assert str(path) in str(caught.value)


async def test_a_copy_replaces_what_an_earlier_attempt_left(layout: Layout, tmp_path: Path) -> None:
    """Reading a local file again is cheap; sharing its blocks is cheaper."""
    content = random.Random(12).randbytes(3 * BLOCK_BYTES)
    (tmp_path / "source").write_bytes(content)
    await leave(layout, content[: BLOCK_BYTES + 5], identity(content, "sha256"))
    sealed, _ = await copy(layout, tmp_path / "source", identity(content, "sha256"))
    check(sealed, content)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, BLOCK_BYTES // 2)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [grow, shrink, touch])
async def test_a_local_file_that_changes_while_it_is_copied_is_refused(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """Half of one and half of another version would be a file that never was."""
    path = tmp_path / "source"
    path.write_bytes(bytes(3 * BLOCK_BYTES))

    def change_first(_source: int, _target: int) -> bool:
        change(path)
        return False

    monkeypatch.setattr(system, "clone_file", change_first)
    with pytest.raises(RemoteChangedError):
        await copy(layout, path, identity(b"", etag=None, size=None))
    assert list(layout.partials.iterdir()) == []


async def test_a_local_file_that_cannot_be_read_is_a_typed_error(layout: Layout, tmp_path: Path) -> None:
    """Gone since it was looked at, or a folder or a pipe in its place: nothing waits for a writer."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "gone", tmp_path, tmp_path / "pipe"):
        with pytest.raises(RemoteChangedError) as caught:
            await copy(layout, path, identity(b"", etag=None, size=None))
        assert str(path) in str(caught.value)
    assert list(layout.partials.iterdir()) == []


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


LONG = [
    pytest.param(1 << 16, 256 << 20, marks=pytest.mark.long),
    pytest.param(1 << 20, 64 << 20),
    pytest.param(128, 4 << 20),
    pytest.param(1, 1 << 20),
]


@pytest.mark.parametrize(("chunk", "total"), LONG)
def test_memory_is_bounded_whatever_the_chunks(zygote: Zygote, layout: Layout, chunk: int, total: int) -> None:
    """However much comes, and in however small pieces: a few blocks of 1 MiB at a time."""
    of = Identity("https://host/m", "r1", "m", total, None, ())
    grown, digest = zygote.run("store_jobs:peak_bytes", layout.root, KEY, of, chunk, total)
    assert grown < 32 << 20
    expected = blake3()
    piece = (bytes(range(256)) * (chunk // 256) or b"x" * chunk) * max((1 << 20) // chunk, 1)
    for _ in range(total // len(piece)):
        expected.update(piece)
    assert digest == expected.hexdigest()
