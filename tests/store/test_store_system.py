"""What differs by operating system, on this one and as it would go on the other."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelcask.store import system


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "source").write_bytes(b"x" * 10_000)
    opened = os.open(tmp_path / "source", os.O_RDONLY)
    yield opened
    os.close(opened)


def test_reserved_room_is_real_and_reads_as_zeros(fd: int) -> None:
    """A full disk shows before the first byte."""
    system.preallocate(fd, 100_000)
    found = os.fstat(fd)
    assert found.st_size == 100_000
    assert found.st_blocks * 512 >= 100_000
    assert os.pread(fd, 100_001, 0) == bytes(100_000)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_where_room_cannot_be_reserved_the_length_is_set(fd: int, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Some file systems know no reservation."""

    def refuse(*_: int) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    system.preallocate(fd, 100_000)
    assert os.fstat(fd).st_size == 100_000


def test_a_full_disk_is_not_taken_for_one_that_knows_no_reservation(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error goes on."""

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="28"):
        system.preallocate(fd, 100_000)


def test_blocks_are_shared_or_not_and_nothing_else(fd: int, source: int) -> None:
    """Where the file system can, the content is there; where not, the target is as it was."""
    if system.clone_file(source, fd):
        assert os.pread(fd, 20_000, 0) == b"x" * 10_000
    else:
        assert os.fstat(fd).st_size == 0


@pytest.mark.parametrize(("number", "shared"), [(0, True), (errno.EOPNOTSUPP, False), (errno.EXDEV, False)])
def test_a_file_system_that_cannot_share_says_so_in_many_ways(
    fd: int, source: int, monkeypatch: pytest.MonkeyPatch, number: int, shared: bool
) -> None:
    """Each of them means: copy."""

    def answer(*_: int) -> None:
        if number:
            raise OSError(number, "")

    monkeypatch.setattr(fcntl, "ioctl", answer)
    assert system.clone_file(source, fd) is shared


def test_a_disk_that_fails_while_sharing_is_an_error(fd: int, source: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copying would fail too, and hide why."""

    def fail(*_: int) -> None:
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(fcntl, "ioctl", fail)
    with pytest.raises(OSError, match="5"):
        system.clone_file(source, fd)


def test_on_macos_a_sync_goes_to_the_disk_and_nothing_linux_only_is_called(
    fd: int, source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``fsync`` there ends at the drive's cache; clones, write-back and mount types are Linux's."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda at, command: calls.append((at, command)))
    monkeypatch.setattr(system, "_libc", lambda: pytest.fail("a call of Linux"))
    system.require_supported()
    system.full_sync(fd)
    system.data_sync(fd)
    assert calls == [(fd, 51), (fd, 51)]
    system.preallocate(fd, 1000)
    assert os.fstat(fd).st_size == 1000
    system.start_write_back(fd, 0, 1000)
    assert not system.clone_file(source, fd)
    assert system.remote_file_system(tmp_path) is None
