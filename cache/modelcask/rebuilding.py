"""Rebuilding the catalog from what is on disk: the catalog is itself a cache.

Every blob file is hashed again, so that a row means the same as ever: proved bytes (I1). Manifests bring back
the URIs. A manifest or a file that cannot be believed is named and left alone. The former catalog is kept in
``backups/``. The rebuilt one is marked, and nothing is collected until a person confirms it (I6).

The new catalog is made beside the old one and takes its place in one rename, so that a crash leaves one of them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelcask import locks
from modelcask.catalog.catalog import Catalog, NewBlob, RevisionRecord
from modelcask.catalog.lookup import LookupReader
from modelcask.digest import Digest
from modelcask.errors import CacheError, NotFoundError, SchemaVersionError
from modelcask.layout import Layout
from modelcask.relpath import check_relpath
from modelcask.store import blobs, fs, manifests, snapshots
from modelcask.store.manifests import Manifest
from modelcask.store.root import make_folders, recover_format
from modelcask.types import Entry, StatStamp, TrustLevel

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_GROUP = 64
_PATIENCE_S = 10.0


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild found."""

    blobs: int = 0
    size_bytes: int = 0
    revisions: int = 0
    entries: int = 0
    missing: list[str] = field(default_factory=list)
    """Entries of manifests whose blob is not there: source, path."""
    former: Path | None = None
    """Where the catalog that was replaced is kept."""
    refused: list[str] = field(default_factory=list)
    """Files and manifests that cannot be believed, each with the reason."""


def rebuild_catalog(layout: Layout, hashed: Callable[[int], None] | None) -> Rebuilt:
    """Make the catalog of a root again, and FORMAT if that is gone too.

    Lookups of other processes go on with the former one meanwhile. ``hashed`` is called with the number of bytes after
    each block that was read.

    Raises:
        NotFoundError: there is no store.
        BusyError: another process has the catalog open for writing.
        SchemaVersionError: a newer modelcask has made the catalog; rebuilding it here would lose what is new in it.
    """
    if not recover_format(layout):
        raise NotFoundError(f"there is no store in {layout.root}; nothing to rebuild")
    beside = replace(layout, catalog_name="rebuild")
    make_folders(layout)
    _refuse_newer(layout)
    with locks.locked(layout.schema_lock, timeout_s=_PATIENCE_S):
        discard(beside)
        catalog = Catalog.open(beside)
        try:
            result = _fill(layout, catalog, hashed)
        finally:
            catalog.close()
        result.former = put_in_place(layout, beside)
    return result


def _refuse_newer(layout: Layout) -> None:
    reader = LookupReader(layout)
    try:
        reader.has_schema()
    except SchemaVersionError:
        raise
    except CacheError:
        pass  # damaged: that is what a rebuild is for
    finally:
        reader.close()


def _fill(layout: Layout, catalog: Catalog, hashed: Callable[[int], None] | None) -> Rebuilt:
    result = Rebuilt()
    known = _adopt_blobs(layout, catalog, result, hashed)
    latest: dict[tuple[str, str], int] = {}
    documents = list(_read_manifests(layout, result))
    for manifest in documents:
        for name, ref in manifest.refs.items():
            at = (manifest.source, name)
            latest[at] = max(latest.get(at, 0), ref.resolved_at)
    for manifest in documents:
        refs = {
            name: ref.entrypoint
            for name, ref in manifest.refs.items()
            if ref.resolved_at == latest[manifest.source, name]
        }
        try:
            entries = [_entry(manifest, entry, known, result) for entry in manifest.entries]
        except CacheError as error:
            result.refused.append(f"{layout.manifest(manifest.source, manifest.revision)}: {error}")
            continue
        _record(layout, catalog, manifest, refs, entries)
        held = sum(1 for entry in entries if entry.blob is not None)
        result.revisions += held > 0
        result.entries += held
    catalog.set_meta("rebuilt_at", str(time.time_ns() // 1000))
    return result


def _adopt_blobs(
    layout: Layout, catalog: Catalog, result: Rebuilt, hashed: Callable[[int], None] | None
) -> dict[Digest, NewBlob]:
    known: dict[Digest, NewBlob] = {}
    group: list[NewBlob] = []
    for path in sorted(layout.blobs.glob("*/*")):
        if _HEX.fullmatch(path.name) is None or path.parent.name != path.name[:2]:
            result.refused.append(f"{path}: not the name of a blob")
            continue
        if path.is_symlink() or not path.is_file():
            result.refused.append(f"{path}: no file; moved to {_put_aside(layout, path.name)}")
            continue
        try:
            # Also what weak promises are checked against, so that everything a pull can reuse is there again.
            digests = blobs.hash_all(path, ("blake3", "sha256", "git-sha1"), hashed)
        except CacheError as error:
            result.refused.append(str(error))
            continue
        digest = digests[0]
        if digest.hex != path.name:
            aside = _put_aside(layout, path.name)
            result.refused.append(f"{path}: its bytes are not what its name says; moved to {aside}")
            continue
        stamp = StatStamp.of(path.stat())
        known[digest] = NewBlob(digest, stamp.size_bytes, tuple(digests), stamp)
        group.append(known[digest])
        if len(group) == _GROUP:
            catalog.record_blobs(group)
            group = []
    catalog.record_blobs(group)
    result.blobs, result.size_bytes = len(known), sum(blob.size_bytes for blob in known.values())
    return known


def _put_aside(layout: Layout, name: str) -> Path | None:
    wrong = Digest("blake3", name)
    with locks.locked(layout.blob_lock(wrong)):
        return blobs.quarantine(layout, wrong)


def _read_manifests(layout: Layout, result: Rebuilt) -> list[Manifest]:
    documents: list[Manifest] = []
    for path in manifests.list_manifests(layout):
        try:
            manifest = manifests.read_manifest(path)
        except CacheError as error:
            result.refused.append(str(error))
            continue
        if manifest is not None and layout.manifest(manifest.source, manifest.revision) != path:
            result.refused.append(f"{path}: it names another revision than its place says")
        elif manifest is not None:
            documents.append(manifest)
    return documents


def _record(layout: Layout, catalog: Catalog, manifest: Manifest, refs: dict[str, str], entries: list[Entry]) -> None:
    held = [(entry.path, entry.blob) for entry in entries if entry.blob is not None]
    if held:
        snapshots.link_entries(layout, manifest.source, manifest.revision, held)
        catalog.record_revision(
            RevisionRecord(manifest.source, manifest.kind, manifest.revision, manifest.listed, refs, tuple(entries))
        )


def _entry(manifest: Manifest, entry: manifests.ManifestEntry, known: dict[Digest, NewBlob], result: Rebuilt) -> Entry:
    check_relpath(entry.path)
    promised = tuple(map(Digest.parse, entry.promised))
    blob = Digest.parse(entry.blob) if entry.blob is not None else None
    if blob is not None and blob not in known:
        result.missing.append(f"{manifest.source} {entry.path}")
        blob = None
    if blob is None:
        return Entry(entry.path, entry.size_bytes, promised=promised)
    computed = {digest.algorithm: digest for digest in known[blob].digests}
    for told in (*promised, *map(Digest.parse, entry.digests)):
        if computed.get(told.algorithm, told) != told:
            # Whoever wrote this did not hash these bytes: a name must not come to mean another file.
            result.refused.append(f"{manifest.source} {entry.path}: its manifest says {told}, its blob is not that")
            return Entry(entry.path, entry.size_bytes, promised=promised)
    size, trust = known[blob].size_bytes, TrustLevel(entry.trust or TrustLevel.FIRST_USE)
    return Entry(entry.path, size, blob, promised, trust)


def put_in_place(layout: Layout, rebuilt: Layout) -> Path | None:
    """Make the rebuilt catalog, closed, the one in use; return where the former is kept, None if there was none.

    The former's write-ahead log goes first: left behind, SQLite would replay it into the new catalog. Killed
    after that, the former stands without its latest commits, which is a state to rebuild from again.
    """
    kept = None
    if os.path.lexists(layout.catalog):
        kept = layout.backups / f"replaced-{time.time_ns() // 1000}.db"
        for suffix in ("-wal", "-shm"):
            beside = layout.catalog.with_name(layout.catalog.name + suffix)
            if os.path.lexists(beside):
                fs.rename("rebuild", beside, kept.with_name(kept.name + suffix))
        if layout.catalog.is_file() and not layout.catalog.is_symlink():
            fs.link("rebuild", layout.catalog, kept)
        else:
            fs.rename("rebuild", layout.catalog, kept)  # a file cannot be renamed over a folder
        fs.sync_folder("rebuild", layout.backups)
    fs.rename("rebuild", rebuilt.catalog, layout.catalog)
    fs.sync_folder("rebuild", layout.root)
    return kept


def discard(rebuilt: Layout) -> None:
    """Remove what an earlier rebuild left when it died."""
    for suffix in ("-wal", "-shm", ""):
        fs.clear("rebuild", rebuilt.catalog.with_name(rebuilt.catalog.name + suffix))
