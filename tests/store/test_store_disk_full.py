"""A disk that is really full: said before the first byte where that can be known, and nothing is lost where not."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelcask.digest import Digest, new_hash
from modelcask.errors import StoreFullError
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.store import ingest
from modelcask.store.ingest import Ingest
from modelcask.store.journal import Identity
from modelcask.store.root import open_root

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


def identity(size: int | None) -> Identity:
    running = new_hash("sha256")
    running.update(CONTENT)
    return Identity("https://host/m", "r1", "m", size, '"e1"', (Digest("sha256", running.hexdigest()),))


async def test_a_file_that_cannot_fit_is_refused_before_the_first_byte(layout: Layout) -> None:
    """Its room is reserved when the ingest is opened; the error says how much is needed and how much there is."""
    with pytest.raises(StoreFullError) as caught:
        async with Ingest(layout, "key", identity(len(CONTENT)), name="m"):
            pytest.fail("there is no room for it")
    assert caught.value.needed == len(CONTENT)
    assert 0 <= caught.value.available <= DISK_BYTES
    assert list(layout.partials.iterdir()) == []


async def test_what_arrived_before_the_disk_was_full_is_kept(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of unknown size, so nobody could know; once there is room, the pull goes on from there."""
    monkeypatch.setattr(ingest, "SEGMENT_BYTES", 1 << 20)
    filler = layout.root / "filler"
    filler.write_bytes(bytes(DISK_BYTES // 2))

    async def fill(sink: Ingest) -> None:
        for start in range(0, len(CONTENT), 300_000):
            await sink.write(CONTENT[start : start + 300_000])

    async with Ingest(layout, "key", identity(None), name="m") as sink:
        with pytest.raises(StoreFullError):
            await fill(sink)
    filler.unlink()
    async with Ingest(layout, "key", identity(None), name="m") as sink:
        assert sink.resumed_bytes >= 1 << 20
        resumed = sink.resumed_bytes
        await sink.write(CONTENT[resumed : resumed + 100_000])
    async with Ingest(layout, "key", identity(None), name="m") as sink:
        assert sink.resumed_bytes == resumed + 100_000


def test_a_full_disk_still_answers_and_still_frees(disk: Path, tmp_path: Path) -> None:
    """Nothing more fits: what is cached is found, a pull says what is missing, and removing works."""
    model = tmp_path / "model.bin"
    model.write_bytes(CONTENT[: 1 << 20])
    with ModelCache(disk / "cask") as cache:
        cache.pull(model.as_uri())
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
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
