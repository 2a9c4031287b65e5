"""Pulling: resolve, reuse or fetch, publish, record, retire.

The order of one URI::

    look up                      cached: lease and return, no network
    resolve                      one immutable revision, its files, what the source promises of them
    reuse                        a promised digest that the store has proved is never fetched again
    check the room               short: fail before the first byte
    for each file, several at once, under its key's lock:
        look again, fetch into an ingest, check, seal, publish
    when all are there: manifest, links, then one transaction for revision, entries and refs
    retire                       the partials of what was published go
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import uuid
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Self

from modelcask.access import Access
from modelcask.cancellation import through
from modelcask.catalog.catalog import Catalog
from modelcask.config import Settings
from modelcask.errors import BusyError, CacheError, RemoteChangedError, StorageError
from modelcask.fetch.download import Network
from modelcask.fetch.gate import Gate
from modelcask.fetch.limiter import Limiter
from modelcask.fetch.lines import Lines
from modelcask.fetch.xet_reader import XetReader
from modelcask.fetching import Fetcher, Workshop
from modelcask.finding import Finder
from modelcask.layout import Layout
from modelcask.logbook import FLUSH_S, Logbook
from modelcask.net.client import Client
from modelcask.printable import display
from modelcask.publishing import Publisher, retire, sweep_snapshot
from modelcask.recording import Held, record
from modelcask.reporting import Reporter
from modelcask.resolving import resolve, resolve_from_pin
from modelcask.reusing import find_held, key_of
from modelcask.selection import Wanted, choose
from modelcask.sources import find_source
from modelcask.store.lanes import Lanes
from modelcask.store.sessions import is_alive, open_session
from modelcask.types import FileLocation, Phase, ProgressCallback, RemoteFile, Resolution, Snapshot
from modelcask.uri import ModelURI

_log = logging.getLogger("modelcask.pull")

_ADMITTED: Final = 128
_CHANGES: Final = 1
_COLLISIONS: Final = 8
_PAUSE_S: Final = (0.02, 0.5)


@dataclass(frozen=True, slots=True)
class Order:
    """One pull as its caller wants it."""

    uri: ModelURI
    wanted: Wanted | None = None
    refresh: bool = False
    progress: ProgressCallback | None = None
    request_id: str = ""
    gate: Gate = field(default_factory=Gate)
    keep_partial: bool = True
    access: Access | None = None
    """In place of the settings' own."""


class Puller:
    """Pulls in one root, on one event loop. An async context manager."""

    def __init__(self, layout: Layout, settings: Settings, catalog: Catalog, finder: Finder) -> None:
        self._settings = settings
        self._client = Client(settings)
        self._session = open_session(layout)
        lines, limiter = Lines(settings.connections), Limiter(settings.limit_rate)
        network = Network(self._client, lines, limiter, settings.retries, xet=XetReader(settings))
        self._shop = Workshop(
            layout,
            catalog,
            finder,
            network,
            Lanes(),
            Publisher(layout, catalog, self._session),
            asyncio.Semaphore(settings.files_at_once),
            asyncio.Semaphore(settings.files_at_once + _ADMITTED),
        )
        self._numbers = itertools.count()

    async def __aenter__(self) -> Self:
        """Open the network client, and record of former processes what they could not."""
        shop = self._shop
        await asyncio.to_thread(shop.catalog.close_interrupted, partial(is_alive, shop.layout))
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Wait for the group that is being committed, and close the network client."""
        await self._shop.publisher.close()
        await self._client.__aexit__(*error)
        self._shop.lanes.close()

    async def pull(self, order: Order) -> Snapshot:
        """Return the snapshot that a URI means, from the cache or from its source.

        Raises:
            CacheError: as drawn in errors.py. Nothing half is visible; what has arrived is kept for the next try.
        """
        uri, shop = order.uri, self._shop
        number = next(self._numbers)
        book = Logbook(shop.catalog, self._session.path.name, uri, order.request_id or uuid.uuid4().hex)
        _log.info("pull %s of %s", book.request_id, uri)
        reporter = Reporter(uri.canonical, order.progress, book.request_id)
        source = find_source(uri.scheme)
        if not order.refresh and source.needs_network:
            held = await asyncio.to_thread(shop.finder.find, uri, order.wanted)
            if held is not None:
                await asyncio.to_thread(sweep_snapshot, shop.layout, shop.catalog, held)
                await book.open([(entry.path, entry.size_bytes or 0) for entry in held.entries])
                reporter.tell(Phase.REUSED, bytes_done=held.size_bytes)
                _log.info("%s is cached: revision %s", uri, held.revision)
                return replace(held, bytes_reused=held.size_bytes)
        changed = busy = 0
        while True:
            reporter.tell(Phase.RESOLVING)
            try:
                resolution = await self._resolve(uri, order.wanted, reporter, self._settings, order.access)
                files = choose(resolution, order.wanted)
            except BaseException as error:
                await book.refuse(error)
                raise
            _log.info("%s is revision %s, %d files known", uri, resolution.revision, len(resolution.files))
            fetcher = Fetcher(shop, resolution, reporter, book, order.gate, number, order.keep_partial)
            try:
                return await _Pull(fetcher, files).run()
            except RemoteChangedError:
                changed += 1
                if changed > _CHANGES:
                    raise
            except (BusyError, StorageError) as error:
                busy += 1
                if not _is_collision(error) or busy > _COLLISIONS:
                    raise
                await asyncio.sleep(busy * random.uniform(*_PAUSE_S))  # noqa: S311 - jitter, not a secret

    async def plan(
        self, uri: ModelURI, *, wanted: Wanted | None, access: Access | None = None
    ) -> list[tuple[RemoteFile, bool]]:
        """Return the files that a pull of ``uri`` would make held, each with whether the store has it already.

        Asks the source. Changes nothing.
        """
        impatient = replace(self._settings, retries=0)  # a person waits for the answer
        resolution = await self._resolve(uri, wanted, None, impatient, access)
        shop = self._shop

        def look() -> list[tuple[RemoteFile, bool]]:
            return [
                (file, find_held(shop.layout, shop.catalog, shop.finder, resolution, file) is not None)
                for file in choose(resolution, wanted)
            ]

        return await asyncio.to_thread(look)

    async def _resolve(
        self,
        uri: ModelURI,
        wanted: Wanted | None,
        reporter: Reporter | None,
        settings: Settings,
        access: Access | None,
    ) -> Resolution:
        if access is not None:
            settings = replace(settings, access=access)
        known = await asyncio.to_thread(resolve_from_pin, uri, self._shop.catalog, self._shop.finder)
        return known or await resolve(uri, wanted, settings, self._client, reporter)


class _Pull:
    """One URI on its way, resolved."""

    def __init__(self, fetcher: Fetcher, files: list[RemoteFile]) -> None:
        self._fetcher = fetcher
        self._shop = fetcher.shop
        self._files = files
        self._held: dict[str, Held] = {}

    async def run(self) -> Snapshot:
        fetcher = self._fetcher
        await asyncio.to_thread(self._reuse_what_is_held)
        missing = [file for file in self._files if file.path not in self._held]
        self._tell_of_all()
        try:
            await fetcher.book.open([(file.path, self._held_bytes(file)) for file in self._files])
            return await self._run(missing)
        except BaseException as error:
            fetcher.book.end_all(error)
            raise
        finally:
            await fetcher.book.flush()

    def _held_bytes(self, file: RemoteFile) -> int | None:
        held = self._held.get(file.path)
        return None if held is None else held.size_bytes

    async def _run(self, missing: list[RemoteFile]) -> Snapshot:
        shop, fetcher = self._shop, self._fetcher
        reused = sum(held.size_bytes for held in self._held.values())
        try:
            try:
                await asyncio.to_thread(self._reserve_room, missing)
                await self._fetch_all(missing)
            except asyncio.CancelledError:
                # What is all published, and told as done, is recorded although nobody waits for it any more.
                if len(self._held) == len(self._files):
                    await through(asyncio.to_thread(self._finish))
                elif not fetcher.keep_partial:
                    await through(asyncio.to_thread(retire, shop.layout, shop.catalog, fetcher.published))
                raise
            snapshot = await through(asyncio.to_thread(self._finish))
        finally:
            fetcher.room.release()
            if fetcher.kept_lock is not None:
                fetcher.kept_lock.release(remove=True)
        arrived = [self._held[file.path] for file in missing]
        fetched = sum(held.bytes_fetched for held in arrived)
        reused += sum(max(held.size_bytes - held.bytes_fetched, 0) for held in arrived)
        return replace(snapshot, bytes_fetched=fetched, bytes_reused=reused)

    def _finish(self) -> Snapshot:
        shop, fetcher = self._shop, self._fetcher
        paths = [file.path for file in self._files]
        snapshot = record(shop.layout, shop.catalog, fetcher.resolution, paths, self._held)
        retire(shop.layout, shop.catalog, fetcher.published)
        return snapshot

    async def _fetch_all(self, missing: list[RemoteFile]) -> None:
        async def fetch(file: RemoteFile) -> None:
            self._held[file.path] = await self._fetcher.fetch(file, only=len(missing) == 1)

        async def keep_book() -> None:
            while True:
                await asyncio.sleep(FLUSH_S)
                await self._fetcher.book.flush()

        try:
            async with asyncio.TaskGroup() as around:
                tickers = [around.create_task(self._fetcher.reporter.tick(missing)), around.create_task(keep_book())]
                async with asyncio.TaskGroup() as group:
                    for file in missing:
                        group.create_task(fetch(file))
                for ticker in tickers:
                    ticker.cancel()
        except ExceptionGroup as errors:
            error = _first(errors)
            raise error from error.__cause__

    def _tell_of_all(self) -> None:
        """Tell of all files at once, and on the event loop: whoever adds them up knows the whole job then."""
        tell = self._fetcher.reporter.tell_file
        for file in self._files:
            held = self._held_bytes(file)
            if held is None:
                tell(file, Phase.RESOLVING)
            else:
                tell(file, Phase.REUSED, done=held, resumed=held)

    def _reuse_what_is_held(self) -> None:
        shop, fetcher = self._shop, self._fetcher
        for file in self._files:
            held = find_held(shop.layout, shop.catalog, shop.finder, fetcher.resolution, file)
            if held is not None:
                self._held[file.path] = held
                _log.info("%s: reused %s", display(file.path), held.blob)

    def _reserve_room(self, missing: list[RemoteFile]) -> None:
        sizes = {
            key_of(self._fetcher.resolution, file): file.size_bytes
            for file in missing
            # A local file may be shared block by block; a copy, and what has no size yet, is checked as it grows.
            if file.size_bytes and not isinstance(file.location, FileLocation)
        }
        self._fetcher.room.take(sizes)


def _is_collision(error: CacheError) -> bool:
    """Say whether another process works in the same place, as happens where locks lie (I7).

    It has taken the partial over then, or what was there a moment ago, under our lock, is gone.
    """
    return isinstance(error, BusyError) or isinstance(error.__cause__, FileNotFoundError | FileExistsError)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
