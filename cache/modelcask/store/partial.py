"""What lies on disk of one ingest: its data, what it is of, and what is claimed of it. Plain and blocking.

Starting over makes a new inode and never truncates the old one: where file locks lie, another process may still be
writing to it (I7).
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3

from modelcask.errors import BusyError, CacheError, StorageError, StoreFullError
from modelcask.ranges import ByteRange, RangeSet
from modelcask.store import fs, journal, system
from modelcask.store.journal import Identity, Journal, Segment
from modelcask.store.lanes import BLOCK_BYTES
from modelcask.store.local_file import LocalFile
from modelcask.store.sealed import discard_partial, open_partial

_log = logging.getLogger("modelcask.store")


class Partial:
    """The folder of one ingest. ``read`` and ``sync`` may run beside the rest, which is for one thread at a time."""

    def __init__(self, folder: Path, identity: Identity, *, reserve: bool) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._meta = folder / "meta"
        self._identity = identity
        self._reserve = reserve
        self._fd = -1
        self._clear()

    def _clear(self) -> None:
        self.written = RangeSet()
        """The bytes that have come to the file."""
        self._journal = Journal(self._folder, self._identity)
        self._resumable = self._identity.resumable
        self._sealed = False
        self._unwritable = False
        """Whether a sync failed: the kernel may go on showing bytes that never reached the disk."""

    # Opening.

    def open(self, abandoned: threading.Event) -> None:
        """Make it, or take up what an earlier attempt has left: ``written`` is what of that is right.

        Checking may take minutes; once nobody waits for it any more it ends early, and only ``close`` may follow.
        """
        open_partial(self._folder)
        fd = fs.reopen(self._data) if journal.same_content(self._meta, self._identity) else None
        if fd is None:
            self.start_over()
            return
        self._fd = fd
        found = os.fstat(fd)
        limit = found.st_size if self._identity.size_bytes is None else min(found.st_size, self._identity.size_bytes)
        checked: list[Segment] = []
        for claim in sorted(journal.read(self._folder / "journal"), key=lambda claim: claim.offset):
            if abandoned.is_set():
                return
            if claim.end <= limit and self._is_news(claim) and self._is_true(claim):
                self.written.add(claim.offset, claim.end)
                checked.append(claim)
        self._journal = Journal(self._folder, self._identity, found=checked)
        if not found.st_mode & stat.S_IWUSR:
            if self.written.size_bytes != found.st_size:
                # Its process died between sealing and recording it. Nobody may write to it any more (I2), so it is
                # taken up as a whole or not at all.
                self.start_over()
        elif found.st_size > limit:
            # Its size was not known then. What is beyond it would be there when the file is sealed.
            fs.truncate("partial.data", self._data, fd, limit)

    def _is_news(self, claim: Segment) -> bool:
        return self.written.end_of_run(claim.offset) < claim.end

    def _is_true(self, claim: Segment) -> bool:
        return self.blake3(ByteRange(claim.offset, claim.end))[:16] == claim.check

    def start_over(self) -> None:
        """Throw everything away and begin with a new file."""
        self.close()
        for path in (self._folder / "journal", self._meta, self._data):
            fs.unlink("partial", path)
        self._clear()
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
                self.drop()
                raise

    # Bytes.

    @property
    def is_open(self) -> bool:
        """Whether bytes can be written and read."""
        return self._fd >= 0

    def read(self, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes at ``offset``, none behind the end."""
        with fs.translated(self._data):
            return os.pread(self._fd, length, offset)

    def blake3(self, part: ByteRange, abandoned: threading.Event | None = None) -> bytes:
        """Return the BLAKE3 of some bytes; of fewer once nobody waits for it any more."""
        running = blake3()
        for start in range(part.start, part.end, BLOCK_BYTES):
            if abandoned is not None and abandoned.is_set():
                break
            running.update(self.read(start, min(BLOCK_BYTES, part.end - start)))
        return running.digest()

    def write(self, offset: int, parts: Sequence[memoryview | bytearray]) -> int:
        """Write the parts one behind the other; return the offset after them."""
        if not parts:
            return offset
        end = fs.write_at("partial.data", self._data, self._fd, parts, offset)
        self.written.add(offset, end)
        return end

    def clone(self, source: LocalFile) -> bool:
        """Share the blocks of a local file, if the file system can; say whether it could."""
        with fs.translated(self._data, source.size_bytes):
            shared = system.clone_file(source.fd, self._fd)
        if shared:
            self._resumable = False  # it took a moment, and there are no segments to claim
            self.written.add(0, os.fstat(self._fd).st_size)
        return shared

    def forget(self, parts: Sequence[ByteRange]) -> None:
        """Take bytes back, with their claims; what is left of a segment is claimed anew."""
        claims: list[Segment] = []
        for claim in self._journal.claims:
            left = RangeSet([ByteRange(claim.offset, claim.end)])
            for part in parts:
                left.remove(part.start, part.end)
            if left.size_bytes == claim.length:
                claims.append(claim)
            else:
                claims += [Segment(one.start, one.size_bytes, self.blake3(one)[:16]) for one in left]
        for part in parts:
            self.written.remove(part.start, part.end)
        self._journal.replace(claims)

    # Claims.

    @property
    def is_claimed(self) -> bool:
        """Whether anything of it would outlive this process now."""
        return not self._journal.is_empty

    def claim(self, segment: Segment, *, at_once: bool) -> None:
        """Claim bytes that are written: now, or with the next claim or ``keep``."""
        system.start_write_back(self._fd, segment.offset, segment.length)
        self._journal.add(segment)
        if at_once:
            self.claim_all()

    def claim_all(self) -> None:
        """Write the claims that wait, if anybody could ever use them."""
        if self._resumable:
            self._journal.write()

    def sync(self) -> None:
        """Return when the data and what is claimed of it are durable. A sync that fails is fatal."""
        if self._fd >= 0:
            try:
                fs.sync_data("partial.data", self._data, self._fd)
            except CacheError:
                self._unwritable = True
                raise
        self._journal.sync()

    # Ending.

    def seal(self, size: int) -> tuple[Path, int]:
        """Make the file durable and read-only, and close it; return its path and inode.

        Raises:
            StorageError: it does not end at ``size``, or the disk failed: then all of it is thrown away.
        """
        found = os.fstat(self._fd)
        if found.st_size != size:
            raise StorageError(f"{self._data} has not the length that was written; check the disk")
        self._journal.sync()
        self._journal.close()
        fd, self._fd = self._fd, -1
        try:
            fs.seal("partial.data", self._data, fd)
        except CacheError:
            discard_partial(self._folder)  # its bytes can be read, but nobody knows what of them is on the disk
            raise
        self._sealed = True
        return self._data, found.st_ino

    def keep(self, *, durably: bool = True) -> None:
        """Claim everything that was written, the odd tails included, and close it; drop what nobody could use.

        Unless ``durably``, a power cut soon after may make claims false, which costs those bytes and nothing else.
        """
        if not self.is_open and not self._sealed:
            return
        if self._resumable and not self._unwritable:
            try:
                self._claim_what_fits()
                if durably:
                    self.sync()
            except CacheError as error:
                # The transfer's own error is on its way up and says more; a smaller kept part costs time only.
                _log.warning("%s: not all that arrived could be kept: %s", self._identity.path, error)
        if self._unwritable or not self.is_claimed:
            self.drop()
        self.close()

    def _claim_what_fits(self) -> None:
        try:
            self._journal.write()
        except StoreFullError:
            if self._sealed:
                raise
            # On a full disk the journal needs the room to claim the rest.
            fs.truncate("partial.data", self._data, self._fd, self._journal.give_up_last())
            self._journal.write()

    def drop(self) -> None:
        """Throw everything away; it is over."""
        self.close()
        discard_partial(self._folder)

    def close(self) -> None:
        """Close the files. Safe to call twice."""
        self._journal.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
