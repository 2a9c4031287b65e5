"""Finding what is cached: no network, no event loop, and none of the heavy imports.

A lookup is one prepared statement, one ``stat`` and, once a process for each blob, a line in the process's
session file. The lease comes before the state is read (I4): a collector that condemns the blob meanwhile either
sees the lease or is seen.

The ``stat`` goes through the snapshot's link, so it proves the link and the blob at once. If it does not agree
with the stamp that was taken when the bytes were last proved, the blob is hashed again before it is served.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelcask.catalog.lookup import Found, FoundRevision, LookupReader
from modelcask.digest import Digest
from modelcask.errors import CacheError, CorruptStoreError, NotCachedError
from modelcask.layout import Layout
from modelcask.proving import prove_again
from modelcask.relpath import gguf_parts
from modelcask.selection import Wanted, parts_of
from modelcask.store import blobs, snapshots
from modelcask.store.manifests import read_manifest
from modelcask.store.root import has_lost_catalog, read_format
from modelcask.store.sessions import open_session
from modelcask.types import Entry, ReplicaState, Snapshot, StatStamp
from modelcask.uri import ModelURI

if TYPE_CHECKING:
    from modelcask.catalog.catalog import Catalog

_DAMAGED: Final = frozenset({ReplicaState.MISSING, ReplicaState.QUARANTINED})


class Finder:
    """Lookups in one root. Thread-safe; opening it costs nothing until the first lookup."""

    def __init__(self, layout: Layout, open_catalog: Callable[[], Catalog]) -> None:
        self._layout = layout
        self._open_catalog = open_catalog
        self._reader: LookupReader | None = None
        self._guard = threading.Lock()

    def close(self) -> None:
        """Close the database connection."""
        with self._guard:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def find(self, uri: ModelURI, wanted: Wanted | None = None) -> Snapshot | None:
        """Return what the cache holds for a URI, None unless all of it is there and proved.

        ``wanted`` narrows a URI that means several files. What is returned is leased to this process.
        """
        reader = self._open()
        if reader is None:
            return None
        if uri.path or uri.quant:
            found = self._find_file(reader, uri)
            if found is not None:
                return self._file_snapshot(reader, uri, found)
        if uri.quant or uri.pin:
            return None
        return self._find_folder(reader, uri, wanted)

    def known(self, uri: ModelURI) -> tuple[FoundRevision, list[tuple[Entry, Found | None]]] | None:
        """Return the revision that a URI's ref points to here and all its known entries, held or not."""
        reader = self._open()
        if reader is None:
            return None
        revision = reader.find_revision(uri.source, ref=uri.ref, revision=uri.revision)
        return None if revision is None else (revision, reader.list_files(revision.id))

    def held(self, uri: ModelURI) -> set[Digest]:
        """Return the blobs that are held for a URI, in whatever state, complete or not."""
        known = self.known(uri)
        if known is None:
            return set()
        path = uri.path or known[0].entrypoint
        return {found.digest for entry, found in known[1] if found is not None and is_named(path, entry.path)}

    def explain_absence(self, uri: ModelURI) -> NotCachedError:
        """Return the error that says what of a URI is missing."""
        if has_lost_catalog(self._layout):
            return NotCachedError(uri.canonical, "is not known, since the catalog is gone", step="modelcask rebuild")
        known = self.known(uri)
        return NotCachedError(uri.canonical) if known is None else NotCachedError(uri.canonical, _absence(uri, *known))

    def knows_any(self, digests: Iterable[Digest]) -> bool:
        """Say whether some blob has one of these digests. Quick: a pull of a thousand files asks for each of them."""
        reader = self._open()
        return reader is not None and any(map(reader.knows, digests))

    def claim(self, digest: Digest) -> bool:
        """Lease a blob, then make sure that it is there and proved; False if it is not to be had."""
        open_session(self._layout).lease(digest)
        row = self._open_catalog().find_blob(digest)
        if row is None:
            return False
        if row.state is ReplicaState.PRESENT and blobs.stamp(self._layout, digest) == row.stamp:
            return True
        return prove_again(self._layout, self._open_catalog(), digest, row.state, row.stamp)

    def _open(self) -> LookupReader | None:
        with self._guard:
            if self._reader is None:
                # Reading never makes a root, and never one of a layout that we do not know.
                if read_format(self._layout) is None or not self._layout.catalog.exists():
                    return None
                reader = LookupReader(self._layout)
                if not reader.has_schema():
                    self._open_catalog()  # which upgrades an older one
                self._reader = reader
            return self._reader

    def _find_file(self, reader: LookupReader, uri: ModelURI) -> Found | None:
        if uri.pin is not None:
            found = reader.find_file_by_pin(uri.source, uri.pin, uri.path)
            return found if found is None or uri.revision in {None, found.revision} else None
        return reader.find_file(uri.source, ref=uri.ref, revision=uri.revision, path=uri.path)

    def _file_snapshot(self, reader: LookupReader, uri: ModelURI, first: Found) -> Snapshot | None:
        parts = parts_of(uri, first.path)
        folder = self._layout.snapshot(uri.source, first.revision)
        entries: list[Entry] = []
        for name in parts:
            found = first if name == first.path else self._part(reader, uri, first.revision, name)
            if found is None or not self._serve(reader, uri.source, found, folder):
                return None
            entries.append(_entry(found))
        return Snapshot(uri.canonical, uri.source, first.revision, folder / parts[0], tuple(entries))

    @staticmethod
    def _part(reader: LookupReader, uri: ModelURI, revision: str, name: str) -> Found | None:
        return reader.find_file(uri.source, ref=None, revision=revision, path=name)

    def _find_folder(self, reader: LookupReader, uri: ModelURI, wanted: Wanted | None) -> Snapshot | None:
        revision = reader.find_revision(uri.source, ref=uri.ref, revision=uri.revision)
        if revision is None or not revision.listed:
            return None  # without the whole listing nobody knows whether it is all there
        root = self._layout.snapshot(uri.source, revision.key)
        entries: list[Entry] = []
        for entry, found in reader.list_files(revision.id, uri.path):
            if wanted is not None and not wanted(entry.path):
                continue
            if found is None or not self._serve(reader, uri.source, found, root):
                return None
            entries.append(entry)
        if not entries:
            return None
        return Snapshot(uri.canonical, uri.source, revision.key, root / uri.path, tuple(entries))

    def _serve(self, reader: LookupReader, source: str, found: Found, folder: Path) -> bool:
        if open_session(self._layout).lease(found.digest):
            # New to this process: what was read before the lease proves nothing.
            again = reader.find_file(source, ref=None, revision=found.revision, path=found.path)
            if again is None or again.digest != found.digest:
                return False
            found = again
        if found.state is ReplicaState.PRESENT and _stamp(f"{folder}/{found.path}") == found.stamp:
            return True
        if not prove_again(self._layout, self._open_catalog(), found.digest, found.state, found.stamp):
            return False
        self._refuse_contradiction(source, found)
        snapshots.link_entries(self._layout, source, found.revision, [(found.path, found.digest)])
        return True

    def _refuse_contradiction(self, source: str, found: Found) -> None:
        """Raise CorruptStoreError if the manifest says that the path means other bytes than the catalog does.

        Where the link was not what it should be, the catalog is the only witness, and one flipped bit in it would
        make a name mean another file.
        """
        try:
            manifest = read_manifest(self._layout.manifest(source, found.revision))
        except CacheError:
            return  # the catalog is all there is
        told = {entry.path: entry.blob for entry in manifest.entries} if manifest is not None else {}
        if told.get(found.path) not in {None, str(found.digest)}:
            raise CorruptStoreError(
                f"catalog and manifest of {source} name different bytes for {found.path}; run: modelcask rebuild"
            )


def _absence(uri: ModelURI, revision: FoundRevision, files: list[tuple[Entry, Found | None]]) -> str:
    below = [found for entry, found in files if is_named(uri.path or revision.entrypoint, entry.path)]
    held = [found for found in below if found is not None]
    damaged = sum(1 for found in held if found.state in _DAMAGED)
    if damaged:
        return f"is held, but damaged ({damaged} of {len(held)} files)"
    if held and uri.pin is not None:
        return "is held with other bytes than the pin"
    if len(held) in range(1, len(below)):
        return f"is only partly cached ({len(held)} of {len(below)} known files)"
    if held and not (uri.path or uri.quant or revision.listed):
        return f"is only partly known here ({len(held)} files are held, and the source may have more)"
    return "is not cached"


def _stamp(path: str) -> StatStamp | None:
    try:
        return StatStamp.of(os.stat(path))  # noqa: PTH116 - a Path costs as much as the query
    except OSError:
        return None


def _entry(found: Found) -> Entry:
    return Entry(found.path, found.size_bytes, found.digest, trust=found.trust)


def is_named(path: str, name: str) -> bool:
    """Say whether a URI's path means the entry: itself, another part of the same split model, or one below it."""
    return not path or name in gguf_parts(path) or name.startswith(path + "/")
