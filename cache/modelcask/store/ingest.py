"""An ingest: one file on its way into the store, invisible until it is published.

Bytes arrive in any order, in streams. Two threads beside the event loop take them in blocks: one writes them, checks
and claims their segments; the other computes the digests of the whole file (``front_hash``). What is claimed
survives the process (``partial``, ``journal``).

A hash's state cannot be saved, so an ingest that is taken up again is hashed anew from its start, while the bytes that
are missing arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

from blake3 import blake3

from modelcask.cancellation import through
from modelcask.errors import CacheError, DigestMismatchError, SizeMismatchError, StorageError
from modelcask.layout import Layout
from modelcask.ranges import ByteRange
from modelcask.store.front_hash import FrontHash
from modelcask.store.journal import Identity, Segment
from modelcask.store.lanes import BLOCK_BYTES, Lanes
from modelcask.store.local_file import open_local
from modelcask.store.partial import Partial
from modelcask.store.sealed import SealedFile
from modelcask.store.stream import Block, Stream

SEGMENT_BYTES: Final = 8 << 20
CHECKPOINT_S: Final = 2.0
SLOW_S: Final = 2.0
"""A segment that takes longer is claimed before it is whole."""

_T = TypeVar("_T")


class Ingest:
    """The sink of one transfer (:class:`modelcask.types.Sink`), and the file behind it.

    The caller holds the key's lock. Use as an async context manager: leaving it without ``finish`` keeps what
    has arrived for the next attempt.
    """

    def __init__(
        self,
        layout: Layout,
        key: str,
        identity: Identity,
        *,
        name: str,
        lanes: Lanes,
        reserve: bool = True,
        grow: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare; ``grow`` is asked, in a thread, before bytes are written up to an offset, and may refuse."""
        self.lanes = lanes
        self._grow = grow
        self._partial = Partial(layout.partial(key), identity, reserve=reserve)
        self._identity = identity
        self._name = name
        self._writing, self._hashing = lanes.take()
        self._finished = False
        self._reset()

    def _reset(self) -> None:
        self.held = self._partial.written.copy()
        """The bytes that have been taken: on the disk, or on their way. Changed on the event loop only."""
        self.resumed_bytes = self.held.size_bytes
        self._streams: set[Stream] = set()
        self._error: Exception | None = None
        self._checkpoint: Future[None] | None = None
        self._checkpointed_at = time.monotonic()
        self._hash_anew()

    def _hash_anew(self) -> None:
        size = self._identity.size_bytes
        wanted = {"sha256"} | {digest.algorithm for digest in self._identity.digests} - {"blake3"}
        # git-sha1 begins with the size: where the source promises one, it also tells the size
        usable = sorted(name for name in wanted if name != "git-sha1" or size is not None)
        self._hash = FrontHash(self._hashing, usable, size, self._partial.read)
        self._hash.follow(self._partial.written)

    async def __aenter__(self) -> Self:
        """Open the ingest; what an earlier attempt kept is checked, and is in ``held`` then."""
        try:
            await self._aside(self._partial.open)
        except BaseException:
            await self._alone(self._partial.close)
            raise
        self._reset()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Keep what has arrived, unless the ingest was finished or dropped."""
        self._close_streams()
        if not self._finished:
            # Who cancels does not wait for the disk: claims are checked before they are used.
            hurried = kind is not None and issubclass(kind, asyncio.CancelledError)
            await self._alone(partial(self._partial.keep, durably=not hurried))

    # Waiting for threads.

    async def _aside(self, work: Callable[[threading.Event], _T]) -> _T:
        """Do what may take long, without holding up the lanes.

        It uses the descriptor, so it is waited for even when cancelled; its argument tells it then that it is unwanted.
        """
        abandoned = threading.Event()
        future = asyncio.wrap_future(self.lanes.aside.submit(work, abandoned))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            abandoned.set()
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise

    async def _alone(self, work: Callable[[], None]) -> None:
        """Do ``work`` when the lanes are through with this ingest. What is not hashed by now stays so."""
        hashing = self._hash

        def run(_: threading.Event) -> None:
            hashing.stop()
            self._writing.submit(_nothing).result()
            hashing.idle.result()
            if self._checkpoint is not None:
                self._checkpoint.exception()
            work()

        await self._aside(run)

    async def _written(self) -> None:
        """Return when the bytes of all streams that are closed have come to the file, or raise why they have not."""
        await asyncio.wrap_future(self._writing.submit(_nothing))
        if self._error is not None:
            raise self._error

    # Taking bytes.

    def stream(self, start: int) -> Stream:
        """Return a sink for the bytes from ``start`` on. Streams may run side by side, over different bytes."""
        stream = Stream(self, start)
        self._streams.add(stream)
        return stream

    def _close_streams(self) -> None:
        for stream in list(self._streams):
            stream.close()

    def take(self, stream: Stream, block: Block, *, last: bool) -> None:
        """Let the lanes write and hash a block. For :class:`Stream`, on the event loop."""
        fed = self._hash.feed(block.offset, block.parts, block.size, block.let_go) if block.size else False
        block.holders = 1 + fed
        self._writing.submit(self._write, stream, block, last)
        if last:
            self._streams.discard(stream)

    def _write(self, stream: Stream, block: Block, last: bool) -> None:
        try:
            if stream.error is None and self._partial.is_open:
                self._write_block(stream, block, last=last)
        except Exception as error:  # noqa: BLE001 - raised where the stream is written to, and by check()
            stream.error = self._error = error
        finally:
            block.let_go()

    def _write_block(self, stream: Stream, block: Block, *, last: bool) -> None:
        if self._grow is not None and block.size:
            self._grow(block.offset + block.size)
        end = self._partial.write(block.offset, block.parts)
        for part in block.parts:
            stream.segment.update(part)
        self._hash.follow(self._partial.written)
        if self._ends_segment(stream, end, last=last):
            segment = Segment(stream.segment_start, end - stream.segment_start, stream.segment.digest()[:16])
            stream.segment, stream.segment_start, stream.segment_began = blake3(), end, time.monotonic()
            # What arrives in one short stream gets no journal: most files of a repository would have one for nothing.
            self._partial.claim(segment, at_once=not last or self._partial.is_claimed)
            if not last:
                self._start_checkpoint()

    @staticmethod
    def _ends_segment(stream: Stream, end: int, *, last: bool) -> bool:
        """Say whether what a stream has written is to be claimed: a whole segment, or what took a while to come."""
        if end == stream.segment_start:
            return False
        is_old = time.monotonic() - stream.segment_began >= SLOW_S
        return last or end % SEGMENT_BYTES == 0 or is_old

    def _start_checkpoint(self) -> None:
        now = time.monotonic()
        if now - self._checkpointed_at < CHECKPOINT_S or not self._partial.is_claimed:
            return
        if self._checkpoint is not None:
            if not self._checkpoint.done():
                return
            self._checkpoint.result()  # a sync that failed is fatal: the next one would succeed without the lost pages
        self._checkpointed_at = now
        # On the hashing lane: the sync must not hold up the writes.
        self._checkpoint = self._hashing.submit(self._partial.sync)

    async def copy_from(self, path: Path) -> bool:
        """Take the bytes of a local file: by reflink where the file system can, else by copying.

        Returns whether blocks are shared.

        Raises:
            RemoteChangedError: the file changed meanwhile.
            AccessDeniedError: it may not be read.
            StorageError: it cannot be read, or the disk failed.
        """
        if self.held:
            await self.restart()
        with open_local(path) as source:
            shared = await self._aside(lambda _: self._partial.clone(source))
            if shared:
                self.held = self._partial.written.copy()
                self._hash.follow(self._partial.written)  # what is hashed is what is kept
                source.check_unchanged(self.held.size_bytes)
            else:
                stream = self.stream(0)
                while block := await asyncio.to_thread(source.read, stream.position, BLOCK_BYTES):
                    await stream.write(block)
                stream.close()
                source.check_unchanged(stream.position)
        return shared

    # Taking back.

    async def restart(self) -> None:
        """Throw the bytes away and begin at zero in a new file. No stream may be open."""

        def start_over() -> None:
            self._partial.start_over()
            self._reset()

        await self._alone(start_over)

    async def digest_of(self, part: ByteRange) -> bytes:
        """Return the BLAKE3 of bytes that are held and whose streams are closed."""
        await self._written()
        return await self._aside(lambda abandoned: self._partial.blake3(part, abandoned))

    async def forget(self, parts: Iterable[ByteRange]) -> None:
        """Take bytes back: they are wrong. No stream may be open."""
        gone = list(parts)
        for part in gone:
            self.held.remove(part.start, part.end)

        def forget() -> None:
            self._partial.forget(gone)
            self._hash_anew()

        await self._alone(forget)

    # Ending.

    async def check(self) -> CacheError | None:
        """Return what is wrong with the bytes, now that all have come; None if they are what was promised.

        Raises:
            StoreFullError, StorageError: they could not all be written, or read back.
        """
        self._close_streams()
        await self._written()
        # Shielded: they are not ours to cancel.
        await asyncio.shield(asyncio.wrap_future(self._hash.idle))
        if self._checkpoint is not None:
            await asyncio.shield(asyncio.wrap_future(self._checkpoint))
        if self._hash.error is not None:
            raise self._hash.error
        return self._fault()

    def _fault(self) -> CacheError | None:
        size, found = self._identity.size_bytes, self._hash.hashed_bytes
        if found != self.held.size_bytes or (size is not None and found != size):
            return SizeMismatchError(self._name, self.held.size_bytes if size is None else size, found)
        computed = self._hash.digests()
        for promised in self._identity.digests:
            actual = computed.get(promised.algorithm)
            if actual is None:
                return StorageError(f"{self._name}: {promised} cannot be checked without a known size")
            if actual != promised:
                return DigestMismatchError(self._name, str(promised), str(actual))
        return None

    async def finish(self) -> SealedFile:
        """Check size and every promised digest, then make the file durable and read-only.

        Cancelled while it does so, it ends first, and the next attempt finds a file that lacks nothing.

        Raises:
            SizeMismatchError, DigestMismatchError: the bytes are not what was promised; they are thrown away.
        """
        fault = await self._check_and_sync()
        if fault is not None:
            await self.drop()
            raise fault
        sealed = await self._aside(self._seal)
        self._finished = True
        return sealed

    async def _check_and_sync(self) -> CacheError | None:
        """Do as :meth:`check`; what is long is brought to the disk while its last bytes are hashed."""
        if self.held.size_bytes < SEGMENT_BYTES:
            return await self.check()
        self._close_streams()
        await self._written()

        def sync(_: threading.Event) -> None:
            if self._checkpoint is not None:
                self._checkpoint.exception()  # one sync at a time; check() raises what this one came to
            self._partial.sync()

        syncing = asyncio.create_task(self._aside(sync))
        try:
            return await self.check()
        finally:
            await through(syncing)

    def _seal(self, _: threading.Event) -> SealedFile:
        size = self._hash.hashed_bytes
        if size >= SEGMENT_BYTES or self._partial.is_claimed:
            # Worth a second small file: killed before the revision is recorded, it need not come again.
            self._partial.claim_all()
        path, inode = self._partial.seal(size)
        computed = self._hash.digests()
        return SealedFile(path, inode, computed["blake3"], size, tuple(computed.values()))

    async def drop(self) -> None:
        """Throw the bytes away; the ingest is over."""
        await self._alone(self._partial.drop)


def _nothing() -> None:
    """Be behind what a lane was given before."""
