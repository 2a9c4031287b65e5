"""The values that the layers hand to each other: frozen, slotted, and without behaviour that does I/O."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from modelcask.digest import Digest
from modelcask.errors import CacheError
from modelcask.ranges import ByteRange, RangeSet
from modelcask.uri import ModelURI


class TrustLevel(StrEnum):
    """How a blob was proved, from the strongest to the weakest."""

    PINNED = "pinned"
    """The user named the digest."""
    UPSTREAM_SHA256 = "upstream-sha256"
    """The source promised a SHA-256 before the first byte."""
    GIT_SHA1 = "git-sha1"
    """The source promised a git blob SHA-1 only."""
    FIRST_USE = "first-use"
    """Nobody promised anything: later pulls are held to what came first."""


class ReplicaState(StrEnum):
    """Where the bytes of a blob stand (DESIGN of the store: docs/architecture.md)."""

    PRESENT = "present"
    CONDEMNED = "condemned"
    TRASH = "trash"
    MISSING = "missing"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class StatStamp:
    """What ``stat`` said of a blob's file when its bytes were last proved; times in nanoseconds."""

    size_bytes: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, result: os.stat_result) -> StatStamp:
        """Take the stamp from an ``os.stat`` result."""
        return cls(result.st_size, result.st_ino, result.st_mtime_ns, result.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Credential:
    """Secret headers, bound to the one origin that may receive them (``scheme://host:port``)."""

    origin: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """Names and values."""


@dataclass(frozen=True, slots=True)
class HTTPLocation:
    """Bytes behind a URL. The URL may be signed, so it is never shown or stored."""

    url: str = field(repr=False)
    credential: Credential | None = None
    allow_http: bool = False
    """Whether plain http may carry it: the user has pinned the digest, so a changed byte is found."""


@dataclass(frozen=True, slots=True)
class FileLocation:
    """Bytes in a local file."""

    path: Path


Location = HTTPLocation | FileLocation


@dataclass(frozen=True, slots=True)
class XetLocation:
    """Bytes in the Xet storage of a Hub."""

    hash: str
    """What the storage calls the file: 64 hex digits, no digest of its bytes."""
    access: HTTPLocation
    """Where the Hub gives a token for the storage, for a while."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file as its source describes it before the first byte."""

    path: str
    """Its validated name inside the revision."""
    size_bytes: int | None
    digests: tuple[Digest, ...]
    """What the source promises: checked against the bytes, never believed."""
    location: Location
    etag: str | None = None
    """A strong validator, quotes included, for ``If-Range``; None where the source has none."""
    mirrors: tuple[HTTPLocation, ...] = ()
    """Where else the same bytes are, to be asked before ``location``; used only where a strong digest is promised."""
    xet: XetLocation | None = None
    """Where the same bytes are if ``location`` is not to serve that many; only with a strong promise."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a source answers to a URI: one immutable revision, and at least the files of it that the URI means."""

    uri: ModelURI
    revision: str | None
    """The revision's key at the source; None where only the hashed bytes will tell (``sha256:…``)."""
    files: tuple[RemoteFile, ...]
    complete: bool
    """Whether ``files`` is the whole revision."""
    entrypoint: str = ""
    """The path that a quantisation tag was resolved to; the first part of a split model."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a revision. ``blob`` is None where the path is known but its bytes are not held."""

    path: str
    size_bytes: int | None
    blob: Digest | None = None
    promised: tuple[Digest, ...] = ()
    trust: TrustLevel | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a pull or a lookup of one URI comes to."""

    uri: str
    """The canonical URI."""
    source: str
    revision: str
    path: Path
    """The local file, or the folder for a URI that means several files."""
    entries: tuple[Entry, ...]
    bytes_fetched: int = 0
    """Bytes that came over the network (or were copied from a local file) for this result."""
    bytes_reused: int = 0
    """Bytes that the store, or a kept partial, already held."""

    @property
    def size_bytes(self) -> int:
        """The size of the entries together."""
        return sum(entry.size_bytes or 0 for entry in self.entries)


class Phase(StrEnum):
    """What is being done for a file."""

    RESOLVING = "resolving"
    WAITING = "waiting"
    """for another process that fetches the same file"""
    CHECKING = "checking"
    """the kept part of an earlier attempt is hashed again"""
    DOWNLOADING = "downloading"
    RETRYING = "retrying"
    VERIFYING = "verifying"
    """all bytes are there; the last of them are hashed, and the digests compared"""
    PUBLISHING = "publishing"
    DONE = "done"
    REUSED = "reused"
    """the store already held these bytes"""
    FAILED = "failed"
    CANCELLED = "cancelled"
    """the caller did not want it any more"""


@dataclass(frozen=True, slots=True)
class Progress:
    """One event of a pull. At most ten a second for each file, phase changes always."""

    uri: str
    """The canonical URI that is being pulled."""
    path: str
    """The file inside it; empty while the URI is being resolved."""
    phase: Phase
    bytes_done: int = 0
    """Bytes of this file on disk and hashed, resumed ones included."""
    bytes_total: int | None = None
    bytes_resumed: int = 0
    """How many of ``bytes_done`` an earlier attempt or the store had left."""
    message: str = ""
    """Why, for RETRYING, WAITING and FAILED: safe to show."""
    request_id: str = ""
    """What the caller named this pull."""
    bytes_per_s: float | None = None
    """How fast the file comes, over the last seconds; only while it does."""
    seconds_left: float | None = None
    """When it will be there at that rate; only where its size is known."""
    digest: Digest | None = None
    """What its source promises of the file, if that is a strong one: equal for equal files."""


ProgressCallback = Callable[[Progress], None]


class Stream(Protocol):
    """A run of bytes on its way into a sink. Not safe for concurrent calls."""

    @property
    def position(self) -> int:
        """The offset behind what has been taken."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Take the bytes that follow, in any chunking; returns when there is room for more.

        Raises:
            StoreFullError: the disk is full; what is written stays.
            StorageError: the disk failed.
        """
        ...

    def close(self) -> None:
        """End the run: what it has brought counts. Waits for nothing; safe to call twice."""
        ...


class Sink(Protocol):
    """Where a transfer's bytes go: an unfinished file of known identity that survives the process.

    Hashing and writing happen in threads while more arrives, memory bounded. Used on one event loop.
    """

    @property
    def held(self) -> RangeSet:
        """The bytes that have been taken, by an earlier attempt or by this one. Not to be changed by others."""
        ...

    def stream(self, start: int) -> Stream:
        """Return a place for the bytes from ``start`` on. Streams may run side by side, over different bytes."""
        ...

    async def restart(self) -> None:
        """Throw the bytes away and begin at zero in a new file. No stream may be open."""
        ...

    async def check(self) -> CacheError | None:
        """Return what is wrong with the bytes, now that all have come; None if they are what was promised."""
        ...

    async def digest_of(self, part: ByteRange) -> bytes:
        """Return the BLAKE3 of bytes that are held."""
        ...

    async def forget(self, parts: Iterable[ByteRange]) -> None:
        """Take bytes back: they are wrong. No stream may be open."""
        ...
