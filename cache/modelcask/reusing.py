"""Reusing: what of a resolution the store holds already, whatever source its bytes came from."""

from __future__ import annotations

from modelcask.catalog.catalog import Catalog
from modelcask.digest import first_strong
from modelcask.finding import Finder
from modelcask.layout import Layout, ingest_key
from modelcask.publishing import sweep
from modelcask.recording import Held
from modelcask.types import RemoteFile, Resolution
from modelcask.uri import ModelURI


def key_of(resolution: Resolution, file: RemoteFile) -> str:
    """Return the key under which a file is ingested, the same in every process that wants the same bytes."""
    expected = first_strong(file.digests)
    source, revision = resolution.uri.source, resolution.revision
    return ingest_key(expected=expected, source=source, revision=revision, path=file.path)


def find_held(
    layout: Layout, catalog: Catalog, finder: Finder, resolution: Resolution, file: RemoteFile
) -> Held | None:
    """Return the blob that proves what the source promises of a file, leased; None if it has to be fetched."""
    for promised in file.digests if finder.knows_any(file.digests) else ():
        row = catalog.find_blob(promised) if promised.strong else None
        if row is None and not promised.strong:
            # Others can make a file with the same weak digest, so it is believed only inside its own source.
            row = catalog.find_blob_in_source(resolution.uri.source, promised)
        if row is None or (file.size_bytes is not None and row.size_bytes != file.size_bytes):
            continue
        computed = {digest.algorithm: digest for digest in row.digests}
        if any(computed.get(promise.algorithm, promise) != promise for promise in file.digests):
            continue  # one promise fits and another does not: let the transfer say which
        if finder.claim(row.digest):
            sweep(layout, catalog, key_of(resolution, file), row.digest)
            return Held(row.digest, row.digests, row.size_bytes)
    return _find_recorded(layout, catalog, finder, resolution, file)


def _find_recorded(
    layout: Layout, catalog: Catalog, finder: Finder, resolution: Resolution, file: RemoteFile
) -> Held | None:
    """Return the blob that this very path of this very revision already has."""
    if resolution.revision is None:
        return None
    uri = ModelURI(resolution.uri.scheme, resolution.uri.source, file.path, revision=resolution.revision)
    snapshot = finder.find(uri)
    entry = next((entry for entry in snapshot.entries if entry.path == file.path), None) if snapshot else None
    row = None if entry is None or entry.blob is None else catalog.find_blob(entry.blob)
    if row is None:
        return None
    sweep(layout, catalog, key_of(resolution, file), row.digest)
    return Held(row.digest, row.digests, row.size_bytes)
