"""What can be told of a URI without changing anything: values for ``explain`` and ``show``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelcask.catalog.lookup import Found, FoundRevision
from modelcask.digest import Digest
from modelcask.layout import Layout
from modelcask.types import Entry, ReplicaState, Snapshot, TrustLevel
from modelcask.uri import ModelURI


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that a pull would make held."""

    path: str
    size_bytes: int | None
    promised: tuple[Digest, ...]
    held: bool
    """Whether the store has these bytes already, from whatever source: then they cost nothing."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a URI is read, what is cached of it, and what a pull would fetch."""

    uri: ModelURI
    cached: Snapshot | None
    """All that the URI means, if all of it is cached."""
    planned: tuple[PlannedFile, ...] | None
    """None where it is cached, or where the source could not be asked."""
    reason: str
    """Why the source could not be asked."""

    @property
    def bytes_to_fetch(self) -> int | None:
        """What a pull would transfer; None where a size is unknown or the source could not be asked."""
        if self.cached is not None:
            return 0
        if self.planned is None:
            return None
        sizes = [file.size_bytes for file in self.planned if not file.held]
        return None if None in sizes else sum(size for size in sizes if size is not None)


@dataclass(frozen=True, slots=True)
class ShownFile:
    """One path of a revision, with all that is known of it."""

    path: str
    size_bytes: int | None
    blob: Digest | None
    state: ReplicaState | None
    trust: TrustLevel | None
    promised: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class SnapshotDetail:
    """Everything known here of one revision."""

    uri: str
    source: str
    revision: str
    listed: bool
    """Whether ``files`` is the whole revision."""
    folder: Path
    files: tuple[ShownFile, ...]

    @classmethod
    def of(
        cls, uri: ModelURI, revision: FoundRevision, files: Sequence[tuple[Entry, Found | None]], layout: Layout
    ) -> SnapshotDetail:
        """Join what the catalog says of a revision."""
        return cls(
            uri.canonical,
            uri.source,
            revision.key,
            revision.listed,
            layout.snapshot(uri.source, revision.key),
            tuple(
                ShownFile(
                    entry.path,
                    entry.size_bytes,
                    entry.blob,
                    None if found is None else found.state,
                    entry.trust,
                    entry.promised,
                )
                for entry, found in files
            ),
        )
