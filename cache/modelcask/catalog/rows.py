"""What the catalog's answers are made of, and how its columns become values. Standard library only.

A column that no program of ours can have written, since the disk has changed it, raises one of ``SENSELESS`` here;
:func:`believing` and ``Database.read`` make CorruptStoreError of these.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, ParamSpec, TypeVar

from modelcask.digest import Digest
from modelcask.errors import CacheError, CorruptStoreError
from modelcask.types import Entry, ReplicaState, StatStamp, TrustLevel

LOCAL_STORE: Final = "local"
"""The name of the one store of today: the folder ``blobs/`` beside the catalog."""

SENSELESS: Final = (TypeError, ValueError, AttributeError)

_SIGN: Final = 1 << 63

_P = ParamSpec("_P")
_T = TypeVar("_T")


class RevisionState(StrEnum):
    """What may be expected of a revision."""

    LIVE = "live"
    DEGRADED = "degraded"
    """A blob was damaged, and the source no longer has the same bytes."""
    EVICTED = "evicted"
    """Dropped to meet a budget; its entries are kept, so that it can be fetched and proved again."""


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Its process died before it could say."""


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
class AttemptRow:
    """One try to make one file held. Times in UTC microseconds."""

    request_id: str
    """What the caller named the pull; the same for all files of one."""
    uri: str
    """The canonical URI that was pulled."""
    source: str
    path: str
    """The file inside the source."""
    started_at: int
    finished_at: int | None
    """None while it goes on, and where it was interrupted: nobody knows when."""
    outcome: Outcome | None
    """None while it goes on."""
    bytes_fetched: int
    """0 where it was interrupted: nobody lived to tell."""
    bytes_reused: int
    """What the store, or a kept partial, already held."""
    error_class: str | None
    """The name of the error's class; None unless it failed."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What attempts came to, and what the store saves. Sizes in bytes."""

    requests: int = 0
    """How many pulls were asked for, by their request ids."""
    files: int = 0
    """How many files they asked for, each time counted."""
    hits: int = 0
    """How many of these were had without a byte fetched."""
    running: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=dict)
    """How many files ended how."""
    failures: dict[str, int] = field(default_factory=dict)
    """How many failed with which error, the most frequent first."""
    bytes_fetched: int = 0
    bytes_hit: int = 0
    """What the hits would have cost."""
    bytes_resumed: int = 0
    """What the other attempts found kept from an earlier one."""
    first_at: int | None = None
    """When the oldest of the attempts began, in UTC microseconds; None if there is none."""
    blobs: int = 0
    """How many blobs are present."""
    bytes_stored: int = 0
    """Their size together."""
    bytes_without_dedup: int = 0
    """What the held files would take if each had its bytes to itself."""
    bytes_saved: int = 0
    """How much of that is saved because equal files share a blob."""

    @property
    def hit_rate(self) -> float | None:
        """The share of the files that were hits, from 0 to 1; None if none was asked for."""
        return self.hits / self.files if self.files else None


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


def believing(read: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let ``read`` raise CorruptStoreError where the columns that it reads come to no value."""

    @functools.wraps(read)
    def reading(*arguments: _P.args, **named: _P.kwargs) -> _T:
        try:
            return read(*arguments, **named)
        except CacheError:
            raise  # some are ValueErrors too
        except SENSELESS as error:
            raise senseless(error) from error

    return reading


def senseless(error: Exception) -> CorruptStoreError:
    """Return the error for a row that came to no value."""
    return CorruptStoreError(f"the catalog is damaged (a row makes no sense: {error}); run: modelcask rebuild")


def to_text(column: Any) -> str:
    """Return the text of a column that always has one."""
    if not isinstance(column, str):
        raise TypeError(f"{column!r} is no text")
    return column


def to_number(column: Any) -> int:
    """Return the number of a column that always has one."""
    if not isinstance(column, int):
        raise TypeError(f"{column!r} is no number")
    return column


def to_stamp(columns: Sequence[Any]) -> StatStamp:
    """Make a stamp of a replica's size, inode, mtime and ctime."""
    size_bytes, inode, mtime_ns, ctime_ns = columns
    return StatStamp(to_number(size_bytes), to_number(inode) % (2 * _SIGN), to_number(mtime_ns), to_number(ctime_ns))


def to_entry(columns: Sequence[Any]) -> Entry:
    """Make an entry of its path, size, BLAKE3, promised SHA-256, git SHA-1 and MD5, and trust, in this order."""
    path, size_bytes, blake3, sha256, git_sha1, md5, trust = columns
    promised = (("sha256", sha256), ("git-sha1", git_sha1), ("md5", md5))
    return Entry(
        to_text(path),
        None if size_bytes is None else to_number(size_bytes),
        None if blake3 is None else Digest("blake3", blake3.hex()),
        tuple(Digest(algorithm, value.hex()) for algorithm, value in promised if value is not None),
        None if trust is None else TrustLevel(trust),
    )
