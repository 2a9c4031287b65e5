"""Snapshot folders: links that give blobs their names back. They hold nothing that cannot be made again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from modelcask.digest import Digest
from modelcask.errors import StorageError
from modelcask.layout import Layout
from modelcask.relpath import check_relpath
from modelcask.store import fs


def link_entries(layout: Layout, source: str, revision: str, entries: Iterable[tuple[str, Digest]]) -> Path:
    """Make the links of a revision's entries, whatever of them is missing or wrong; return the folder."""
    folder = layout.snapshot(source, revision)
    fs.make_folder("snapshot", folder.parent)
    fs.make_folder("snapshot", folder)
    for name, digest in entries:
        check_relpath(name)
        fs.symlink_below("snapshot", folder, name, link_target(name, digest))
    return folder


def link_target(name: str, digest: Digest) -> str:
    """Return the relative target of the entry ``name``: the root can be moved as a whole."""
    up = "../" * (3 + name.count("/"))
    return f"{up}blobs/b3/{digest.hex[:2]}/{digest.hex}"


def unlink_entries(layout: Layout, source: str, revision: str, names: Iterable[str]) -> None:
    """Remove the links of a revision's entries, and the folders that are empty after it."""
    folder = layout.snapshot(source, revision)
    parents: set[Path] = set()
    for name in names:
        path = folder / check_relpath(name)
        if _is_below(folder, path.parent):
            fs.unlink("snapshot", path)
            parents.update(parent for parent in path.parents if parent == folder or folder in parent.parents)
    for parent in sorted(parents, key=lambda path: -len(path.parts)):
        with contextlib.suppress(StorageError):
            fs.remove_folder("snapshot", parent)
    with contextlib.suppress(StorageError):
        fs.remove_folder("snapshot", folder.parent)


def _is_below(folder: Path, path: Path) -> bool:
    # A link put in a folder's place must not lead a removal out of the snapshot.
    return path.resolve() == folder.resolve() / path.relative_to(folder)
