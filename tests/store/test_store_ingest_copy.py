"""A local file comes into an ingest by shared blocks or by copying, and only if it holds still."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ingests import check, identity, leave, opened
from modelcask.errors import AccessDeniedError, CacheError, RemoteChangedError, StorageError
from modelcask.layout import Layout
from modelcask.store import system
from modelcask.store.journal import Identity
from modelcask.store.lanes import BLOCK_BYTES
from modelcask.store.sealed import SealedFile

pytestmark = pytest.mark.usefixtures("_clean")


async def copy(layout: Layout, path: Path, of: Identity) -> tuple[SealedFile, bool]:
    async with opened(layout, of, reserve=False) as sink:
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
