"""Published blobs: how one is placed, checked, quarantined and removed.

Every function that changes a blob's name is called under its stripe lock, ``locks/blob-XX`` (I5). What to do
with a sealed file is decided by :func:`decide_placement` from plain data; :func:`place` obeys.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Final

from blake3 import blake3

from modelcask.digest import Digest, new_hash
from modelcask.errors import BusyError
from modelcask.layout import Layout
from modelcask.store import fs
from modelcask.store.sealed import SealedFile
from modelcask.types import ReplicaState, StatStamp

_READ_BYTES: Final = 4 << 20


class Incumbent(Enum):
    """What stands under a blob's name when a sealed file comes to be published."""

    NOTHING = "nothing"
    SAME_INODE = "same inode"
    """Ours: an earlier attempt died between naming the file and recording it."""
    AS_STAMPED = "as stamped"
    """It is what the catalog's row says it is."""
    OTHER = "other"


class Placement(Enum):
    """What to do with the sealed file."""

    LINK = "link"
    KEEP_INCUMBENT = "keep incumbent"
    PROVE_INCUMBENT = "prove incumbent, then decide again"
    REPLACE_ORPHAN = "replace orphan"


def decide_placement(state: ReplicaState | None, incumbent: Incumbent) -> Placement:
    """Return what to do with a sealed file whose digest is already known as ``state`` (None: no row).

    An object keeps its inode: a file that the catalog vouches for stays, if its stamp still holds or, where it
    does not, if its bytes do. Whatever else stands there was never proved, and ours was just now. What had been found
    damaged and is there all the same is proved too: it is evidence, or was put right by one who died.
    """
    match incumbent:
        case Incumbent.NOTHING:
            return Placement.LINK
        case Incumbent.SAME_INODE:
            return Placement.KEEP_INCUMBENT
        case Incumbent.AS_STAMPED if state in {ReplicaState.PRESENT, ReplicaState.CONDEMNED}:
            return Placement.KEEP_INCUMBENT
        case _ if state in {ReplicaState.PRESENT, ReplicaState.CONDEMNED, ReplicaState.QUARANTINED}:
            return Placement.PROVE_INCUMBENT
        case _:
            return Placement.REPLACE_ORPHAN


def look(path: Path, inode: int, stamp: StatStamp | None) -> Incumbent:
    """Say what stands at a blob's ``path``, next to the sealed file's inode and the catalog's stamp."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return Incumbent.NOTHING
    if found.st_ino == inode:  # of one file system: a root lies on one
        return Incumbent.SAME_INODE
    return Incumbent.AS_STAMPED if StatStamp.of(found) == stamp else Incumbent.OTHER


def place(layout: Layout, sealed: SealedFile, state: ReplicaState | None, stamp: StatStamp | None) -> bool:
    """Give the sealed file its name among the blobs, unless a good one has it; return False if that is to be proved.

    The caller holds the stripe lock. It syncs the folder after this, or frees the lock, lets the incumbent be proved
    and comes again. The name becomes visible here, but nobody is told of it before the row is committed (I1).

    Raises:
        BusyError: another process works here too: under the sealed file's path there is another one now, or the
            name was taken a moment ago.
    """
    path = layout.blob(sealed.digest)
    placement = decide_placement(state, look(path, sealed.inode, stamp))
    if placement is Placement.LINK:
        _link(sealed, path)
    elif placement is Placement.REPLACE_ORPHAN:
        if not path.is_file() or path.is_symlink():
            quarantine(layout, sealed.digest)  # a file cannot be renamed over a folder
        beside = path.with_name(f".{sealed.digest.hex}")
        fs.unlink("blob", beside)
        _link(sealed, beside)
        fs.rename("blob", beside, path)
    return placement is not Placement.PROVE_INCUMBENT


def _link(sealed: SealedFile, target: Path) -> None:
    # Where locks lie, another process may have put its own unfinished file in the sealed one's place, or have given
    # the blob its name a moment ago (I7).
    if sealed.path.exists():
        if not fs.link("blob", sealed.path, target):
            raise BusyError(f"the blob {target.name}")
        if target.stat(follow_symlinks=False).st_ino == sealed.inode:
            return
        fs.unlink("blob", target)
    raise BusyError(f"the unfinished file {sealed.path.parent.name}")


def quarantine(layout: Layout, digest: Digest) -> Path | None:
    """Move what stands under a blob's name out of the way, whatever it is; return where it is kept, None if nothing."""
    path = layout.blob(digest)
    target = _in_quarantine(layout, digest)
    if not is_taken(layout, digest):
        return None
    fs.rename("quarantine", path, target)
    fs.sync_folder("quarantine", layout.quarantine)
    fs.sync_folder("quarantine", path.parent)
    return target


def _in_quarantine(layout: Layout, digest: Digest) -> Path:
    return layout.quarantine / f"{digest.hex}.{time.time_ns()}"


def is_taken(layout: Layout, digest: Digest) -> bool:
    """Say whether anything stands under a blob's name, a folder or a pipe included."""
    return os.path.lexists(layout.blob(digest))


def remove(layout: Layout, digest: Digest) -> int:
    """Delete a blob's file after its row is gone (I1); return the bytes freed, 0 if it was not there.

    What is no file was never ours: it goes to quarantine.
    """
    found = stamp(layout, digest)
    if found is None:
        quarantine(layout, digest)
        return 0
    fs.unlink("blob", layout.blob(digest))
    return found.size_bytes


def stamp(layout: Layout, digest: Digest) -> StatStamp | None:
    """Return the stamp of a blob's file as it is now, None if it is not there or no regular file."""
    try:
        found = layout.blob(digest).stat(follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return StatStamp.of(found) if stat.S_ISREG(found.st_mode) else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    with fs.translated(path):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would keep us waiting
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            yield fd
        finally:
            os.close(fd)


def hash_blob(path: Path) -> str:
    """Return the BLAKE3 of a file in hex, using all cores.

    Raises:
        StorageError: the file cannot be read. That is not corruption: nothing follows for its content.
    """
    # Not mapped, though that is no slower: a page that the disk fails to deliver would end the process by a signal.
    running = blake3(max_threads=blake3.AUTO)
    block = memoryview(bytearray(_READ_BYTES))
    with _opened(path) as fd:
        while length := os.readv(fd, [block]):
            running.update(block[:length])
    return running.hexdigest()


def hash_all(path: Path, algorithms: tuple[str, ...], progress: Callable[[int], None] | None = None) -> list[Digest]:
    """Return the digests of a file in the order asked for, in one reading."""
    with _opened(path) as fd:
        running = [new_hash(algorithm, size=os.fstat(fd).st_size) for algorithm in algorithms]
        while block := os.read(fd, _READ_BYTES):
            for one in running:
                one.update(block)
            if progress is not None:
                progress(len(block))
    return [Digest(algorithm, one.hexdigest()) for algorithm, one in zip(algorithms, running, strict=True)]
