"""A disk that is really full: said before the first byte where that can be known, and nothing is lost where not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from blake3 import blake3

from ingests import feed, opened
from modelcask.digest import Digest, new_hash
from modelcask.errors import StoreFullError
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.store import ingest
from modelcask.store.ingest import Ingest
from modelcask.store.journal import Identity
from modelcask.store.root import open_root
from modelcask.store.sessions import Session
from zygote import Zygote, ended

DISK_BYTES = 8 << 20
CONTENT = random.Random(1).randbytes(DISK_BYTES * 2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def layout(disk: Path) -> Layout:
    made, _ = open_root(disk / "cask")
    return made


def of(size: int | None) -> Identity:
    running = new_hash("sha256")
    running.update(CONTENT)
    return Identity("https://host/m", "r1", "m", size, '"e1"', (Digest("sha256", running.hexdigest()),))


async def test_a_file_that_cannot_fit_is_refused_before_the_first_byte(layout: Layout) -> None:
    """Its room is reserved when the ingest is opened; the error says how much is needed and how much there is."""
    with pytest.raises(StoreFullError) as caught:
        async with opened(layout, of(len(CONTENT))):
            pytest.fail("there is no room for it")
    assert caught.value.needed == len(CONTENT)
    assert 0 <= caught.value.available <= DISK_BYTES
    assert list(layout.partials.iterdir()) == []


async def write(sink: Ingest, start: int) -> None:
    """Write what follows in one stream; the disk being full is seen some blocks later."""
    stream = sink.stream(start)
    with contextlib.suppress(StoreFullError):
        while stream.position < len(CONTENT):
            await stream.write(CONTENT[stream.position : stream.position + 300_000])
            await asyncio.sleep(0)  # the next stream's turn
    stream.close()


@pytest.mark.parametrize("starts", [[0], [0, 4 << 20, 9 << 20]], ids=["one stream", "several streams"])
async def test_what_arrived_before_the_disk_was_full_is_kept(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, starts: list[int]
) -> None:
    """Where nobody could know before; once there is room, the pull goes on from there."""
    monkeypatch.setattr(ingest, "SEGMENT_BYTES", 1 << 20)
    filler = layout.root / "filler"
    filler.write_bytes(bytes(DISK_BYTES // 2))
    identity = of(None if len(starts) == 1 else len(CONTENT))
    async with opened(layout, identity, reserve=False) as sink:
        await asyncio.gather(*(write(sink, start) for start in starts))
        with pytest.raises(StoreFullError):
            await sink.check()
    filler.unlink()
    async with opened(layout, identity, reserve=False) as sink:
        resumed = sink.held.copy()
        assert {one.start for one in resumed} == set(starts)
        assert resumed.size_bytes >= 2 << 20
        await feed(sink, CONTENT[: resumed.end_of_run(0) + 100_000])
    async with opened(layout, identity, reserve=False) as sink:
        assert sink.held.size_bytes == resumed.size_bytes + 100_000
        for one in sink.held:
            assert await sink.digest_of(one) == blake3(CONTENT[one.start : one.end]).digest()


async def test_nothing_is_left_of_what_could_not_be_claimed(layout: Layout) -> None:
    """Full before the first segment was complete: no bytes lie about that nobody could take up."""
    (layout.root / "filler").write_bytes(bytes(DISK_BYTES - (3 << 20)))
    async with opened(layout, of(None)) as sink:
        await write(sink, 0)
        with pytest.raises(StoreFullError):
            await sink.check()
    assert list(layout.partials.iterdir()) == []


def test_a_full_disk_still_answers_and_still_frees(disk: Path, tmp_path: Path) -> None:
    """Nothing more fits: what is cached is found, a pull says what is missing, and removing works."""
    model = tmp_path / "model.bin"
    model.write_bytes(CONTENT[: 1 << 20])
    with ModelCache(disk / "cask") as cache:
        cache.pull(model.as_uri())
        filler = fill_up(disk)
        found = cache.lookup(model.as_uri())
        assert found is not None
        assert found.read_bytes() == model.read_bytes()
        other = tmp_path / "other.bin"
        other.write_bytes(CONTENT[: 2 << 20])
        with pytest.raises(StoreFullError):
            cache.pull(other.as_uri())
        assert cache.lookup(other.as_uri()) is None
        filler.unlink()
        cache.pull(other.as_uri())
        assert cache.remove(cache.plan_removal(model.as_uri())).bytes_freed == 1 << 20


def fill_up(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_lease_without_room_protects_everything(zygote: Zygote, disk: Path, tmp_path: Path) -> None:
    """What is handed out on a full disk stays, though its lease could not be written; so does everything else (I6)."""
    with ModelCache(disk / "cask") as cache:
        uris = []
        for name in ("one", "two"):
            (tmp_path / name).write_bytes(name.encode() * 1000)
            uris.append((tmp_path / name).as_uri())
        [one, two] = cache.pull(*uris)
        assert one.entries[0].blob is not None
        filler = fill_up(disk)
        child = zygote.start("store_jobs:lease", cache.root, [one.entries[0].blob])
        with ended(child):
            session = child.hears("leased")
            assert b"\0" in session.read_bytes()
            filler.unlink()
            for uri, snapshot in zip(uris, (one, two), strict=True):
                removal = cache.remove(cache.plan_removal(uri))
                assert (removal.bytes_freed, removal.in_use) == (0, (snapshot.entries[0].blob,))
                assert snapshot.path.exists()
                assert cache.lookup(uri) is None


def test_a_lease_is_written_as_soon_as_there_is_room(layout: Layout) -> None:
    """From then on it protects what it names, and nothing else."""
    one, two = (Digest("blake3", letter * 64) for letter in "ab")
    filler = fill_up(layout.root.parent)
    session = Session(layout)
    assert session.lease(one)
    assert not session.lease(one)
    assert b"\0" in session.path.read_bytes()
    filler.unlink()
    assert session.lease(two)
    content = session.path.read_bytes()
    assert b"\0" not in content
    assert content.endswith(f"{one.hex}\n{two.hex}\n".encode())
    session.close()


def test_a_lease_that_was_cut_short_is_not_taken_for_one(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last block had room for a part of the line: the rest is a hole, and the line is none."""
    one = Digest("blake3", "a" * 64)
    session = Session(layout)
    pwrite = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, line, at: pwrite(fd, line[:30], at))
        assert session.lease(one)
    assert session.path.read_bytes().endswith(b"\n" + b"a" * 30 + bytes(35))
    session.close()


def test_nothing_more_can_be_made_on_a_disk_without_room_for_a_root(disk: Path) -> None:
    """A root that does not fit is a full disk, and succeeds once there is room."""
    (disk / "filler").write_bytes(bytes(DISK_BYTES - (64 << 10)))
    os.truncate(disk / "filler", DISK_BYTES)
    with (disk / "filler").open("r+b", buffering=0) as file:
        file.seek(DISK_BYTES - (64 << 10))
        try:
            for _ in range(100):
                file.write(bytes(4096))
        except OSError:
            pass
    with pytest.raises(StoreFullError):
        open_root(disk / "cask")
    (disk / "filler").unlink()
    open_root(disk / "cask")


def test_a_local_file_larger_than_the_disk_says_so(disk: Path, tmp_path: Path) -> None:
    """Nothing half is visible, and nothing of it is left to fill the disk."""
    model = tmp_path / "model.bin"
    model.write_bytes(CONTENT)
    with ModelCache(disk / "cask") as cache:
        with pytest.raises(StoreFullError):
            asyncio.run(cache.pull_async(model.as_uri()))
        assert cache.lookup(model.as_uri()) is None
        assert list((disk / "cask" / "partial").iterdir()) == []
