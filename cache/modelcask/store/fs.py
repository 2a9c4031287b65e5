"""The one place that changes the file system, each change a named step.

A step announces itself before it acts (``on_step``), so that a test can stop, fail or kill the process at each
of them: dying at step N+1 is dying just after step N. Names are ``<what>.<verb>``, for example ``blob.link``.

``OSError`` becomes the error that tells the caller what to do: ``StoreFullError`` for a full disk,
``StorageError`` for the rest. A failed sync is never tried again and believed: the kernel may have dropped the
pages and marked them clean.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from modelcask.errors import StorageError, StoreFullError
from modelcask.store import system

BLOB_MODE: Final = 0o444
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_hook: Callable[[str], None] | None = None


def on_step(hook: Callable[[str], None] | None) -> None:
    """Call ``hook`` with the name of each step just before it happens; None ends it. For tests."""
    global _hook  # noqa: PLW0603 - one switch for the process, as the file system is one
    _hook = hook


def _step(name: str) -> None:
    if _hook is not None:
        _hook(name)


@contextlib.contextmanager
def translated(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn an OSError on ``path`` into an error of ours; ``needed`` bytes, 0 where nobody knows how much it will be."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFullError(needed, free_bytes(path), where=str(_mount_of(path))) from error
        if error.errno == errno.EROFS:
            raise StorageError(
                f"{path}: the file system is mounted read-only; mount it writable, "
                "or set MODELCASK_HOME to a folder that is"
            ) from error
        raise StorageError(f"{path}: {error.strerror or error}; check the disk, then run: modelcask doctor") from error


def free_bytes(path: Path) -> int:
    """Return how many bytes the file system that holds ``path`` still has for this user."""
    while not path.exists():
        path = path.parent
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


def _mount_of(path: Path) -> Path:
    while not path.is_mount() and path != path.parent:
        path = path.parent
    return path


def make_folder(what: str, path: Path) -> bool:
    """Make a folder, 0700 whatever the umask, if it is not there; say whether it is new."""
    with translated(path):
        _step(f"{what}.mkdir")
        try:
            path.mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            if not path.is_dir():
                raise StorageError(
                    f"{path} is no folder, and one belongs there; move it away, then run the command again"
                ) from None
            return False
        path.chmod(FOLDER_MODE)
        return True


def close_to_others(what: str, path: Path) -> None:
    """Make a folder that stood there before us private, if it is ours to change."""
    with translated(path):
        _step(f"{what}.chmod")
        with contextlib.suppress(PermissionError):
            path.chmod(FOLDER_MODE)


def create(what: str, path: Path) -> int:
    """Create a new file, 0600 and never through a link; return its descriptor for reading and writing."""
    with translated(path):
        _step(f"{what}.create")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        os.fchmod(fd, FILE_MODE)
        return fd


def reopen(path: Path) -> int | None:
    """Open an existing regular file of ours, never through a link; None if it is not there.

    A sealed file, which may have its second name among the blobs already, is opened for reading only (I2): mode
    bits would not stop root.
    """
    try:
        sealed = not path.lstat().st_mode & stat.S_IWUSR
        access = os.O_RDONLY if sealed else os.O_RDWR
        fd = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would keep us waiting
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.EACCES, errno.EISDIR}:
            return None
        raise StorageError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return fd


def read_file(path: Path) -> bytes:
    """Return the bytes of one of our small files.

    Raises:
        OSError: it is not there, or cannot be read, or is something else: a pipe would keep us waiting.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        return file.read()


def preallocate(what: str, path: Path, fd: int, size_bytes: int) -> None:
    """Reserve ``size_bytes`` for the file."""
    with translated(path, size_bytes):
        _step(f"{what}.preallocate")
        system.preallocate(fd, size_bytes)


def occupy(what: str, path: Path, fd: int, size_bytes: int) -> None:
    """Take blocks of the disk for an empty file for certain, not only by its length."""
    with translated(path, size_bytes):
        _step(f"{what}.occupy")
        system.occupy(fd, size_bytes)


def write_at(what: str, path: Path, fd: int, buffers: Sequence[bytes | bytearray | memoryview], offset: int) -> int:
    """Write all the buffers one behind the other at ``offset``; return the offset after them."""
    with translated(path):
        _step(f"{what}.write")
        left = [memoryview(buffer) for buffer in buffers]
        while left:
            written = os.pwritev(fd, left[:512], offset)
            offset += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = left[0][written:]
    return offset


def truncate(what: str, path: Path, fd: int, size_bytes: int) -> None:
    """Set the length of the file."""
    with translated(path):
        _step(f"{what}.truncate")
        os.ftruncate(fd, size_bytes)


def sync_data(what: str, path: Path, fd: int) -> None:
    """Return when the bytes of the file are durable."""
    with translated(path):
        _step(f"{what}.fdatasync")
        system.data_sync(fd)


def seal(what: str, path: Path, fd: int) -> None:
    """Make the file read-only and durable, and close it: after this nobody writes to it."""
    with translated(path):
        try:
            # In this order, so that whoever finds it read-only after a power cut knows that its bytes are there.
            _step(f"{what}.fsync")
            system.full_sync(fd)
            _step(f"{what}.chmod")
            os.fchmod(fd, BLOB_MODE)
        finally:
            os.close(fd)


def link(what: str, source: Path, target: Path) -> bool:
    """Give the file a second name; False if the name is taken. Never replaces."""
    with translated(target):
        _step(f"{what}.link")
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            return False
        return True


def rename(what: str, source: Path, target: Path) -> None:
    """Move a file to another name in the store, replacing what is there, atomically."""
    with translated(target):
        _step(f"{what}.rename")
        source.rename(target)


def unlink(what: str, path: Path) -> None:
    """Remove a name; nothing happens if it is not there."""
    with translated(path):
        _step(f"{what}.unlink")
        path.unlink(missing_ok=True)


def clear(what: str, path: Path) -> None:
    """Remove whatever has a name where a plain file of ours belongs, a folder with all that is in it."""
    with translated(path):
        _step(f"{what}.clear")
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_folder(what: str, path: Path) -> bool:
    """Remove a folder if it is empty; say whether it is gone."""
    with translated(path):
        _step(f"{what}.rmdir")
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                return False
            raise
        return True


def sync_folder(what: str, path: Path) -> None:
    """Return when the names in the folder are durable."""
    with translated(path):
        _step(f"{what}.fsync-folder")
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            system.full_sync(fd)
        finally:
            os.close(fd)


def write_atomic(what: str, path: Path, content: bytes) -> None:
    """Replace a small file by a durable new one: whoever opens the path sees the old or the new, never a part."""
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}-{random.randrange(1 << 32):08x}")  # noqa: S311
    fd = create(what, temporary)
    try:
        try:
            write_at(what, temporary, fd, [content], 0)
            with translated(temporary):
                _step(f"{what}.fsync")
                system.full_sync(fd)
        finally:
            os.close(fd)
        rename(what, temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(what, path.parent)


def symlink_below(what: str, folder: Path, name: str, target: str) -> None:
    """Make ``folder/name`` a link to ``target``, with the folders on the way; replace a wrong one atomically.

    ``name`` has passed ``check_relpath``. Each folder is entered by descriptor without following links, so that
    a link put in its place meanwhile cannot lead us out.
    """
    *parents, leaf = name.split("/")
    with translated(folder / name):
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for parent in parents:
                _step(f"{what}.mkdir")
                with contextlib.suppress(FileExistsError):
                    os.mkdir(parent, FOLDER_MODE, dir_fd=at)
                below = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                os.close(at)
                at = below
            try:
                if os.readlink(leaf, dir_fd=at) == target:
                    return
            except FileNotFoundError:
                _step(f"{what}.symlink")
                with contextlib.suppress(FileExistsError):
                    os.symlink(target, leaf, dir_fd=at)
                    return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            temporary = f".link-{os.getpid()}-{random.randrange(1 << 32):08x}"  # noqa: S311 - a name, not a secret
            _step(f"{what}.symlink")
            os.symlink(target, temporary, dir_fd=at)
            _step(f"{what}.rename")
            os.rename(temporary, leaf, src_dir_fd=at, dst_dir_fd=at)
        finally:
            os.close(at)
