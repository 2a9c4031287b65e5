"""Ingests as the store's tests use them: what is promised of a content, and getting it into the store."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from blake3 import blake3

from modelcask.digest import Digest, new_hash
from modelcask.layout import Layout
from modelcask.ranges import ByteRange, RangeSet
from modelcask.store import fs
from modelcask.store.ingest import Ingest
from modelcask.store.journal import Identity
from modelcask.store.lanes import Lanes
from modelcask.store.sealed import SealedFile

KEY = "key"


def promise(content: bytes, *algorithms: str) -> tuple[Digest, ...]:
    """Return digests of the content."""
    found = []
    for algorithm in algorithms:
        running = new_hash(algorithm, size=len(content))
        running.update(content)
        found.append(Digest(algorithm, running.hexdigest()))
    return tuple(found)


def identity(content: bytes, *algorithms: str, size: int | None = -1, etag: str | None = '"e1"') -> Identity:
    """Return what a source says of the content: its size, and some digests."""
    known = len(content) if size == -1 else size
    return Identity("https://host/m", "r1", "m", known, etag, promise(content, *algorithms))


@asynccontextmanager
async def opened(layout: Layout, of: Identity, *, reserve: bool = True) -> AsyncIterator[Ingest]:
    """Open an ingest on lanes of its own."""
    lanes = Lanes()
    try:
        async with Ingest(layout, KEY, of, name="m", lanes=lanes, reserve=reserve) as sink:
            yield sink
    finally:
        lanes.close()


def spans(*pairs: tuple[int, int]) -> RangeSet:
    """Return the set of these ranges."""
    return RangeSet(ByteRange(start, end) for start, end in pairs)


async def feed(sink: Ingest, content: bytes, cuts: Iterable[int] = ()) -> None:
    """Write what the sink still lacks of ``content``, lowest first, cut at the given places."""
    places = list(cuts)
    for gap in sink.held.gaps(len(content)):
        edges = sorted({gap.start, gap.end, *(cut for cut in places if gap.start < cut < gap.end)})
        stream = sink.stream(gap.start)
        for start, end in itertools.pairwise(edges):
            await stream.write(content[start:end])
        stream.close()


async def take(layout: Layout, content: bytes, of: Identity, cuts: Iterable[int] = ()) -> tuple[SealedFile, int]:
    """Ingest the whole content; return the sealed file and how much of it an earlier attempt had left."""
    async with opened(layout, of) as sink:
        resumed = sink.resumed_bytes
        assert sink.held.size_bytes == resumed
        await feed(sink, content, cuts)
        return await sink.finish(), resumed


async def leave(layout: Layout, content: bytes, of: Identity, *, cuts: Iterable[int] = ()) -> None:
    """Ingest only so much and leave, as a cancelled pull does."""
    async with opened(layout, of) as sink:
        await feed(sink, content, cuts)


def check(sealed: SealedFile, content: bytes) -> None:
    """Assert that the sealed file is right in all it says."""
    assert sealed.path.read_bytes() == content
    assert sealed.size_bytes == len(content)
    assert sealed.digest.hex == blake3(content).hexdigest()
    assert sealed.digests[0] == sealed.digest
    assert Digest("sha256", hashlib.sha256(content).hexdigest()) in sealed.digests
    assert sealed.path.stat().st_mode & 0o777 == 0o444
    assert sealed.path.stat().st_ino == sealed.inode


def damage(path: Path, at: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def failing(step: str, error: int, *, after: int = 0) -> Callable[[str], None]:
    """Return a hook for ``fs.on_step`` that lets one step fail once, when it has happened ``after`` times."""
    left = after

    def hook(name: str) -> None:
        nonlocal left
        if name == step:
            if left == 0:
                fs.on_step(None)
                raise OSError(error, os.strerror(error))
            left -= 1

    return hook
