"""What the catalog's answers are made of, and how its columns become values. Standard library only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from modelcask.digest import Digest
from modelcask.types import Entry, ReplicaState, StatStamp, TrustLevel

LOCAL_STORE: Final = "local"
"""The name of the one store of today: the folder ``blobs/`` beside the catalog."""

_SIGN: Final = 1 << 63


class RevisionState(StrEnum):
    """What may be expected of a revision."""

    LIVE = "live"
    DEGRADED = "degraded"
    """A blob was damaged, and the source no longer has the same bytes."""
    EVICTED = "evicted"
    """Dropped to meet a budget; its entries are kept, so that it can be fetched and proved again."""


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A blob and where its bytes stand, whatever their state."""

    digest: Digest
    size_bytes: int
    digests: tuple[Digest, ...]
    """Every digest computed from the bytes, the BLAKE3 first."""
    state: ReplicaState
    stamp: StatStamp
    verified_at: int | None
    """When the bytes were last proved, in UTC microseconds; None if never here."""


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """A revision, as one ref or its own key named it. Times in UTC microseconds."""

    id: int
    source: str
    key: str
    listed: bool
    """Whether its entries are all files that the source has."""
    state: RevisionState
    entrypoint: str
    """What the ref that was asked for means inside it; empty if nothing in particular."""
    fetched_at: int
    last_used_at: int


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """One revision of which something is held. Times in UTC microseconds."""

    id: int
    source: str
    revision: str
    refs: tuple[str, ...]
    """The names that point to it now."""
    listed: bool
    files_held: int
    files_known: int
    files_damaged: int
    """How many of the held ones have bytes that are missing or in quarantine."""
    size_bytes: int
    """The size of the held files together."""
    fetched_at: int
    last_used_at: int
    trust: tuple[TrustLevel, ...]
    """How its files were proved, the strongest first."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The catalog in numbers."""

    blobs: dict[ReplicaState, int]
    bytes: dict[ReplicaState, int]
    revisions: int
    entries_held: int
    entries_known: int


def now_us() -> int:
    """Return the time in UTC microseconds."""
    return time.time_ns() // 1000


def to_signed(inode: int) -> int:
    """Fold an unsigned 64-bit number, as some file systems number their files, into the databases' signed one."""
    return inode - 2 * _SIGN if inode >= _SIGN else inode


def to_stamp(columns: Sequence[Any]) -> StatStamp:
    """Make a stamp of a replica's size, inode, mtime and ctime."""
    size_bytes, inode, mtime_ns, ctime_ns = columns
    return StatStamp(size_bytes, inode % (2 * _SIGN), mtime_ns, ctime_ns)


def to_entry(columns: Sequence[Any]) -> Entry:
    """Make an entry of its path, size, BLAKE3, promised SHA-256, git SHA-1 and MD5, and trust, in this order."""
    path, size_bytes, blake3, sha256, git_sha1, md5, trust = columns
    promised = (("sha256", sha256), ("git-sha1", git_sha1), ("md5", md5))
    return Entry(
        path,
        size_bytes,
        None if blake3 is None else Digest("blake3", blake3.hex()),
        tuple(Digest(algorithm, value.hex()) for algorithm, value in promised if value is not None),
        None if trust is None else TrustLevel(trust),
    )
