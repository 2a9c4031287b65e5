"""An ingest: one file on its way into the store, invisible until it is published.

Bytes are written and hashed while they arrive, in two threads beside the event loop: one writes, feeds BLAKE3
and the segment's check; the other feeds SHA-256 and whatever else the source promised. Each works on blocks of
1 MiB; at most ``_BLOCKS_AHEAD`` of them wait for each, so memory is bounded by about 8 MiB a file.

A hash's state cannot be saved, so an ingest that is taken up again hashes its prefix anew, checking each
segment against the journal on the way. Starting over makes a new inode and never truncates the old one: where
file locks lie, another process may still be writing to it (I7).
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from blake3 import blake3

from modelcask.digest import Digest, new_hash
from modelcask.errors import (
    BusyError,
    CacheError,
    DigestMismatchError,
    SizeMismatchError,
    StorageError,
)
from modelcask.layout import Layout
from modelcask.store import fs, journal, system
from modelcask.store.journal import Identity, Segment
from modelcask.store.local_file import LocalFile, open_local
from modelcask.store.sealed import SealedFile, discard_partial

BLOCK_BYTES: Final = 1 << 20
SEGMENT_BYTES: Final = 8 << 20
CHECKPOINT_S: Final = 2.0
_BLOCKS_AHEAD: Final = 4
_SMALL_BYTES: Final = 16 << 10
"""Chunks below this are copied together: a block of a million chunks would cost a hundred times its size."""

_log = logging.getLogger("modelcask.store")


class Ingest:
    """The sink of one transfer (:class:`modelcask.types.Sink`), and the file behind it.

    The caller holds the key's lock. Use as an async context manager: leaving it without ``finish`` keeps what
    has arrived for the next attempt.
    """

    def __init__(self, layout: Layout, key: str, identity: Identity, *, name: str, reserve: bool = True) -> None:
        self._folder = layout.partial(key)
        self._data = self._folder / "data"
        self._meta = self._folder / "meta"
        self._journal = self._folder / "journal"
        self._identity = identity
        self._name = name
        self._reserve = reserve
        self._fd = -1
        self._others = sorted({"sha256"} | {digest.algorithm for digest in identity.digests} - {"blake3"})
        self._pools: list[ThreadPoolExecutor] = []
        self._abandoned = False
        self._reset()

    def _reset(self) -> None:
        self._front = 0
        self.resumed_bytes = 0
        self._block: list[memoryview | bytearray] = []
        self._block_size = 0
        self._pending: tuple[deque[Future[None]], deque[Future[None]]] = (deque(), deque())
        self._whole = blake3()
        size = self._identity.size_bytes
        # git-sha1 begins with the size: where the source promises one, it also tells the size
        usable = [algorithm for algorithm in self._others if algorithm != "git-sha1" or size is not None]
        self._hashes = {algorithm: new_hash(algorithm, size=size) for algorithm in usable}
        self._segment = blake3()
        self._segment_start = 0
        self._unsynced: list[Segment] = []
        self._checkpoint: Future[None] | None = None
        self._checkpointed_at = time.monotonic()
        self._has_meta = False
        self._stopped = False
        self._resumable = self._identity.resumable
        self._unwritable = False
        """Whether a sync failed: the kernel may go on showing bytes that never reached the disk."""

    @property
    def front(self) -> int:
        """How many bytes from the start have been taken."""
        return self._front

    async def __aenter__(self) -> Self:
        """Open the ingest; a kept prefix is checked and hashed, and ``front`` stands behind it."""
        self._pools = [ThreadPoolExecutor(1, "modelcask-write"), ThreadPoolExecutor(1, "modelcask-hash")]
        try:
            await asyncio.wrap_future(self._pools[0].submit(self._open))
        except BaseException:
            self._abandoned = True  # hashing a kept prefix may take minutes; a cancelled pull does not wait for it
            self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Keep what has arrived, unless the ingest was finished or dropped."""
        try:
            if self._fd >= 0:
                await asyncio.wrap_future(self._pools[0].submit(self._keep))
        finally:
            self._close()

    def _open(self) -> None:
        fs.make_folder("partial", self._folder)
        fd = fs.reopen(self._data) if journal.same_content(self._meta, self._identity) else None
        if fd is None:
            self._start_over()
            return
        self._fd = fd
        self._has_meta = True
        found = os.fstat(fd)
        self._rehash(journal.contiguous(journal.read(self._journal)))
        sealed = not found.st_mode & stat.S_IWUSR
        if sealed and self._front != found.st_size and not self._abandoned:
            # Its process died between sealing and recording it. Nobody may write to it any more (I2), so it is
            # taken up as a whole or not at all.
            self._start_over()

    def _start_over(self) -> None:
        self._release()
        for path in (self._journal, self._meta, self._data):
            fs.unlink("partial", path)
        self._reset()
        try:
            self._fd = fs.create("partial.data", self._data)
        except StorageError as error:
            if isinstance(error.__cause__, FileExistsError):
                # It was removed a moment ago, under the lock: where locks lie, another process works here too (I7).
                raise BusyError(f"the unfinished file {self._folder.name}") from error
            raise
        if self._identity.size_bytes and self._reserve:
            try:
                fs.preallocate("partial.data", self._data, self._fd, self._identity.size_bytes)
            except CacheError:
                self._drop()
                raise

    def _rehash(self, claimed: list[Segment]) -> None:
        limit = self._identity.size_bytes
        for segment in claimed:
            if self._abandoned or (limit is not None and segment.end > limit):
                break
            starts = range(segment.offset, segment.end, BLOCK_BYTES)
            blocks = [self._read_back(start, min(BLOCK_BYTES, segment.end - start)) for start in starts]
            check = blake3()
            for block in blocks:
                check.update(block)
            if check.digest()[:16] != segment.check:
                break
            for block in blocks:
                self._whole.update(block)
                for running in self._hashes.values():
                    running.update(block)
            self._front = self._segment_start = self.resumed_bytes = segment.end

    def _read_back(self, offset: int, length: int) -> bytes:
        with fs.translated(self._data):
            return os.pread(self._fd, length, offset)

    async def restart(self) -> None:
        """Throw the bytes away and begin at zero in a new file."""
        await self._drain()
        await asyncio.wrap_future(self._pools[0].submit(self._start_over))

    async def write(self, chunk: bytes) -> None:
        """Take bytes at the front; returns when there is room for more, not when they are on disk.

        Raises:
            StoreFullError: the disk is full. What is written stays for the next attempt.
            StorageError: the disk failed.
        """
        view = memoryview(chunk)
        while view:
            # Blocks end at multiples of BLOCK_BYTES, so that segments are whole numbers of blocks.
            room = BLOCK_BYTES - (self._front % BLOCK_BYTES)
            part, view = view[:room], view[room:]
            if len(part) >= _SMALL_BYTES:
                self._block.append(part)
            elif self._block and isinstance(self._block[-1], bytearray):
                self._block[-1] += part
            else:
                self._block.append(bytearray(part))
            self._block_size += len(part)
            self._front += len(part)
            if len(part) == room:
                await self._hand_over()

    async def _hand_over(self) -> None:
        block, self._block = self._block, []
        offset, self._block_size = self._front - self._block_size, 0
        writes, hashes = self._pending
        writes.append(self._pools[0].submit(self._write_block, offset, block))
        hashes.append(self._pools[1].submit(self._hash_block, block))
        for lane in self._pending:
            while lane and (lane[0].done() or len(lane) >= _BLOCKS_AHEAD):
                await _outcome(lane[0])
                lane.popleft()

    async def _drain(self) -> None:
        if self._block:
            await self._hand_over()
        for lane in self._pending:
            while lane:
                await _outcome(lane[0])
                lane.popleft()

    def _hash_block(self, block: list[memoryview | bytearray]) -> None:
        for running in self._hashes.values():
            for part in block:
                running.update(part)

    def _write_block(self, offset: int, block: list[memoryview | bytearray]) -> None:
        if self._stopped:
            return  # behind a block that failed: nothing may be taken for what follows the one before it
        self._stopped = True
        end = fs.write_at("partial.data", self._data, self._fd, block, offset)
        self._stopped = False
        for part in block:
            self._whole.update(part)
            self._segment.update(part)
        if end % SEGMENT_BYTES == 0:
            system.start_write_back(self._fd, self._segment_start, end - self._segment_start)
            self._close_segment(end)
            self._start_checkpoint()

    def _close_segment(self, end: int) -> None:
        length = end - self._segment_start
        if length:
            self._unsynced.append(Segment(self._segment_start, length, self._segment.digest()[:16]))
        self._segment = blake3()
        self._segment_start = end

    def _start_checkpoint(self) -> None:
        now = time.monotonic()
        if now - self._checkpointed_at < CHECKPOINT_S or not self._resumable:
            return
        if self._checkpoint is not None:
            if not self._checkpoint.done():
                return
            self._checkpoint.result()  # a sync that failed is fatal: the next one would succeed without the lost pages
        self._checkpointed_at = now
        records, self._unsynced = self._unsynced, []
        # On the hashing thread: the sync must not hold up the writes, and that thread has time to spare.
        self._checkpoint = self._pools[1].submit(self._claim, records)

    def _claim(self, records: list[Segment]) -> None:
        try:
            fs.sync_data("partial.data", self._data, self._fd)
        except CacheError:
            self._unwritable = True
            raise
        if not self._has_meta:
            journal.write_meta(self._meta, self._identity)
            self._has_meta = True
        journal.append(self._journal, records)

    def _keep(self) -> None:
        """Claim everything that was written, the odd tail included; drop what no later attempt could use."""
        if self._checkpoint is not None:
            self._checkpoint.exception()  # waits
        if self._front == 0 or not self._resumable or self._unwritable:
            self._drop()
            return
        try:
            if self._block:
                self._write_block(self._front - self._block_size, self._block)
            if self._stopped:
                self._make_room()
            else:
                self._close_segment(self._front)
            if self._unsynced:
                self._claim(self._unsynced)
        except CacheError as error:
            # The transfer's own error is on its way up and says more; a smaller kept prefix costs time only.
            _log.warning("%s: not all that arrived could be kept: %s", self._name, error)
            if self._unwritable:
                self._drop()

    def _make_room(self) -> None:
        """Cut off what cannot be claimed: on a full disk the journal needs the room to claim the rest."""
        if os.fstat(self._fd).st_size < self._segment_start + BLOCK_BYTES and self._unsynced:
            self._segment_start = self._unsynced.pop().offset
        fs.truncate("partial.data", self._data, self._fd, self._segment_start)

    async def copy_from(self, path: Path) -> bool:
        """Take the bytes of a local file: by reflink where the file system can, else by copying.

        Returns whether blocks are shared.

        Raises:
            RemoteChangedError: the file changed meanwhile.
            AccessDeniedError: it may not be read.
            StorageError: it cannot be read, or the disk failed.
        """
        if self._front:
            await self.restart()
        with open_local(path) as source:
            shared = await asyncio.to_thread(self._clone, source)
            if shared:
                self._resumable = False  # shared in a moment, so there are no segments to claim
            read = self._read_back if shared else source.read  # what is hashed is what is kept
            offset = 0
            while block := await asyncio.to_thread(read, offset, BLOCK_BYTES):
                if shared:
                    self._whole.update(block)
                    await asyncio.to_thread(self._hash_block, [memoryview(block)])
                    self._front += len(block)
                else:
                    await self.write(block)
                offset += len(block)
            source.check_unchanged(offset)
        return shared

    def _clone(self, source: LocalFile) -> bool:
        with fs.translated(self._data, source.size_bytes):
            return system.clone_file(source.fd, self._fd)

    async def finish(self) -> SealedFile:
        """Check size and every promised digest, then make the file durable and read-only.

        Raises:
            SizeMismatchError, DigestMismatchError: the bytes are not what was promised; they are thrown away.
        """
        await self._drain()
        if self._checkpoint is not None:
            await _outcome(self._checkpoint)
        return await asyncio.wrap_future(self._pools[0].submit(self._finish))

    def _finish(self) -> SealedFile:
        computed = {"blake3": Digest("blake3", self._whole.hexdigest())}
        for algorithm, running in self._hashes.items():
            computed[algorithm] = Digest(algorithm, running.hexdigest())
        fault = self._fault(computed)
        if fault is not None:
            self._drop()
            raise fault
        if os.fstat(self._fd).st_size != self._front:
            raise StorageError(f"{self._data} has not the length that was written; check the disk")
        if self._resumable and (self._front >= SEGMENT_BYTES or self._has_meta):
            # Worth a second small file: killed before the revision is recorded, it need not come again.
            self._close_segment(self._front)
            if self._unsynced:
                self._claim(self._unsynced)
        inode = os.fstat(self._fd).st_ino
        fd, self._fd = self._fd, -1
        try:
            fs.seal("partial.data", self._data, fd)
        except CacheError:
            discard_partial(self._folder)  # its bytes can be read, but nobody knows what of them is on the disk
            raise
        return SealedFile(self._data, inode, computed["blake3"], self._front, tuple(computed.values()))

    def _fault(self, computed: dict[str, Digest]) -> CacheError | None:
        size = self._identity.size_bytes
        if size is not None and self._front != size:
            return SizeMismatchError(self._name, size, self._front)
        for promised in self._identity.digests:
            actual = computed.get(promised.algorithm)
            if actual is None:
                return StorageError(f"{self._name}: {promised} cannot be checked without a known size")
            if actual != promised:
                return DigestMismatchError(self._name, str(promised), str(actual))
        return None

    async def drop(self) -> None:
        """Throw the bytes away; the ingest is over."""
        await asyncio.wrap_future(self._pools[0].submit(self._drop))

    def _drop(self) -> None:
        self._release()
        discard_partial(self._folder)

    def _close(self) -> None:
        for pool in self._pools:
            pool.shutdown(wait=True)
        self._release()

    def _release(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.exception()  # waits: it uses the descriptor on the other thread
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


async def _outcome(work: Future[None]) -> None:
    # Shielded: cancelling the wait must not take a block out of the queue, for the next one would be taken for it.
    await asyncio.shield(asyncio.wrap_future(work))
