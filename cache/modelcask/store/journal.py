"""What survives of an unfinished ingest: who it is (``meta``) and which segments are on disk (``journal``).

The journal is append-only. One record a segment: offset, length, the first 16 bytes of the segment's BLAKE3,
and a CRC over these, 32 bytes in all. A torn tail fails its CRC and ends the reading. A record is written only
after ``fdatasync`` of the bytes it claims; on resume each claim is checked against its digest all the same,
because a disk may lie and a bad prefix with a good name would be a wrong file for ever.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from modelcask.digest import Digest
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
        return self.etag is not None or any(digest.strong for digest in self.digests)


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


def write_meta(path: Path, identity: Identity) -> None:
    """Say durably what the ingest is of."""
    fs.write_atomic("partial.meta", path, msgspec.json.encode(_Meta.of(identity)))


def same_content(path: Path, identity: Identity) -> bool:
    """Say whether the ingest described at ``path`` is certain to be of the same bytes as ``identity``.

    An equal strong digest suffices, whatever place the bytes came from; else everything must be equal.
    """
    if not identity.resumable:
        return False
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Meta)
    except (OSError, msgspec.DecodeError):
        return False
    if found.format != _FORMAT:
        return False
    wanted = _Meta.of(identity)
    strong = {str(digest) for digest in identity.digests if digest.strong}
    if strong & set(found.digests):
        return found.size_bytes in {None, wanted.size_bytes} or wanted.size_bytes is None
    return found == wanted


def append(path: Path, segments: Iterable[Segment]) -> None:
    """Add records and return when they are durable."""
    with fs.translated(path):
        fd = fs.reopen(path)
        if fd is None:
            fd = fs.create("partial.journal", path)
        try:
            end = len(read(path)) * _RECORD.size
            if os.fstat(fd).st_size > end:
                # Torn or damaged: left there, it would hide every claim behind it.
                fs.truncate("partial.journal", path, fd, end)
            fs.write_at("partial.journal", path, fd, [b"".join(map(_pack, segments))], end)
            fs.sync_data("partial.journal", path, fd)
        finally:
            os.close(fd)


def read(path: Path) -> list[Segment]:
    """Return the segments that the journal claims, up to the first record that is torn or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    found: list[Segment] = []
    for start in range(0, len(content) - _RECORD.size + 1, _RECORD.size):
        record = content[start : start + _RECORD.size]
        offset, length, check, crc = _RECORD.unpack(record)
        if zlib.crc32(record[:-4]) != crc:
            break
        found.append(Segment(offset, length, check))
    return found


def contiguous(segments: Iterable[Segment]) -> list[Segment]:
    """Return the segments that follow each other from offset 0, of several claims at one offset the latest.

    An earlier one is of bytes that were found damaged and fetched again.
    """
    latest = {segment.offset: segment for segment in segments if segment.length}
    chain: list[Segment] = []
    end = 0
    while end in latest:
        chain.append(latest[end])
        end = latest[end].end
    return chain


def _pack(segment: Segment) -> bytes:
    body = struct.pack("<QI16s", segment.offset, segment.length, segment.check)
    return body + struct.pack("<I", zlib.crc32(body))
