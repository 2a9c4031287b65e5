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
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Self

from modelcask import locks
from modelcask.catalog.catalog import Catalog
from modelcask.config import Settings
from modelcask.errors import (
    BusyError,
    CacheError,
    RemoteChangedError,
    StoreFullError,
)
from modelcask.fetch.download import download
from modelcask.finding import Finder
from modelcask.layout import Layout, ingest_key
from modelcask.net.client import Client
from modelcask.publishing import Publisher, retire, sweep, sweep_snapshot
from modelcask.recording import Held, record
from modelcask.resolving import resolve, resolve_from_pin
from modelcask.selection import Wanted, choose
from modelcask.sources import find_source
from modelcask.store import fs
from modelcask.store.ingest import Ingest
from modelcask.store.journal import Identity
from modelcask.store.sealed import SealedFile
from modelcask.store.sessions import open_session
from modelcask.types import (
    FileLocation,
    Phase,
    Progress,
    ProgressCallback,
    RemoteFile,
    Resolution,
    Snapshot,
)
from modelcask.uri import ModelURI

_log = logging.getLogger("modelcask.pull")

_TICK_S: Final = 0.1
_POLL_S: Final = (0.02, 0.5)
_ADMITTED: Final = 128
_CHANGES: Final = 1
_COLLISIONS: Final = 8


@dataclass(slots=True)
class _Shared:
    """What all pulls of one event loop share."""

    layout: Layout
    settings: Settings
    catalog: Catalog
    finder: Finder
    client: Client
    publisher: Publisher
    slots: asyncio.Semaphore
    """For transfers that run."""
    admitted: asyncio.Semaphore
    """For files that hold a lock or wait to be published: each takes a descriptor."""


class Puller:
    """Pulls in one root, on one event loop. An async context manager."""

    def __init__(self, layout: Layout, settings: Settings, catalog: Catalog, finder: Finder) -> None:
        publisher = Publisher(layout, catalog, open_session(layout))
        slots = asyncio.Semaphore(settings.files_at_once)
        admitted = asyncio.Semaphore(settings.files_at_once + _ADMITTED)
        self._shared = _Shared(layout, settings, catalog, finder, Client(settings), publisher, slots, admitted)

    async def __aenter__(self) -> Self:
        """Open the network client."""
        await self._shared.client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Wait for the group that is being committed, and close the network client."""
        await self._shared.publisher.close()
        await self._shared.client.__aexit__(*error)

    async def pull(
        self, uri: ModelURI, *, wanted: Wanted | None, refresh: bool, progress: ProgressCallback | None
    ) -> Snapshot:
        """Return the snapshot that a URI means, from the cache or from its source.

        Raises:
            CacheError: as drawn in errors.py. Nothing half is visible; what has arrived is kept for the next try.
        """
        source = find_source(uri.scheme)
        if not refresh and source.needs_network:
            held = await asyncio.to_thread(self._shared.finder.find, uri, wanted)
            if held is not None:
                await asyncio.to_thread(sweep_snapshot, self._shared.layout, self._shared.catalog, held)
                _say(progress, Progress(uri.canonical, "", Phase.REUSED, held.size_bytes, held.size_bytes))
                return _with_reuse(held)
        changed = busy = 0
        while True:
            _say(progress, Progress(uri.canonical, "", Phase.RESOLVING))
            resolution = await self._resolve(uri, wanted, progress, self._shared.settings)
            _log.info("%s is revision %s, %d files known", uri, resolution.revision, len(resolution.files))
            try:
                return await _Pull(self._shared, resolution, wanted, progress).run()
            except RemoteChangedError:
                changed += 1
                if changed > _CHANGES:
                    raise
            except BusyError:  # where locks lie, another process took the partial over (I7)
                busy += 1
                if busy > _COLLISIONS:
                    raise
                await asyncio.sleep(busy * random.uniform(*_POLL_S))  # noqa: S311 - jitter, not a secret

    async def plan(self, uri: ModelURI, *, wanted: Wanted | None) -> list[tuple[RemoteFile, bool]]:
        """Return the files that a pull of ``uri`` would make held, each with whether the store has it already.

        Asks the source. Changes nothing.
        """
        impatient = replace(self._shared.settings, retries=0)  # a person waits for the answer
        resolution = await self._resolve(uri, wanted, None, impatient)
        one = _Pull(self._shared, resolution, wanted, None)
        return await asyncio.to_thread(one.plan)

    async def _resolve(
        self, uri: ModelURI, wanted: Wanted | None, progress: ProgressCallback | None, settings: Settings
    ) -> Resolution:
        shared = self._shared
        known = await asyncio.to_thread(resolve_from_pin, uri, shared.catalog, shared.finder)
        return known or await resolve(uri, wanted, settings, shared.client, progress)


class _Pull:
    """One URI on its way, resolved."""

    def __init__(
        self, shared: _Shared, resolution: Resolution, wanted: Wanted | None, progress: ProgressCallback | None
    ) -> None:
        self._shared = shared
        self._resolution = resolution
        self._uri = resolution.uri
        self._progress = progress
        self._files = choose(resolution, wanted)
        self._held: dict[str, Held] = {}
        self._meters: dict[str, _Meter] = {}
        self._last_lock: locks.Lock | None = None
        self._published: list[SealedFile] = []

    def plan(self) -> list[tuple[RemoteFile, bool]]:
        return [(file, self._find_held(file) is not None) for file in self._files]

    async def run(self) -> Snapshot:
        await asyncio.to_thread(self._reuse_what_is_held)
        missing = [file for file in self._files if file.path not in self._held]
        await asyncio.to_thread(self._check_room, missing)
        reused = sum(held.size_bytes for held in self._held.values())
        for file in missing:
            self._report(file, Phase.RESOLVING)  # so that whoever draws the progress knows the whole job
        try:
            await self._fetch_all(missing)
            snapshot = await asyncio.to_thread(
                record,
                self._shared.layout,
                self._shared.catalog,
                self._resolution,
                [file.path for file in self._files],
                self._held,
            )
            await asyncio.to_thread(retire, self._shared.layout, self._shared.catalog, self._published)
        finally:
            if self._last_lock is not None:
                self._last_lock.release(remove=True)
        arrived = [self._held[file.path] for file in missing]
        fetched = sum(held.bytes_fetched for held in arrived)
        reused += sum(max(held.size_bytes - held.bytes_fetched, 0) for held in arrived)
        return replace(snapshot, bytes_fetched=fetched, bytes_reused=reused)

    async def _fetch_all(self, missing: list[RemoteFile]) -> None:
        ticker = asyncio.create_task(self._tick())
        try:
            async with asyncio.TaskGroup() as group:
                for file in missing:
                    group.create_task(self._fetch(file, last=len(missing) == 1))
        except* CacheError as errors:
            raise _first(errors) from None
        finally:
            ticker.cancel()

    def _reuse_what_is_held(self) -> None:
        for file in self._files:
            held = self._find_held(file)
            if held is not None:
                self._held[file.path] = held
                self._report(file, Phase.REUSED, held.size_bytes, resumed=held.size_bytes)
                _log.info("%s: reused %s", file.path, held.blob)

    def _find_held(self, file: RemoteFile) -> Held | None:
        """Return the blob that proves what the source promises of a file, whatever source it came from."""
        catalog = self._shared.catalog
        for promised in file.digests:
            row = catalog.find_blob(promised) if promised.strong else None
            if row is None and not promised.strong:
                # Others can make a file with the same weak digest, so it is believed only inside its own source.
                row = catalog.find_blob_in_source(self._uri.source, promised)
            if row is None or (file.size_bytes is not None and row.size_bytes != file.size_bytes):
                continue
            computed = {digest.algorithm: digest for digest in row.digests}
            if any(computed.get(promise.algorithm, promise) != promise for promise in file.digests):
                continue  # one promise fits and another does not: let the transfer say which
            if self._shared.finder.claim(row.digest):
                sweep(self._shared.layout, catalog, self._key(file), row.digest)
                return Held(row.digest, row.digests, row.size_bytes)
        return self._find_recorded(file)

    def _find_recorded(self, file: RemoteFile) -> Held | None:
        """Return the blob that this very path of this very revision already has."""
        revision = self._resolution.revision
        if revision is None:
            return None
        uri = ModelURI(self._uri.scheme, self._uri.source, file.path, revision=revision)
        snapshot = self._shared.finder.find(uri)
        entry = next((entry for entry in snapshot.entries if entry.path == file.path), None) if snapshot else None
        if entry is None or entry.blob is None:
            return None
        row = self._shared.catalog.find_blob(entry.blob)
        if row is None:
            return None
        sweep(self._shared.layout, self._shared.catalog, self._key(file), row.digest)
        return Held(row.digest, row.digests, row.size_bytes)

    def _check_room(self, missing: list[RemoteFile]) -> None:
        needed = 0
        for key, file in {self._key(file): file for file in missing}.items():
            if isinstance(file.location, FileLocation) or file.size_bytes is None:
                continue  # a local file may be shared block by block; an unknown size is checked as it grows
            data = self._shared.layout.partial(key) / "data"
            taken = data.stat().st_blocks * 512 if data.exists() else 0
            needed += max(file.size_bytes - taken, 0)
        available = fs.free_bytes(self._shared.layout.root)
        if needed > available:
            raise StoreFullError(needed, available, where=str(self._shared.layout.root))

    async def _fetch(self, file: RemoteFile, *, last: bool) -> None:
        meter = self._meters[file.path] = _Meter(file)
        lock: locks.Lock | None = None
        try:
            async with self._shared.admitted:
                lock, sealed, fetched = await self._fetch_alone(file, meter)
                if sealed is None:
                    return
                # The slot is free for the next file; the lock is not before the blob is visible.
                await self._shared.publisher.publish(sealed)
                self._published.append(sealed)
                self._held[file.path] = Held(sealed.digest, sealed.digests, sealed.size_bytes, fetched)
                self._report(file, Phase.DONE, sealed.size_bytes)
                _log.info("%s: %d bytes fetched, published as %s", file.path, fetched, sealed.digest)
                if last:
                    # Without a promised digest others find the file only when its revision is recorded. Only a
                    # pull's sole lock is kept so long: two pulls that keep several could wait for each other.
                    self._last_lock, lock = lock, None
        except CacheError as error:
            self._report(file, Phase.FAILED, meter.front(), message=str(error))
            raise
        finally:
            del self._meters[file.path]
            if lock is not None:
                lock.release(remove=True)

    async def _fetch_alone(self, file: RemoteFile, meter: _Meter) -> tuple[locks.Lock, SealedFile | None, int]:
        """Fetch a file under its key's lock, which is returned held; no SealedFile if somebody else had fetched it."""
        key = self._key(file)
        path = self._shared.layout.key_lock(key)
        pause, most = _POLL_S
        while True:
            async with self._shared.slots:
                lock = locks.try_lock(path)
                if lock is not None:
                    try:
                        held = await asyncio.to_thread(self._find_held, file)
                        if held is None:
                            return lock, *await self._transfer(file, key, meter)
                    except BaseException:
                        lock.release(remove=True)
                        raise
                    self._held[file.path] = held
                    self._report(file, Phase.REUSED, held.size_bytes, resumed=held.size_bytes)
                    return lock, None, 0
            # Another process fetches it; our slot is free meanwhile.
            self._report(file, Phase.WAITING, message=str(locks.busy(path)))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, most)

    async def _transfer(self, file: RemoteFile, key: str, meter: _Meter) -> tuple[SealedFile, int]:
        self._report(file, Phase.CHECKING)
        local = isinstance(file.location, FileLocation)
        async with Ingest(self._shared.layout, key, self._identity(file), name=file.path, reserve=not local) as ingest:
            meter.sink = ingest

            def report(phase: Phase, message: str = "") -> None:
                self._report(file, phase, ingest.front, resumed=ingest.resumed_bytes, message=message)

            try:
                report(Phase.DOWNLOADING)
                if isinstance(file.location, FileLocation):
                    await ingest.copy_from(file.location.path)
                    fetched = ingest.front
                else:
                    fetched = await download(
                        file, ingest, client=self._shared.client, settings=self._shared.settings, report=report
                    )
                report(Phase.PUBLISHING)
                return await ingest.finish(), fetched
            except RemoteChangedError as error:
                await ingest.drop()  # what is kept and what the source has now do not belong together
                error.bytes_kept = 0
                raise
            finally:
                meter.sink = None

    def _key(self, file: RemoteFile) -> str:
        expected = next((digest for digest in file.digests if digest.strong), None)
        source, revision = self._uri.source, self._resolution.revision
        return ingest_key(expected=expected, source=source, revision=revision, path=file.path)

    def _identity(self, file: RemoteFile) -> Identity:
        return Identity(
            self._uri.source, self._resolution.revision, file.path, file.size_bytes, file.etag, file.digests
        )

    def _report(self, file: RemoteFile, phase: Phase, done: int = 0, *, resumed: int = 0, message: str = "") -> None:
        _say(
            self._progress,
            Progress(self._uri.canonical, file.path, phase, done, file.size_bytes, resumed, message),
        )

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            for meter in self._meters.values():
                if meter.sink is not None and meter.moved():
                    resumed = meter.sink.resumed_bytes
                    self._report(meter.file, Phase.DOWNLOADING, meter.front(), resumed=resumed)


@dataclass(slots=True)
class _Meter:
    """Tells the ticker how far a file is."""

    file: RemoteFile
    sink: Ingest | None = None
    _shown: int = field(default=-1)

    def front(self) -> int:
        return self.sink.front if self.sink is not None else 0

    def moved(self) -> bool:
        before, self._shown = self._shown, self.front()
        return before != self._shown


def _first(group: BaseExceptionGroup[CacheError]) -> CacheError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, CacheError)  # noqa: S101 - for the type checker: that is what except* caught
    return error


def _with_reuse(held: Snapshot) -> Snapshot:
    return replace(held, bytes_reused=held.size_bytes)


def _say(progress: Callable[[Progress], None] | None, event: Progress) -> None:
    if progress is not None:
        progress(event)
