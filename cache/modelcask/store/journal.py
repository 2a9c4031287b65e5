"""What survives of an unfinished ingest: who it is (``meta``) and which segments are on disk (``journal``).

The journal is append-only. One record a segment: offset, length, the first 16 bytes of the segment's BLAKE3,
and a CRC over these, 32 bytes in all. A record that fails its CRC is passed over.

A segment is claimed as soon as it is written, not first when it is durable, so that a killed process loses nothing
that it finished. That is safe because **a claim is never believed**: on resume each one is checked against the
bytes on disk, so one that a power cut has made false costs its segment and nothing else. Data and journal are
synced now and then, so that a power cut does not cost much either.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from modelcask.digest import Digest, first_strong
from modelcask.errors import InvalidDigestError
from modelcask.ranges import ByteRange, RangeSet
from modelcask.store import fs

_RECORD: Final = struct.Struct("<QI16sI")
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of the file that is on disk, with the first 16 bytes of its BLAKE3."""

    offset: int
    length: int
    check: bytes

    @property
    def end(self) -> int:
        """The offset behind the segment."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Identity:
    """What an ingest is of. Bytes of two attempts may be joined only if this is equal and ``resumable``."""

    source: str
    revision: str | None
    path: str
    size_bytes: int | None
    etag: str | None
    digests: tuple[Digest, ...]

    @property
    def resumable(self) -> bool:
        """Whether equal identity means equal bytes: a strong validator, or a strong digest that will be checked."""
        return self.etag is not None or first_strong(self.digests) is not None


class _Meta(msgspec.Struct, frozen=True):
    format: int
    source: str
    revision: str | None
    path: str
    size_bytes: int | None
    etag: str | None
    digests: list[str]

    @classmethod
    def of(cls, identity: Identity) -> _Meta:
        return cls(
            _FORMAT,
            identity.source,
            identity.revision,
            identity.path,
            identity.size_bytes,
            identity.etag,
            [str(digest) for digest in identity.digests],
        )


def same_content(path: Path, identity: Identity) -> bool:
    """Say whether the ingest described at ``path`` is certain to be of the same bytes as ``identity``.

    An equal strong digest suffices, whatever place the bytes came from; else everything must be equal.
    """
    if not identity.resumable:
        return False
    try:
        found = msgspec.json.decode(fs.read_file(path), type=_Meta)
    except (OSError, msgspec.DecodeError):
        return False
    if found.format != _FORMAT:
        return False
    wanted = _Meta.of(identity)
    strong = {str(digest) for digest in identity.digests if digest.strong}
    if strong & set(found.digests):
        return found.size_bytes in {None, wanted.size_bytes} or wanted.size_bytes is None
    return found == wanted


def read_meta(path: Path) -> Identity | None:
    """Return what the ingest described at ``path`` is of, None if that is not there or cannot be read."""
    try:
        found = msgspec.json.decode(fs.read_file(path), type=_Meta)
        digests = tuple(map(Digest.parse, found.digests))
    except (OSError, msgspec.DecodeError, InvalidDigestError):
        return None
    if found.format != _FORMAT:
        return None
    return Identity(found.source, found.revision, found.path, found.size_bytes, found.etag, digests)


class Journal:
    """The journal of one ingest while it is written, by one thread at a time."""

    def __init__(self, folder: Path, identity: Identity, *, found: Sequence[Segment] = ()) -> None:
        """Make the journal of ``folder``; with ``found``, go on with one whose claims have been checked."""
        self._folder = folder
        self._path = folder / "journal"
        self._identity = identity
        self._claimed = list(found)
        self._waiting: list[Segment] = []
        self._fd = -1
        self._end = 0
        self._has_meta = bool(found)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is claimed on disk."""
        return not self._claimed

    @property
    def claims(self) -> list[Segment]:
        """What is claimed on disk, and what waits to be."""
        return [*self._claimed, *self._waiting]

    def add(self, segment: Segment) -> None:
        """Remember a segment that is written, to be claimed by the next ``write``."""
        self._waiting.append(segment)

    def write(self) -> None:
        """Claim what was added: at once what a killed process leaves, after ``sync`` also what a power cut does.

        Raises:
            StoreFullError, StorageError: the claims cannot be written. They are still waiting.
        """
        if not self._waiting:
            return
        if not self._has_meta:
            fs.write_atomic("partial.meta", self._folder / "meta", msgspec.json.encode(_Meta.of(self._identity)))
            self._has_meta = True
        if self._fd < 0:
            self._open()
        records = b"".join(map(_pack, self._waiting))
        self._end = fs.write_at("partial.journal", self._path, self._fd, [records], self._end)
        self._claimed += self._waiting
        self._waiting = []

    def _open(self) -> None:
        with fs.translated(self._path):
            found = fs.reopen(self._path)
            self._fd = fs.create("partial.journal", self._path) if found is None else found
            self._end = os.fstat(self._fd).st_size // _RECORD.size * _RECORD.size  # over a torn tail

    def sync(self) -> None:
        """Return when all claims are durable."""
        if self._fd >= 0:
            fs.sync_data("partial.journal", self._path, self._fd)

    def replace(self, claims: Sequence[Segment]) -> None:
        """Claim these and nothing else, durably and in one step."""
        self.close()
        self._claimed, self._waiting = [], list(claims)
        if self._has_meta:
            fs.write_atomic("partial.journal", self._path, b"".join(map(_pack, claims)))
            self._claimed, self._waiting = self._waiting, []

    def give_up_last(self) -> int:
        """Forget the last segment that waits, if any does; return where the bytes that are worth keeping end."""
        if self._waiting:
            self._waiting.remove(max(self._waiting, key=lambda claim: claim.offset))
        return max((claim.end for claim in self.claims), default=0)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read(path: Path) -> list[Segment]:
    """Return the segments that the journal claims, without the records that are torn or damaged."""
    try:
        content = fs.read_file(path)
    except OSError:
        return []
    found: list[Segment] = []
    for start in range(0, len(content) - _RECORD.size + 1, _RECORD.size):
        record = content[start : start + _RECORD.size]
        offset, length, check, crc = _RECORD.unpack(record)
        if zlib.crc32(record[:-4]) == crc and length:
            found.append(Segment(offset, length, check))
    return found


def claimed_bytes(path: Path) -> int:
    """Return how many bytes the journal claims, unverified."""
    return RangeSet(ByteRange(claim.offset, claim.end) for claim in read(path)).size_bytes


def _pack(segment: Segment) -> bytes:
    body = struct.pack("<QI16s", segment.offset, segment.length, segment.check)
    return body + struct.pack("<I", zlib.crc32(body))
