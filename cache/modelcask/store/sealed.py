"""What becomes of an ingest's folder: a sealed file to publish, or nothing."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

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


def discard_partial(folder: Path) -> None:
    """Remove what is left of an ingest, the data last: without its meta it cannot be taken for a prefix."""
    names = {"journal", "meta", "data"}
    if folder.is_dir():  # what a writer that was killed left aside
        names.update(path.name for path in folder.iterdir())
    for name in sorted(names, key=lambda name: name == "data"):
        fs.unlink("partial", folder / name)
    with contextlib.suppress(StorageError):
        fs.remove_folder("partial", folder)
