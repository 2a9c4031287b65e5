"""The simplest sink: bytes in memory, which holds its caller to the contract. Tests of a transfer read ``content``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from blake3 import blake3

from modelcask.digest import Digest, new_hash
from modelcask.errors import CacheError, DigestMismatchError
from modelcask.ranges import ByteRange, RangeSet


class MemorySink:
    """Follow ``modelcask.types.Sink`` without a disk."""

    def __init__(self, content: bytes | Mapping[int, bytes] = b"", *, digests: Iterable[Digest] = ()) -> None:
        """Begin with what an earlier attempt left: from the start on, or by offset; check by ``digests``."""
        self.held = RangeSet()
        self.restarts = 0
        self.open_streams: set[MemoryStream] = set()
        self._digests = tuple(digests)
        self._content = bytearray()
        for offset, part in ({0: content} if isinstance(content, bytes) else content).items():
            self.put(offset, part)

    @property
    def content(self) -> bytes:
        """All bytes up to the last one; zeros where there is a hole."""
        return bytes(self._content)

    @property
    def is_whole(self) -> bool:
        """Whether there is no hole."""
        return self.held.size_bytes == len(self._content)

    def put(self, offset: int, part: bytes) -> None:
        """Take bytes that are not there yet."""
        end = offset + len(part)
        assert not any(one.start < end and offset < one.end for one in self.held), f"{offset}-{end} came twice"
        self._content.extend(bytes(max(end - len(self._content), 0)))
        self._content[offset:end] = part
        self.held.add(offset, end)

    def stream(self, start: int) -> MemoryStream:
        return MemoryStream(self, start)

    async def restart(self) -> None:
        assert not self.open_streams
        self._content.clear()
        self.held = RangeSet()
        self.restarts += 1

    async def check(self) -> CacheError | None:
        assert self.is_whole
        for promised in self._digests:
            running = new_hash(promised.algorithm, size=len(self._content))
            running.update(self.content)
            if running.hexdigest() != promised.hex:
                return DigestMismatchError("m.gguf", str(promised), running.hexdigest())
        return None

    async def digest_of(self, part: ByteRange) -> bytes:
        assert self.held.end_of_run(part.start) >= part.end
        return blake3(self._content[part.start : part.end]).digest()

    async def forget(self, parts: Iterable[ByteRange]) -> None:
        assert not self.open_streams
        for part in parts:
            self.held.remove(part.start, part.end)
            self._content[part.start : part.end] = bytes(part.size_bytes)


class MemoryStream:
    """Follow ``modelcask.types.Stream``."""

    def __init__(self, sink: MemorySink, start: int) -> None:
        self.position = start
        self._sink = sink
        sink.open_streams.add(self)

    async def write(self, chunk: bytes) -> None:
        assert self in self._sink.open_streams
        self._sink.put(self.position, chunk)
        self.position += len(chunk)

    def close(self) -> None:
        self._sink.open_streams.discard(self)
