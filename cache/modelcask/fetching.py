"""Fetching one file: alone among all processes, into an ingest, checked, sealed, published."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from modelcask import locks
from modelcask.cancellation import through
from modelcask.catalog.catalog import Catalog
from modelcask.errors import CacheError, RemoteChangedError, StoreFullError
from modelcask.fetch import xet
from modelcask.fetch.download import Network, download
from modelcask.fetch.gate import Gate
from modelcask.finding import Finder
from modelcask.layout import Layout
from modelcask.logbook import Logbook
from modelcask.printable import display
from modelcask.publishing import Publisher
from modelcask.recording import Held
from modelcask.reporting import Reporter
from modelcask.reusing import find_held, key_of
from modelcask.store.ingest import Ingest
from modelcask.store.journal import Identity, claimed_bytes
from modelcask.store.lanes import Lanes
from modelcask.store.room import Reservation
from modelcask.store.sealed import SealedFile, discard_partial
from modelcask.types import FileLocation, Phase, RemoteFile, Resolution

_log = logging.getLogger("modelcask.pull")

_POLL_S: Final = (0.02, 0.5)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all pulls of one event loop share."""

    layout: Layout
    catalog: Catalog
    finder: Finder
    network: Network
    lanes: Lanes
    publisher: Publisher
    slots: asyncio.Semaphore
    """For transfers that run."""
    admitted: asyncio.Semaphore
    """For files that hold a lock or wait to be published: each takes a descriptor."""


@dataclass(slots=True)
class Fetcher:
    """Fetches the files of one resolution."""

    shop: Workshop
    resolution: Resolution
    reporter: Reporter
    book: Logbook
    gate: Gate
    order: int
    """Of this pull among all: its files get their connections before those of later ones."""
    keep_partial: bool
    """Whether what has arrived stays when the pull is cancelled."""
    published: list[SealedFile] = field(default_factory=list)
    """Their partials stay until the revision is recorded."""
    kept_lock: locks.Lock | None = None
    """The lock of a pull's only file, kept until the revision is recorded."""
    room: Reservation = field(init=False)

    def __post_init__(self) -> None:
        self.room = Reservation(self.shop.layout)

    async def fetch(self, file: RemoteFile, *, only: bool) -> Held:
        """Return the blob of a file once it is published, by us or by another process.

        Raises:
            CacheError: as drawn in errors.py; what has arrived is kept.
        """
        reporter = self.reporter
        lock: locks.Lock | None = None
        try:
            async with self.shop.admitted:
                lock, done, fetched = await self._fetch_alone(file)
                if isinstance(done, Held):
                    self.book.moved(file.path, fetched=0, reused=done.size_bytes)
                    self.book.end(file.path)
                    return done
                # The slot is free for the next file; the lock is not before the blob is visible.
                self.published.append(done)
                await self.shop.publisher.publish(done)
            self.book.end(file.path)
            reporter.tell_file(file, Phase.DONE, done=done.size_bytes)
            _log.info("%s: %d bytes fetched, published as %s", display(file.path), fetched, done.digest)
            if only:
                # Without a promised digest others find the file only when its revision is recorded. Only a
                # pull's sole lock is kept so long: two pulls that keep several could wait for each other.
                self.kept_lock, lock = lock, None
            return Held(done.digest, done.digests, done.size_bytes, fetched)
        except CacheError as error:
            self.book.end(file.path, error)
            reporter.tell_file(file, Phase.FAILED, str(error))
            raise
        except asyncio.CancelledError as error:
            self.book.end(file.path, error)
            reporter.tell_file(file, Phase.CANCELLED)
            raise
        finally:
            reporter.watch(file, None)
            self.room.done(key_of(self.resolution, file))
            if lock is not None:
                lock.release(remove=True)

    async def _fetch_alone(self, file: RemoteFile) -> tuple[locks.Lock, SealedFile | Held, int]:
        """Fetch a file under its key's lock, which is returned held; the Held of one that somebody else had fetched."""
        shop = self.shop
        path = shop.layout.key_lock(key_of(self.resolution, file))
        pause, most = _POLL_S
        while True:
            async with shop.slots:
                lock = locks.try_lock(path)
                if lock is not None:
                    self.book.begin(file.path)
                    try:
                        held = await asyncio.to_thread(
                            find_held, shop.layout, shop.catalog, shop.finder, self.resolution, file
                        )
                        if held is None:
                            return lock, *await self._transfer(file)
                    except BaseException:
                        lock.release(remove=True)
                        raise
                    self.reporter.tell_file(file, Phase.REUSED, done=held.size_bytes, resumed=held.size_bytes)
                    return lock, held, 0
            # Another process fetches it; our slot is free meanwhile.
            busy = locks.busy(path)
            _log.debug("%s: waiting: %s", display(file.path), busy)
            self.reporter.tell_file(file, Phase.WAITING, str(busy))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, most)

    async def _transfer(self, file: RemoteFile) -> tuple[SealedFile, int]:
        async with self._ingest(file) as ingest:

            def report(phase: Phase, message: str = "") -> None:
                held = ingest.held.size_bytes
                self.reporter.tell_file(file, phase, message, done=held, resumed=ingest.resumed_bytes)

            fetched = 0
            try:
                if isinstance(file.location, FileLocation):
                    report(Phase.DOWNLOADING)
                    await ingest.copy_from(file.location.path)
                    fetched = ingest.held.size_bytes
                else:
                    transport = download if file.xet is None else xet.download
                    fetched = await transport(
                        file, ingest, self.shop.network, report=report, order=self.order, gate=self.gate
                    )
                report(Phase.VERIFYING)
                sealed = await ingest.finish()
                report(Phase.PUBLISHING)
            except RemoteChangedError as error:
                await ingest.drop()  # what is kept and what the source has now do not belong together
                error.bytes_kept = 0
                raise
            except asyncio.CancelledError:
                if not self.keep_partial:
                    await ingest.drop()
                raise
            finally:
                # Of a transfer that failed, what it threw away on the way is not known.
                fetched = fetched or max(ingest.held.size_bytes - ingest.resumed_bytes, 0)
                self.book.moved(file.path, fetched=fetched, reused=ingest.resumed_bytes)
            return sealed, fetched

    @asynccontextmanager
    async def _ingest(self, file: RemoteFile) -> AsyncIterator[Ingest]:
        self.reporter.tell_file(file, Phase.CHECKING)
        uri = self.resolution.uri
        identity = Identity(uri.source, self.resolution.revision, file.path, file.size_bytes, file.etag, file.digests)
        key = key_of(self.resolution, file)
        local = isinstance(file.location, FileLocation)
        try:
            async with Ingest(
                self.shop.layout,
                key,
                identity,
                name=file.path,
                lanes=self.shop.lanes,
                reserve=not local,
                grow=partial(self.room.grow, key, size_bytes=file.size_bytes) if local or not file.size_bytes else None,
            ) as ingest:
                self.reporter.watch(file, lambda: ingest.held.size_bytes)
                yield ingest
        except asyncio.CancelledError:
            if not self.keep_partial:  # also where it was not open yet
                await through(asyncio.to_thread(discard_partial, self.shop.layout.partial(key)))
            raise
        except StoreFullError as error:
            kept = await asyncio.to_thread(claimed_bytes, self.shop.layout.partial(key) / "journal")
            raise error.amid(display(file.path), kept) from error
