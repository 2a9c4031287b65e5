"""Partials: the unfinished downloads in the store, and dropping those that nobody is at.

First a list that a person can read, then its execution. What is dropped is looked at again under its key's lock: if
anybody has worked at it since, it stays. What lies in ``partial/`` and is none of ours is shown, and never touched.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelcask import locks
from modelcask.digest import Digest, first_strong
from modelcask.errors import InvalidURIError, NotFoundError
from modelcask.finding import is_named
from modelcask.layout import Layout
from modelcask.printable import display
from modelcask.publishing import sweep
from modelcask.store import fs
from modelcask.store.journal import Identity, claimed_bytes, read_meta
from modelcask.store.sealed import discard_partial
from modelcask.uri import ModelURI, parse_uri

if TYPE_CHECKING:
    from modelcask.catalog.catalog import Catalog

_KEY: Final = re.compile(r"[0-9a-fu][0-9a-f]{63}", re.ASCII)
_BLOCK: Final = 512  # the unit of st_blocks, whatever the file system's


class PartialState(StrEnum):
    """What can still become of an unfinished download."""

    RESUMABLE = "resumable"
    """A pull of the same file goes on from what is kept."""
    SEALED = "sealed"
    """It is complete; a pull of the same file publishes it without fetching anything."""
    USELESS = "useless"
    """Nothing of it can be taken up: what it is of is not known, or nothing is kept."""
    DAMAGED = "damaged"
    """What says what it is of cannot be read, so nothing of it can be taken up."""
    FOREIGN = "foreign"
    """Not made by modelcask."""


@dataclass(frozen=True, slots=True)
class PartialFile:
    """One unfinished download."""

    key: str
    """The name of its folder in ``partial/``; of what is foreign, any name."""
    state: PartialState
    in_use: bool
    """Whether some process is at it now."""
    bytes_kept: int
    """What is claimed to be there; checked when it is taken up."""
    bytes_on_disk: int
    """What dropping it would free: more than is kept where it is preallocated, less where a blob has the same bytes."""
    changed_at: int
    """When it was last written to, in UTC microseconds."""
    uri: str | None = None
    """The canonical URI to pull to go on, where it can be told."""
    source: str | None = None
    """This and what follows are None where they are not known."""
    revision: str | None = None
    path: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DroppedPartials:
    """What dropping came to."""

    dropped: tuple[PartialFile, ...]
    kept: tuple[PartialFile, ...]
    """Those that somebody is at, or was since they were listed, and what is foreign."""
    bytes_freed: int


def list_partials(layout: Layout, names: Sequence[str | ModelURI], *, exists: bool) -> list[PartialFile]:
    """Return the unfinished downloads that are named by keys or URIs, all without a name, last changed first.

    Raises:
        NotFoundError: a name means none.
    """
    with fs.translated(layout.partials):
        paths = list(layout.partials.iterdir()) if exists else []
    found = [one for path in paths if (one := _read(layout, path)) is not None]
    found.sort(key=lambda one: (-one.changed_at, one.key))
    if not names:
        return found
    chosen: set[str] = set()
    for name in names:
        meant = {one.key for one in found if _is_meant(one, name)}
        if not meant:
            shown = name.canonical if isinstance(name, ModelURI) else display(name)
            raise NotFoundError(f"there is no unfinished download of {shown}; see: modelcask partials")
        chosen |= meant
    return [one for one in found if one.key in chosen]


def drop_partials(
    layout: Layout, open_catalog: Callable[[], Catalog], partials: Iterable[PartialFile]
) -> DroppedPartials:
    """Delete unfinished downloads, each under its key's lock.

    Raises:
        StorageError: the disk refuses; those before it are deleted.
    """
    dropped: list[PartialFile] = []
    kept: list[PartialFile] = []
    for one in partials:
        (dropped if _drop(layout, open_catalog, one) else kept).append(one)
    return DroppedPartials(tuple(dropped), tuple(kept), sum(one.bytes_on_disk for one in dropped))


def _drop(layout: Layout, open_catalog: Callable[[], Catalog], one: PartialFile) -> bool:
    folder = layout.partial(one.key)
    blob = None if one.state is PartialState.FOREIGN else _blob_of(layout, folder / "data")
    if blob is not None:  # losing a name changes its stamp
        sweep(layout, open_catalog(), one.key, blob)
        return not folder.exists()
    lock = None if one.state is PartialState.FOREIGN else locks.try_lock(layout.key_lock(one.key))
    if lock is None:
        return False
    try:
        now = _read(layout, folder)
        if now is None or replace(now, in_use=one.in_use) != one:
            return False
        discard_partial(folder)
    finally:
        lock.release(remove=True)
    return True


def _blob_of(layout: Layout, data: Path) -> Digest | None:
    """Return the blob that has the same inode: its process died between publishing and recording it."""
    try:
        found = data.lstat()
    except OSError:
        return None
    if found.st_nlink > 1:
        for folder in layout.blobs.iterdir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.inode() == found.st_ino:
                        return Digest("blake3", entry.name)
    return None


def _is_meant(one: PartialFile, name: str | ModelURI) -> bool:
    if isinstance(name, str):
        return one.key == name
    if one.source != name.source or name.revision not in {None, one.revision} or name.quant is not None:
        return False
    if name.pin is not None and name.pin.hex != one.key:
        return False
    return name.repo is None or is_named(name.path, one.path or "")


def is_key(name: str) -> bool:
    """Say whether a text is the key of an ingest, and so no URI."""
    return _KEY.fullmatch(name) is not None


def _read(layout: Layout, path: Path) -> PartialFile | None:
    """Return what lies at a path in ``partial/``, None if it is gone meanwhile."""
    try:
        top = path.lstat()
    except OSError:
        return None
    is_folder = stat.S_ISDIR(top.st_mode) and is_key(path.name)
    try:
        files = {entry.name: entry.lstat() for entry in path.iterdir()} if is_folder else {}
    except FileNotFoundError:
        return None
    except PermissionError:
        is_folder, files = False, {}
    ours = is_folder and all(stat.S_ISREG(file.st_mode) for file in files.values())
    written = files.values() or (top,)
    identity = read_meta(path / "meta") if ours else None
    data = files.get("data")
    kept = 0 if identity is None or data is None else min(claimed_bytes(path / "journal"), data.st_size)
    found = PartialFile(
        path.name,
        _state(data, kept, has_meta="meta" in files, is_read=identity is not None) if ours else PartialState.FOREIGN,
        in_use=ours and locks.is_held(layout.key_lock(path.name)),
        bytes_kept=kept,
        bytes_on_disk=sum(file.st_blocks * _BLOCK for file in files.values() if file.st_nlink == 1),
        changed_at=max(file.st_mtime_ns for file in written) // 1000,
    )
    if identity is None:
        return found
    return replace(
        found,
        uri=_uri_of(identity),
        source=identity.source,
        revision=identity.revision,
        path=identity.path,
        size_bytes=identity.size_bytes,
    )


def _state(data: os.stat_result | None, kept: int, *, has_meta: bool, is_read: bool) -> PartialState:
    if has_meta and not is_read:
        return PartialState.DAMAGED
    if data is None or not kept:
        return PartialState.USELESS
    if data.st_mode & stat.S_IWUSR:
        return PartialState.RESUMABLE
    # Nobody writes to it any more: it is taken up as a whole or not at all.
    return PartialState.SEALED if kept == data.st_size else PartialState.USELESS


def _uri_of(identity: Identity) -> str | None:
    """Return the canonical URI of what an ingest is of, None where no URI means just that."""
    try:
        uri = parse_uri(identity.source)
        if uri.repo is None:
            # Such a source promises nothing by itself: it was pinned, and without the pin it is another ingest.
            uri = replace(uri, pin=first_strong(identity.digests))
        else:
            uri = replace(uri, ref=None, revision=identity.revision, path=identity.path)
        same = parse_uri(uri.canonical)
    except InvalidURIError:
        return None
    return uri.canonical if (same.source, same.path) == (identity.source, identity.path) else None
