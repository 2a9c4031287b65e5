"""Recording what was pulled: manifest, links, and one transaction, in this order.

Killed after the manifest: it names blobs that are there, and the next pull writes it again. Killed after the
links: they point to blobs that are there, and nobody has been told of them. Only the transaction makes a lookup
find the revision.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from modelcask import locks
from modelcask.catalog.catalog import Catalog, RevisionRecord
from modelcask.digest import Digest
from modelcask.errors import CorruptStoreError, DigestMismatchError
from modelcask.layout import Layout, ingest_key
from modelcask.selection import parts_of
from modelcask.store import manifests, snapshots
from modelcask.store.manifests import Manifest, ManifestEntry, ManifestRef
from modelcask.types import Entry, RemoteFile, Resolution, Snapshot, TrustLevel
from modelcask.uri import ModelURI

_log = logging.getLogger("modelcask.store")


@dataclass(frozen=True, slots=True)
class Held:
    """One file of a revision that is in the store."""

    blob: Digest
    digests: tuple[Digest, ...]
    size_bytes: int
    bytes_fetched: int = 0


def record(
    layout: Layout, catalog: Catalog, resolution: Resolution, chosen: Sequence[str], held: Mapping[str, Held]
) -> Snapshot:
    """Make a revision findable; return the snapshot of the ``chosen`` paths, all of which are ``held``.

    Safe beside others who record the same revision: what each of them holds is joined.

    Raises:
        DigestMismatchError: the same immutable revision had other bytes here before.
    """
    uri = resolution.uri
    first = held[chosen[0]]
    revision = resolution.revision or next(f"sha256:{d.hex}" for d in first.digests if d.algorithm == "sha256")
    refs = {uri.ref: resolution.entrypoint} if uri.ref is not None else {}
    entries = tuple(_entry(uri, file, held.get(file.path)) for file in resolution.files)
    key = ingest_key(expected=None, source=uri.source, revision=revision, path="")
    lock = locks.lock(layout.key_lock(key))
    try:
        _refuse_changed_bytes(catalog, uri.source, revision, entries)
        now = time.time_ns() // 1000
        manifest = Manifest(
            manifests.FORMAT,
            uri.source,
            uri.scheme,
            revision,
            resolution.complete,
            {name: ManifestRef(now, entrypoint) for name, entrypoint in refs.items()},
            tuple(_manifest_entry(entry, held.get(entry.path)) for entry in entries),
        )
        manifests.write_manifest(layout, manifests.merge(_former(layout, catalog, manifest), manifest))
        links = [(entry.path, entry.blob) for entry in entries if entry.blob is not None]
        folder = snapshots.link_entries(layout, uri.source, revision, links)
        catalog.record_revision(RevisionRecord(uri.source, uri.scheme, revision, resolution.complete, refs, entries))
    finally:
        lock.release(remove=True)
    path = folder / (resolution.entrypoint or parts_of(uri, uri.path)[0])
    return Snapshot(uri.canonical, uri.source, revision, path, tuple(e for e in entries if e.path in set(chosen)))


def _former(layout: Layout, catalog: Catalog, manifest: Manifest) -> Manifest | None:
    """Return the revision's manifest as it is; a damaged one is made again from the catalog."""
    try:
        return manifests.read_manifest(layout.manifest(manifest.source, manifest.revision))
    except CorruptStoreError as error:
        _log.warning("%s; it is written again from the catalog", error)
    row = catalog.find_revision(manifest.source, revision=manifest.revision)
    entries = [] if row is None else catalog.list_entries(row.id)
    known = (
        ManifestEntry(
            entry.path,
            entry.size_bytes,
            None if entry.blob is None else str(entry.blob),
            promised=tuple(map(str, entry.promised)),
            trust=entry.trust,
        )
        for entry in entries
    )
    return msgspec.structs.replace(manifest, listed=row is not None and row.listed, refs={}, entries=tuple(known))


def _entry(uri: ModelURI, file: RemoteFile, held: Held | None) -> Entry:
    if held is None:
        return Entry(file.path, file.size_bytes, promised=file.digests)
    return Entry(file.path, held.size_bytes, held.blob, file.digests, trust_level(uri, file))


def trust_level(uri: ModelURI, file: RemoteFile) -> TrustLevel:
    """Return how a file that passed all its checks was proved."""
    if uri.pin is not None and uri.pin in file.digests:
        return TrustLevel.PINNED
    algorithms = {digest.algorithm for digest in file.digests}
    if "sha256" in algorithms:
        return TrustLevel.UPSTREAM_SHA256
    return TrustLevel.GIT_SHA1 if "git-sha1" in algorithms else TrustLevel.FIRST_USE


def _manifest_entry(entry: Entry, held: Held | None) -> ManifestEntry:
    promised = tuple(map(str, entry.promised))
    if held is None or entry.trust is None:
        return ManifestEntry(entry.path, entry.size_bytes, promised=promised)
    computed = tuple(str(digest) for digest in held.digests if digest != held.blob)
    return ManifestEntry(entry.path, entry.size_bytes, str(held.blob), computed, promised, entry.trust.value)


def _refuse_changed_bytes(catalog: Catalog, source: str, revision: str, entries: Sequence[Entry]) -> None:
    row = catalog.find_revision(source, revision=revision)
    if row is None:
        return
    before = {entry.path: entry.blob for entry in catalog.list_entries(row.id)}
    for entry in entries:
        known = before.get(entry.path)
        if known is not None and entry.blob is not None and known != entry.blob:
            raise DigestMismatchError(f"{source} {entry.path} at {revision}", str(known), str(entry.blob))
