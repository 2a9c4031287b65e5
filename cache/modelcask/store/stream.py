"""The bytes that one connection brings for an ingest: gathered in blocks, in memory that is bounded for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from modelcask.store.lanes import BLOCK_BYTES

if TYPE_CHECKING:
    from modelcask.store.ingest import Ingest

_SMALL_BYTES: Final = 16 << 10
"""Chunks below this are copied together: a block of a million chunks would cost a hundred times its size."""


class Block:
    """Consecutive bytes on their way to the disk; their room is free again when nobody holds them any more."""

    __slots__ = ("_loop", "_room", "holders", "offset", "parts", "size")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.parts: list[memoryview | bytearray] = []
        self.size = 0
        self.holders = 0
        """How many will call ``let_go``. Set and counted on the event loop only."""
        self._room: asyncio.Semaphore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def append(self, part: memoryview) -> None:
        """Add bytes at its end."""
        if len(part) >= _SMALL_BYTES:
            self.parts.append(part)
        elif self.parts and isinstance(self.parts[-1], bytearray):
            self.parts[-1] += part
        else:
            self.parts.append(bytearray(part))
        self.size += len(part)

    def occupy(self, room: asyncio.Semaphore) -> None:
        """Say that one place of ``room`` is taken for it."""
        self._room, self._loop = room, asyncio.get_running_loop()

    def let_go(self) -> None:
        """Say that one holder is through. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits for room any more
                self._loop.call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        self.holders -= 1
        if self.holders == 0 and self._room is not None:
            self._room.release()


class Stream:
    """A run of bytes of one file without a gap (:class:`modelcask.types.Stream`)."""

    def __init__(self, ingest: Ingest, start: int) -> None:
        self.position = start
        """The offset behind what has been taken."""
        self.error: Exception | None = None
        """Set by the writing lane: the disk failed, and nothing of what follows is written."""
        self.segment = blake3()
        self.segment_start = start
        self.segment_began = time.monotonic()
        self._ingest = ingest
        self._block = Block(start)
        self._closed = False

    async def write(self, chunk: bytes) -> None:
        """Take the bytes that follow; returns when there is room for more, not when they are on disk.

        Raises:
            StoreFullError: the disk is full. What is written stays for the next attempt.
            StorageError: the disk failed.
        """
        if self._block.size and self.position % BLOCK_BYTES == 0:
            await self._hand_over()  # a call that was cancelled has left it full
        view = memoryview(chunk)
        while view:
            # Blocks end at multiples of BLOCK_BYTES, so that segments are whole numbers of blocks.
            room = BLOCK_BYTES - self.position % BLOCK_BYTES
            part, view = view[:room], view[room:]
            self._block.append(part)
            self._ingest.held.add(self.position, self.position + len(part))
            self.position += len(part)
            if len(part) == room:
                await self._hand_over()

    async def _hand_over(self) -> None:
        if self.error is not None:
            raise self.error
        room = self._ingest.lanes.room
        await room.acquire()
        block, self._block = self._block, Block(self.position)
        block.occupy(room)
        self._ingest.take(self, block, last=False)

    def close(self) -> None:
        """Hand over what is left. Waits for nothing; safe to call twice."""
        if not self._closed:
            self._closed = True
            self._ingest.take(self, self._block, last=True)
