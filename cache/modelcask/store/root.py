"""The root folder: made once, recognised for ever, refused where it cannot be safe."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from pathlib import Path
from typing import Final

import msgspec

from modelcask import locks
from modelcask.errors import CorruptStoreError, SchemaVersionError, StorageError
from modelcask.layout import LAYOUT_VERSION, Layout
from modelcask.store import fs, system

_CACHEDIR_TAG: Final = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Model files kept by modelcask. They can be fetched again; backups may pass this folder over.\n"
)

_OURS: Final = re.compile(
    r"blobs|partial|snapshots|manifests|trash|quarantine|sessions|locks|backups"
    r"|CACHEDIR\.TAG|FORMAT|\.(?:CACHEDIR\.TAG|FORMAT)\.[0-9]+-[0-9a-f]{8}"
)


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
        CorruptStoreError: FORMAT cannot be read.
    """
    try:
        content = layout.format_file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise StorageError(f"{layout.root}: permission denied; set MODELCASK_HOME to a folder of your own") from error
    except OSError as error:
        raise StorageError(f"{layout.format_file}: {error.strerror}; check the disk") from error
    owner = layout.root.stat().st_uid
    if owner != os.geteuid():
        # Also for root: what it leaves behind, the owner could neither lock nor replace.
        raise StorageError(
            f"{layout.root} belongs to user {owner}; run this as that user, "
            "or set MODELCASK_HOME to a folder of your own"
        )
    try:
        found = msgspec.json.decode(content, type=Format)
    except msgspec.DecodeError as error:
        raise CorruptStoreError(f"{layout.format_file} is damaged: {error}; restore it from a backup") from error
    if found.layout != LAYOUT_VERSION:
        raise SchemaVersionError(f"layout {found.layout}", f"layout {LAYOUT_VERSION}")
    return found


def open_root(root: Path) -> tuple[Layout, Format]:
    """Return the layout of the root, made if it is not there. Safe against others who make it at the same time.

    Raises:
        StorageError: the folder is a network mount, belongs to something else, or cannot be written.
    """
    system.require_supported()
    layout = Layout(root)
    found = read_format(layout)
    if found is None:
        _make(layout)
        found = read_format(layout)
        if found is None:
            raise CorruptStoreError(f"{layout.format_file} vanished while the store was made; run the command again")
    device = layout.root.stat().st_dev
    for folder in (layout.blobs, layout.partials, layout.snapshots):
        try:
            same = folder.stat().st_dev == device
        except FileNotFoundError:
            raise CorruptStoreError(f"{folder} is missing; run: modelcask rebuild") from None
        if not same:
            raise StorageError(f"{folder} lies on another file system than {root}; a root must be on one")
    return layout, found


def folders_of(layout: Layout) -> list[Path]:
    """Return every folder that a root has, each after the one it lies in."""
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
        *(layout.blobs / f"{number:02x}" for number in range(256)),
    ]


def make_folders(layout: Layout) -> None:
    """Make every folder of the layout that is not there."""
    for folder in folders_of(layout):
        fs.make_folder("root", folder)
    fs.sync_folder("root", layout.blobs)
    fs.sync_folder("root", layout.root)


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
    with fs.translated(root):
        foreign = sorted(path.name for path in root.iterdir() if _OURS.fullmatch(path.name) is None)
    if foreign and not layout.format_file.exists():
        raise StorageError(
            f"{root} is not empty and not a modelcask store (it holds {foreign[0]!r}); name an empty or new folder"
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
        content = msgspec.json.format(msgspec.json.encode(Format(LAYOUT_VERSION, str(uuid.uuid4()))), indent=2)
        fs.write_atomic("root", layout.format_file, content + b"\n")
