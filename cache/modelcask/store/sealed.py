"""What becomes of an ingest's folder: a sealed file to publish, or nothing."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelcask.digest import Digest
from modelcask.errors import StorageError
from modelcask.store import fs


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A complete, checked, durable, read-only file that has no name in the store yet."""

    path: Path
    inode: int
    """What was checked. Where locks lie, ``path`` may be another process's file by now."""
    digest: Digest
    size_bytes: int
    digests: tuple[Digest, ...]
    """All that were computed, BLAKE3 first."""


_FILES: Final = ("journal", "meta", "data")
"""The data last: without its meta it cannot be taken for a prefix."""


def open_partial(folder: Path) -> None:
    """Make sure of an ingest's folder, and that nothing but plain files stands where its files belong.

    A folder or a pipe there was never written by an ingest: it is removed, for it would stop each attempt anew.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        fs.clear("partial", folder)
    fs.make_folder("partial", folder)
    for name in _FILES:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG((folder / name).lstat().st_mode):
                fs.clear("partial", folder / name)


def discard_partial(folder: Path) -> None:
    """Remove what is left of an ingest, the data last."""
    names: set[str] = set(_FILES)
    if folder.is_dir():  # what a writer that was killed left aside
        names.update(path.name for path in folder.iterdir())
    for name in sorted(names, key=lambda name: name == "data"):
        fs.clear("partial", folder / name)
    with contextlib.suppress(StorageError):
        fs.remove_folder("partial", folder)
