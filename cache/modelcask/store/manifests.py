"""Manifests: one small file a revision, from which the catalog's rows can be made again.

A manifest is written before the rows that it stands for (so a crash leaves at most a manifest too many) and
names only what was proved. Its fields are part of the on-disk format, described in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from modelcask.errors import CorruptStoreError, SchemaVersionError
from modelcask.layout import Layout
from modelcask.store import fs
from modelcask.types import TrustLevel

FORMAT: Final = 1


class ManifestEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of a revision. ``blob`` is absent where the path is known but its bytes are not held."""

    path: str
    size_bytes: int | None = None
    blob: str | None = None
    digests: tuple[str, ...] = ()
    """Computed from the bytes, beside the BLAKE3 that is the blob's name."""
    promised: tuple[str, ...] = ()
    trust: str | None = None


class ManifestRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A movable name that pointed to this revision when it was last resolved."""

    resolved_at: int
    """UTC microseconds."""
    entrypoint: str = ""


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one revision."""

    format: int
    source: str
    kind: str
    revision: str
    listed: bool = False
    """Whether ``entries`` is the whole revision."""
    refs: dict[str, ManifestRef] = {}
    entries: tuple[ManifestEntry, ...] = ()


def write_manifest(layout: Layout, manifest: Manifest) -> None:
    """Put the manifest durably in place of the revision's former one."""
    path = layout.manifest(manifest.source, manifest.revision)
    if fs.make_folder("manifest", path.parent):
        fs.sync_folder("manifest", layout.manifests)
    _remove_left_over(path)
    fs.write_atomic("manifest", path, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


def read_manifest(path: Path) -> Manifest | None:
    """Return the manifest at ``path``, None if there is none.

    Raises:
        CorruptStoreError: it cannot be read.
        SchemaVersionError: a newer modelcask has written it.
    """
    try:
        manifest = msgspec.json.decode(fs.read_file(path), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise CorruptStoreError(f"the manifest {path} cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise SchemaVersionError(f"manifest format {manifest.format}", f"manifest format {FORMAT}")
    return manifest


def remove_manifest(layout: Layout, source: str, revision: str) -> None:
    """Remove the manifest of a revision of which nothing is held any more."""
    path = layout.manifest(source, revision)
    _remove_left_over(path)
    fs.unlink("manifest", path)
    fs.remove_folder("manifest", path.parent)


def _remove_left_over(path: Path) -> None:
    # of a writer that was killed; the caller holds the revision's lock
    for temporary in path.parent.glob(f".{path.name[:100]}.*"):
        fs.unlink("manifest", temporary)


def list_manifests(layout: Layout) -> Iterator[Path]:
    """Yield the path of every manifest, in order."""
    for folder in sorted(layout.manifests.iterdir()):
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.suffix == ".json" and path.name[0] != ".")


def merge(old: Manifest | None, new: Manifest) -> Manifest:
    """Join what two pulls know of one revision: held beats known, the whole listing a part, proof the weaker one."""
    if old is None:
        return new
    entries = {entry.path: entry for entry in old.entries}
    for entry in new.entries:
        known = entries.get(entry.path)
        if known is None or known.blob is None or (entry.blob is not None and not _is_stronger(known, entry)):
            entries[entry.path] = entry
    return msgspec.structs.replace(
        new,
        listed=old.listed or new.listed,
        refs={**old.refs, **new.refs},
        entries=tuple(entries[path] for path in sorted(entries)),
    )


def _is_stronger(known: ManifestEntry, entry: ManifestEntry) -> bool:
    """Say whether the same bytes were proved better before than now, as the catalog keeps it too."""
    if known.blob != entry.blob or known.trust is None or entry.trust is None:
        return False
    order = list(TrustLevel)
    return order.index(TrustLevel(known.trust)) < order.index(TrustLevel(entry.trust))


def without(manifest: Manifest, paths: set[str]) -> Manifest:
    """Return the manifest with the entries at ``paths`` known but no longer held."""
    return msgspec.structs.replace(
        manifest,
        entries=tuple(
            ManifestEntry(entry.path, entry.size_bytes, promised=entry.promised) if entry.path in paths else entry
            for entry in manifest.entries
        ),
    )
