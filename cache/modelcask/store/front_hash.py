"""The digests of a whole file whose bytes come in any order: each byte is hashed when the front reaches it.

The front is where the bytes from the start end that are hashed or to be hashed. A block that arrives just there
is hashed from memory. One that arrives ahead is not kept: it is read back once the front has come to it, from the
page cache as a rule. So hashing never holds up a transfer, and its memory is bounded by ``_BLOCKS_QUEUED``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from typing import Final

from blake3 import blake3

from modelcask.digest import Digest, new_hash
from modelcask.errors import StorageError
from modelcask.ranges import RangeSet
from modelcask.store.lanes import BLOCK_BYTES

_BLOCKS_QUEUED: Final = 8
_BLOCKS_A_TURN: Final = 8
"""After so many the others on the lane have their turn: there may be a hundred gigabytes to read back."""

Buffer = bytes | bytearray | memoryview


class FrontHash:
    """Hash in ``lane``, one thread, from the start on. ``feed``, ``follow`` and ``stop`` are safe from any thread."""

    def __init__(
        self, lane: Executor, algorithms: Iterable[str], size: int | None, read: Callable[[int, int], bytes]
    ) -> None:
        self._lane = lane
        self._running = {"blake3": blake3()} | {name: new_hash(name, size=size) for name in algorithms}
        self._read = read
        self._guard = threading.Lock()
        self._front = 0
        self._blocks: dict[int, tuple[Sequence[Buffer], Callable[[], None]]] = {}
        """Those that wait in memory, by their offset."""
        self._stopped = False
        self._is_idle = True
        self.idle: Future[None] = Future()
        """Done when all is hashed that can be; another one as soon as there is more."""
        self.idle.set_result(None)
        self.hashed_bytes = 0
        """How many bytes from the start are hashed; final while idle."""
        self.error: Exception | None = None
        """Why hashing has stopped: bytes that were written could not be read back."""

    def feed(self, offset: int, block: Sequence[Buffer], size: int, done: Callable[[], None]) -> bool:
        """Hash a block from memory if the front is at it, and call ``done`` afterwards; say whether it was taken."""
        with self._guard:
            if offset != self._front or len(self._blocks) >= _BLOCKS_QUEUED:
                return False
            self._blocks[offset] = block, done
            self._advance(offset + size)
        return True

    def follow(self, written: RangeSet) -> None:
        """Hash what the front can reach now. The caller keeps ``written`` from changing meanwhile."""
        with self._guard:
            self._advance(written.end_of_run(self._front))

    def stop(self) -> None:
        """Let what is left end soon, unhashed."""
        self._stopped = True

    def digests(self) -> dict[str, Digest]:
        """Return what was computed over ``hashed_bytes``. Only while idle."""
        return {name: Digest(name, running.hexdigest()) for name, running in self._running.items()}

    def _advance(self, front: int) -> None:
        self._front = front
        if self._is_idle and self.hashed_bytes < front:
            self._is_idle = False
            self.idle = Future()
            self._lane.submit(self._take_turn)

    def _take_turn(self) -> None:
        for _ in range(_BLOCKS_A_TURN):
            with self._guard:
                start = self.hashed_bytes
                if start == self._front or self._stopped or self.error is not None:
                    idle, left = self.idle, list(self._blocks.values())
                    self._blocks.clear()
                    self._is_idle = True
                    break
                block, done = self._blocks.pop(start, (None, _nothing))
                end = min([self._front, *self._blocks])
            try:
                self._hash(block or [self._read_back(start, end)])
            except Exception as error:  # noqa: BLE001 - whoever asks for the digests gets it
                self.error = error
            finally:
                done()
        else:
            self._lane.submit(self._take_turn)
            return
        for _, done in left:
            done()
        idle.set_result(None)

    def _read_back(self, start: int, end: int) -> bytes:
        block = self._read(start, min(BLOCK_BYTES, end - start))
        if not block:
            raise StorageError("the unfinished file is shorter than what was written to it; check the disk")
        return block

    def _hash(self, block: Sequence[Buffer]) -> None:
        for part in block:
            for running in self._running.values():
                running.update(part)
            self.hashed_bytes += len(part)


def _nothing() -> None:
    """Be called for a block that nobody waits for."""
