"""Locks between processes, made of ``flock``: the kernel frees them when their holder dies.

Locks save work; the correctness of bytes never rests on them (I7), because on some network file systems
``flock`` succeeds for everybody. Three rules:

* A lock belongs to one open file description. A forked child inherits it and would keep it alive after its
  parent's death, so every descriptor here is closed in the child.
* The holder writes who it is into the file, so that a refusal can say so. It is only ever shown, never believed.
* A lock file that is deleted when it is freed (``remove=True``) is deleted only by its exclusive holder, and
  whoever gets a lock checks that the path still names the file it has locked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from modelcask.errors import BusyError, StorageError, StoreFullError

_held: set[Lock] = set()


def _close_in_child() -> None:
    for held in _held:
        with contextlib.suppress(OSError):
            os.close(held._fd)  # noqa: SLF001 - the same module
        held._fd = -1  # noqa: SLF001 - a write to the number would go into whatever file gets it next
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


class Lock:
    """One lock that is held now; ``release`` frees it, and so does the end of the process."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        _held.add(self)

    @property
    def fd(self) -> int:
        """The locked descriptor, open for reading and writing; -1 once it is freed, and in a forked child."""
        return self._fd

    def release(self, *, remove: bool = False) -> None:
        """Free the lock; with ``remove``, delete its file first. Safe to call twice, and in a forked child."""
        if self._fd < 0:
            return
        if remove:
            with contextlib.suppress(OSError):  # a file that stays is one to lock again
                self.path.unlink()
        _held.discard(self)
        fd, self._fd = self._fd, -1
        os.close(fd)


def try_lock(path: Path, *, shared: bool = False) -> Lock | None:
    """Take the lock if nobody holds it against us, else return None. Never waits.

    Raises:
        StoreFullError: the disk has no room for the lock file.
        StorageError: the lock file cannot be opened, as in a read-only root, or the file system has no locks.
    """
    try:
        fd = _try_flock(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StoreFullError(0, 0, where=str(path.parent)) from error
        raise StorageError(f"{path} cannot be locked ({error.strerror}); {_next_step(error)}") from error
    return None if fd is None else Lock(path, fd)


def _next_step(error: OSError) -> str:
    if error.errno == errno.EROFS:
        return "the file system is mounted read-only: mount it writable, or set MODELCASK_HOME to a folder that is"
    if error.errno in {errno.EISDIR, errno.ELOOP}:
        return "a plain file belongs there: move away what stands in its place"
    return "check the permissions of the root"


def _try_flock(path: Path, how: int) -> int | None:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
            if _names(path, fd):
                os.ftruncate(fd, 0)  # a note left there is of somebody who is gone
                if how == fcntl.LOCK_EX:
                    with contextlib.suppress(OSError):  # on a full disk, what frees space must get its locks
                        note = _note()
                        if os.pwrite(fd, note, 0) < len(note):
                            os.ftruncate(fd, 0)  # what is written behind it must begin on a line of its own
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its last holder deleted it between our open and our lock


def _note() -> bytes:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()}\n{now}\n".encode()


def is_held(path: Path) -> bool:
    """Say whether somebody holds the lock alone now; in doubt, yes. Changes nothing: there need not be a file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    probe = Lock(path, fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        probe.release()
    return False


def lock(path: Path, *, shared: bool = False, timeout_s: float | None = None) -> Lock:
    """Take the lock, waiting up to ``timeout_s`` seconds, for ever if None.

    Raises:
        BusyError: the time ran out; the error says who holds it and since when.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause = 0.001
    while (held := try_lock(path, shared=shared)) is None:
        if deadline is not None and time.monotonic() >= deadline:
            raise busy(path)
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, 0.1)
    return held


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, timeout_s: float | None = None) -> Iterator[Lock]:
    """Hold the lock for the length of a ``with`` block."""
    held = lock(path, shared=shared, timeout_s=timeout_s)
    try:
        yield held
    finally:
        held.release()


def busy(path: Path) -> BusyError:
    """Return the error that says who holds the lock now, as far as the file tells."""
    holder = since = None
    with contextlib.suppress(OSError, ValueError):
        holder, since = path.read_text(encoding="utf-8").splitlines()
    return BusyError(f"the lock {path.name}", holder=holder, since=since)


def is_coherent(folder: Path) -> bool:
    """Say whether two descriptors exclude each other here: on some mounts ``flock`` succeeds for everybody."""
    probe = folder / f"probe-{os.getpid()}-{random.randrange(1 << 32):08x}"  # noqa: S311 - a name, not a secret
    first = try_lock(probe)
    if first is None:
        return True
    try:
        second = try_lock(probe)
        if second is not None:
            second.release()
        return second is None
    finally:
        first.release(remove=True)


def _names(path: Path, fd: int) -> bool:
    try:
        named = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = os.fstat(fd)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)
