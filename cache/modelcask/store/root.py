"""The root folder: made once, recognised for ever, refused where it cannot be safe."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from pathlib import Path
from typing import Final

import msgspec

from modelcask import locks
from modelcask.errors import CacheError, CorruptStoreError, SchemaVersionError, StorageError
from modelcask.layout import LAYOUT_VERSION, Layout
from modelcask.reserve import RESERVE_BYTES
from modelcask.store import fs, system

_CACHEDIR_TAG: Final = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Model files kept by modelcask. They can be fetched again; backups may pass this folder over.\n"
)

_OURS: Final = re.compile(
    r"blobs|partial|snapshots|manifests|trash|quarantine|sessions|locks|backups"
    r"|reserve|CACHEDIR\.TAG|FORMAT|\.(?:CACHEDIR\.TAG|FORMAT)\.[0-9]+-[0-9a-f]{8}"
)

_MOST_BYTES: Final = 64 << 10
_BLOB_FOLDERS: Final = tuple(f"{number:02x}" for number in range(256))
_PLENTY_BYTES: Final = 8 * RESERVE_BYTES
"""The reserve is made while at least this much is free: it must not be what fills the disk."""


class Format(msgspec.Struct, frozen=True):
    """The content of FORMAT."""

    layout: int
    store: str
    """A uuid, the same for the life of the root."""
    policy: str = "private"
    """Who may read and write: today always ``private``."""


def read_format(layout: Layout) -> Format | None:
    """Return what FORMAT says, None if the folder is not a root (or is not there).

    Raises:
        SchemaVersionError: a newer modelcask has laid it out.
        CorruptStoreError: FORMAT cannot be read, or is gone from a folder that holds a store.
        StorageError: the root is no folder, or not to be read by this user.
    """
    content = _read(layout)
    if content is None and not _has_parts(layout):
        return None
    owner = layout.root.stat().st_uid
    if owner != os.geteuid():
        # Also for root: what it leaves behind, the owner could neither lock nor replace.
        raise StorageError(
            f"{layout.root} belongs to user {owner}; run this as that user, "
            "or set MODELCASK_HOME to a folder of your own"
        )
    try:
        found = msgspec.json.decode(_read(layout) or b"", type=Format)  # again: it may have been made meanwhile
    except msgspec.DecodeError as error:
        fault = "is damaged" if layout.format_file.is_file() else "is gone, or is no file"
        step = "run: modelcask rebuild" if layout.blobs.is_dir() else "set MODELCASK_HOME to another folder"
        raise CorruptStoreError(f"{layout.format_file} {fault}; {step}") from error
    if found.layout != LAYOUT_VERSION:
        raise SchemaVersionError(f"layout {found.layout}", f"layout {LAYOUT_VERSION}")
    return found


def _read(layout: Layout) -> bytes | None:
    """Return what FORMAT holds, nothing for what is no file, None if there is none."""
    try:
        fd = os.open(layout.format_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would keep us waiting
        try:
            return os.read(fd, _MOST_BYTES)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise StorageError(f"{layout.root} is not a folder; set MODELCASK_HOME, or --home, to one") from error
    except IsADirectoryError:
        return b""
    except PermissionError as error:
        raise StorageError(f"{layout.root}: permission denied; set MODELCASK_HOME to a folder of your own") from error
    except OSError as error:
        raise StorageError(f"{layout.format_file}: {error.strerror}; check the disk") from error


def _has_parts(layout: Layout) -> bool:
    """Say whether there is more of a store than the folders that an interrupted making leaves."""
    return layout.blobs.is_dir() and (
        layout.catalog.exists() or _has_blobs(layout) or any(layout.manifests.glob("*/*.json"))
    )


def _has_blobs(layout: Layout) -> bool:
    return any(layout.blobs.glob("*/*"))


def has_lost_catalog(layout: Layout) -> bool:
    """Say whether there are blobs, but no catalog or an empty file in its place."""
    catalog = layout.catalog
    lost = not catalog.exists() or (catalog.is_file() and catalog.stat().st_size == 0)
    return lost and _has_blobs(layout)


def refuse_lost_catalog(layout: Layout) -> None:
    """Raise CorruptStoreError if the catalog is lost: a new one would be empty, and all would be fetched again."""
    if has_lost_catalog(layout):
        raise CorruptStoreError(f"the catalog {layout.catalog} is gone, its blobs are not; run: modelcask rebuild")


def recover_format(layout: Layout) -> bool:
    """Write FORMAT again if it is gone or damaged and the rest of a store is there; False if there is no store.

    The store gets a new uuid. What stood in FORMAT's place is kept in ``backups/``.

    Raises:
        SchemaVersionError: a newer modelcask has laid it out.
        CorruptStoreError: nothing but FORMAT is there.
    """
    try:
        return read_format(layout) is not None
    except CorruptStoreError:
        if not layout.blobs.is_dir():
            raise
    make_folders(layout)
    with locks.locked(layout.schema_lock, timeout_s=30):
        with contextlib.suppress(CorruptStoreError):
            return read_format(layout) is not None  # somebody else was quicker
        if os.path.lexists(layout.format_file):
            fs.rename("root", layout.format_file, layout.backups / f"FORMAT-{time.time_ns() // 1000}")
        _write_format(layout)
    return True


def open_root(root: Path) -> tuple[Layout, Format]:
    """Return the layout of the root, made if it is not there. Safe against others who make it at the same time.

    Folders that somebody has deleted, and a reserve that was given up, are made again.

    Raises:
        StorageError: the folder is a network mount, belongs to something else, or cannot be written.
        CorruptStoreError: the blobs' folder is gone, or FORMAT.
    """
    system.require_supported()
    layout = Layout(root)
    found = read_format(layout)
    if found is None:
        _make(layout)
        found = read_format(layout)
        if found is None:
            raise CorruptStoreError(f"{layout.format_file} vanished while the store was made; run the command again")
    if not layout.blobs.exists():
        raise CorruptStoreError(f"{layout.blobs} is missing; run: modelcask rebuild")
    for folder in missing_folders(layout):
        fs.make_folder("root", folder)
    device = layout.root.stat().st_dev
    for folder in (layout.blobs, layout.partials, layout.snapshots):
        if folder.stat().st_dev != device:
            raise StorageError(f"{folder} lies on another file system than {root}; a root must be on one")
    _renew_reserve(layout)
    return layout, found


def missing_folders(layout: Layout) -> list[Path]:
    """Return the folders of the layout that are not there, or are no folders, each after the one it lies in."""
    missing = [folder for folder in _top_folders(layout) if not folder.is_dir()]
    there: set[str] = set()
    with contextlib.suppress(OSError), os.scandir(layout.blobs) as found:
        there.update(entry.name for entry in found if entry.is_dir())
    return missing + [layout.blobs / name for name in _BLOB_FOLDERS if name not in there]


def _top_folders(layout: Layout) -> list[Path]:
    return [
        layout.blobs.parent,
        layout.blobs,
        layout.partials,
        layout.snapshots,
        layout.manifests,
        layout.trash,
        layout.quarantine,
        layout.sessions,
        layout.locks,
        layout.backups,
    ]


def make_folders(layout: Layout) -> None:
    """Make every folder of the layout that is not there."""
    for folder in missing_folders(layout):
        fs.make_folder("root", folder)
    fs.sync_folder("root", layout.blobs)
    fs.sync_folder("root", layout.root)


def foreign_name(layout: Layout) -> str | None:
    """Return a name in the root's folder that is none of ours, None if there is none."""
    with fs.translated(layout.root):
        return min((path.name for path in layout.root.iterdir() if _OURS.fullmatch(path.name) is None), default=None)


def _make(layout: Layout) -> None:
    root = layout.root
    for parent in reversed(root.parents):
        if not parent.exists():
            fs.make_folder("root", parent)
    remote = system.remote_file_system(root)
    if remote is not None:
        raise StorageError(
            f"{root} lies on {remote}: locks on network file systems can lie, and models would be lost; "
            "set MODELCASK_HOME to a folder on a local disk"
        )
    fs.make_folder("root", root)
    fs.sync_folder("root", root.parent)
    # FORMAT comes last: a crash before it leaves only our own names, which the next attempt takes up again.
    foreign = foreign_name(layout)
    if foreign is not None and not layout.format_file.exists():
        raise StorageError(
            f"{root} is not empty and not a modelcask store (it holds {foreign!r}); name an empty or new folder"
        )
    fs.close_to_others("root", root)
    make_folders(layout)
    with locks.locked(layout.schema_lock, timeout_s=30):
        if layout.format_file.exists():
            return
        for left_over in (*root.glob(".FORMAT.*"), *root.glob(".CACHEDIR.TAG.*")):
            fs.unlink("root", left_over)
        if not locks.is_coherent(layout.locks):
            raise StorageError(
                f"two processes can hold one lock in {root}, so this file system cannot hold a store; "
                "set MODELCASK_HOME to a folder on a local disk"
            )
        with contextlib.suppress(FileExistsError):
            fs.write_atomic("root", layout.cachedir_tag, _CACHEDIR_TAG.encode())
        _write_format(layout)


def _write_format(layout: Layout) -> None:
    content = msgspec.json.format(msgspec.json.encode(Format(LAYOUT_VERSION, str(uuid.uuid4()))), indent=2)
    fs.write_atomic("root", layout.format_file, content + b"\n")


def _renew_reserve(layout: Layout) -> None:
    """Make the reserve whole if there is plenty of room. Safe beside others who do it or give it up; raises nothing."""
    with contextlib.suppress(CacheError, OSError):
        if layout.reserve.exists() and layout.reserve.stat().st_size >= RESERVE_BYTES:
            return
        if fs.free_bytes(layout.root) < _PLENTY_BYTES:
            return
        fd = fs.reopen(layout.reserve)
        if fd is None:
            fd = fs.create("reserve", layout.reserve)
        try:
            fs.occupy("reserve", layout.reserve, fd, RESERVE_BYTES)
        finally:
            os.close(fd)
