"""What differs by operating system: durable sync, write-back hints, preallocation, clones, mount types.

Linux and macOS. Everything else in the package is the same on both.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from modelcask.errors import StorageError

# Locks on these can lie, and SQLite's shared memory does not work on them.
_REMOTE_FILE_SYSTEMS: Final = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "pvfs2",
        "smb2",
        "smb3",
        "smbfs",
        "virtiofs",
        "wekafs",
    }
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")  # how the kernel writes space, tab, newline and backslash
_FICLONE: Final = 0x40049409  # linux/fs.h
_SYNC_FILE_RANGE_WRITE: Final = 2  # linux/fs.h
_CANNOT_CLONE: Final = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EBADF}
)


def require_supported() -> None:
    """Raise StorageError on a system whose locks and links modelcask does not know."""
    if sys.platform not in {"linux", "darwin"}:
        raise StorageError(f"modelcask runs on Linux and macOS, not on {sys.platform}")


def full_sync(fd: int) -> None:
    """Return when data and metadata of the file are on stable storage."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync there stops at the drive's cache
    else:
        os.fsync(fd)


def data_sync(fd: int) -> None:
    """Return when the data, and what is needed to read it back, are on stable storage."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def preallocate(fd: int, size_bytes: int) -> None:
    """Reserve the blocks of the file, so that a full disk shows before the first byte.

    Raises:
        OSError: ENOSPC or EDQUOT where there is no room.
    """
    if sys.platform == "linux":
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
        else:
            return
    os.ftruncate(fd, size_bytes)


def occupy(fd: int, size_bytes: int) -> None:
    """Take ``size_bytes`` of the disk for the file, so that they are free again when it is cut.

    Raises:
        OSError: there is no room, or the file system cannot do it.
    """
    if sys.platform == "linux":
        os.posix_fallocate(fd, 0, size_bytes)
    else:
        os.pwrite(fd, os.urandom(size_bytes), 0)  # zeros may be stored as nothing


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def start_write_back(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to begin writing a range that is complete, so that the last sync has little left to do.

    A hint: where the system has no such call, nothing happens.
    """
    if sys.platform == "linux":
        _libc().sync_file_range(
            ctypes.c_int(fd), ctypes.c_int64(offset), ctypes.c_int64(length), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
        )


def clone_file(source_fd: int, target_fd: int) -> bool:
    """Share the source's blocks copy-on-write with the empty target; False where the file system cannot."""
    if sys.platform != "linux":
        return False  # APFS clones by path and wants the target absent; a copy is right, only slower
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError as error:
        if error.errno in _CANNOT_CLONE:
            return False
        raise
    return True


def remote_file_system(path: Path) -> str | None:
    """Return the type of the network file system that ``path`` lies on, or None for a local one."""
    if sys.platform != "linux":
        return None
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return remote_type(path.resolve(), mounts)


def remote_type(path: Path, mounts: str) -> str | None:
    """Return what :func:`remote_file_system` does for a resolved path, from the text of ``mountinfo`` (proc(5))."""
    best, best_type = Path(), ""
    for line in filter(None, mounts.split("\n")):
        left, _, right = line.partition(" - ")
        mount = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), left.split(" ")[4]))
        if path.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, best_type = mount, right.split(" ")[0]
    return best_type if best_type in _REMOTE_FILE_SYSTEMS else None
