"""A file of this machine while it is copied into the store: read block by block, and held to what it was at first."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelcask.errors import AccessDeniedError, RemoteChangedError, StorageError


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file that is open for reading."""

    path: Path
    fd: int
    _opened: os.stat_result

    @property
    def size_bytes(self) -> int:
        """Its size when it was opened."""
        return self._opened.st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes at ``offset``, none behind the end."""
        with _translated(self.path):
            return os.pread(self.fd, length, offset)

    def check_unchanged(self, read_bytes: int) -> None:
        """Raise RemoteChangedError unless it still is what it was, and all of it has been read."""
        now = os.fstat(self.fd)
        before = self._opened
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or read_bytes != now.st_size:
            raise RemoteChangedError(f"{self.path} changed while it was read; pull it again when it is complete")


@contextlib.contextmanager
def open_local(path: Path) -> Iterator[LocalFile]:
    """Open a local file, following links.

    Raises:
        RemoteChangedError: it is not there any more, or something else is.
        AccessDeniedError: it may not be read.
        StorageError: the disk failed.
    """
    with _translated(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise RemoteChangedError(f"{path} is no regular file any more; check the path")
        yield LocalFile(path, fd, found)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise RemoteChangedError(f"{path} vanished while it was pulled; check the path") from error
    except PermissionError as error:
        raise AccessDeniedError(f"{path} may not be read by this user; check its permissions") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}; check its disk") from error
