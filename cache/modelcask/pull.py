"""Pulling: resolve, reuse or fetch, publish, record.

The order of one URI::

    look up                      cached: lease and return, no network
    resolve                      one immutable revision, its files, what the source promises of them
    reuse                        a promised digest that the store has proved is never fetched again
    check the room               short: fail before the first byte
    for each file, several at once, under its key's lock:
        look again, fetch into an ingest, check, seal, publish
    when all are there: manifest, links, then one transaction for revision, entries and refs
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Self

from modelcask import locks
from modelcask.catalog.catalog import Catalog
from modelcask.config import Settings
from modelcask.errors import (
    CacheError,
    OfflineError,
    RemoteChangedError,
    StoreFullError,
)
from modelcask.fetch.download import download
from modelcask.finding import Finder
from modelcask.layout import Layout, ingest_key
from modelcask.net import Client
from modelcask.publish import Publisher
from modelcask.recording import Held, record
from modelcask.selection import Wanted, choose, with_pin
from modelcask.sources import find_source
from modelcask.store import fs
from modelcask.store.ingest import Ingest
from modelcask.store.journal import Identity
from modelcask.store.sessions import open_session
from modelcask.types import (
    FileLocation,
    HTTPLocation,
    Phase,
    Progress,
    ProgressCallback,
    RemoteFile,
    Resolution,
    Snapshot,
)
from modelcask.uri import ModelURI

_TICK_S: Final = 0.1
_POLL_S: Final = (0.02, 0.5)


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


class Puller:
    """Pulls in one root, on one event loop. An async context manager."""

    def __init__(self, layout: Layout, settings: Settings, catalog: Catalog, finder: Finder) -> None:
        publisher = Publisher(layout, catalog, open_session(layout))
        slots = asyncio.Semaphore(settings.files_at_once)
        self._shared = _Shared(layout, settings, catalog, finder, Client(settings), publisher, slots)

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
                _say(progress, Progress(uri.canonical, "", Phase.REUSED, held.size_bytes, held.size_bytes))
                return _with_reuse(held)
        for last in (False, True):
            _say(progress, Progress(uri.canonical, "", Phase.RESOLVING))
            resolution = await asyncio.to_thread(self._resolve_from_pin, uri)
            if resolution is None and self._shared.settings.offline and source.needs_network:
                raise OfflineError(f"{uri.canonical} is not in the cache, and the network is forbidden (offline)")
            if resolution is None:
                resolution = with_pin(
                    await source(self._shared.settings, self._shared.client).resolve(uri, wanted=wanted)
                )
            try:
                return await _Pull(self._shared, resolution, wanted, progress).run()
            except RemoteChangedError:
                if last:
                    raise
        raise AssertionError("unreachable")

    async def plan(self, uri: ModelURI, *, wanted: Wanted | None) -> list[tuple[RemoteFile, bool]]:
        """Return the files that a pull of ``uri`` would make held, each with whether the store has it already.

        Asks the source. Changes nothing.
        """
        resolution = await asyncio.to_thread(self._resolve_from_pin, uri)
        if resolution is None:
            adapter = find_source(uri.scheme)(self._shared.settings, self._shared.client)
            if adapter.needs_network and self._shared.settings.offline:
                raise OfflineError("the network is forbidden (offline)")
            resolution = with_pin(await adapter.resolve(uri, wanted=wanted))
        one = _Pull(self._shared, resolution, wanted, None)
        return await asyncio.to_thread(one.plan)

    def _resolve_from_pin(self, uri: ModelURI) -> Resolution | None:
        """Resolve a plain URL whose pinned bytes the store already holds: no network at all."""
        if uri.pin is None or uri.repo is not None or uri.fetch_url is None:
            return None
        row = self._shared.catalog.find_blob(uri.pin)
        if row is None or not self._shared.finder.claim(row.digest):
            return None
        file = RemoteFile(uri.path, row.size_bytes, (uri.pin,), HTTPLocation(uri.fetch_url))
        return Resolution(uri, None, (file,), complete=False)


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

    def plan(self) -> list[tuple[RemoteFile, bool]]:
        return [(file, self._find_held(file) is not None) for file in self._files]

    async def run(self) -> Snapshot:
        await asyncio.to_thread(self._reuse_what_is_held)
        missing = [file for file in self._files if file.path not in self._held]
        await asyncio.to_thread(self._check_room, missing)
        reused = sum(held.size_bytes for held in self._held.values())
        ticker = asyncio.create_task(self._tick())
        try:
            async with asyncio.TaskGroup() as group:
                for file in missing:
                    group.create_task(self._fetch(file))
        except* CacheError as errors:
            raise _first(errors) from None
        finally:
            ticker.cancel()
        fetched = sum(held.bytes_fetched for held in self._held.values())
        reused += sum(
            max(self._held[file.path].size_bytes - self._held[file.path].bytes_fetched, 0) for file in missing
        )
        snapshot = await asyncio.to_thread(
            record,
            self._shared.layout,
            self._shared.catalog,
            self._resolution,
            [file.path for file in self._files],
            self._held,
        )
        return replace(snapshot, bytes_fetched=fetched, bytes_reused=reused)

    def _reuse_what_is_held(self) -> None:
        for file in self._files:
            held = self._find_held(file)
            if held is not None:
                self._held[file.path] = held
                self._report(file, Phase.REUSED, held.size_bytes, resumed=held.size_bytes)

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
            if self._shared.finder.claim(row.digest):
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
        return None if row is None else Held(row.digest, row.digests, row.size_bytes)

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

    async def _fetch(self, file: RemoteFile) -> None:
        meter = self._meters[file.path] = _Meter(file)
        try:
            async with self._shared.slots:
                key = self._key(file)
                lock = await self._single_flight(file, key)
                try:
                    held = await asyncio.to_thread(self._find_held, file)
                    if held is not None:
                        self._held[file.path] = held
                        self._report(file, Phase.REUSED, held.size_bytes, resumed=held.size_bytes)
                        return
                    await self._transfer(file, key, meter)
                finally:
                    lock.release(remove=True)
        except CacheError as error:
            self._report(file, Phase.FAILED, meter.front(), message=str(error))
            raise
        finally:
            del self._meters[file.path]

    async def _single_flight(self, file: RemoteFile, key: str) -> locks.Lock:
        path = self._shared.layout.key_lock(key)
        pause, most = _POLL_S
        while (held := locks.try_lock(path)) is None:
            self._report(file, Phase.WAITING, message=str(locks.busy(path)))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, most)
        return held

    async def _transfer(self, file: RemoteFile, key: str, meter: _Meter) -> None:
        self._report(file, Phase.CHECKING)
        local = isinstance(file.location, FileLocation)
        async with Ingest(self._shared.layout, key, self._identity(file), name=file.path, reserve=not local) as ingest:
            meter.sink = ingest
            self._report(file, Phase.DOWNLOADING, ingest.front, resumed=ingest.resumed_bytes)
            if isinstance(file.location, FileLocation):
                await ingest.copy_from(file.location.path)
                fetched = ingest.front
            else:
                fetched = await download(
                    file,
                    ingest,
                    client=self._shared.client,
                    settings=self._shared.settings,
                    report=lambda phase, message: self._report(
                        file, phase, ingest.front, resumed=ingest.resumed_bytes, message=message
                    ),
                )
            self._report(file, Phase.PUBLISHING, ingest.front, resumed=ingest.resumed_bytes)
            sealed = await ingest.finish()
            meter.sink = None
        stamp = await self._shared.publisher.publish(sealed)
        self._held[file.path] = Held(sealed.digest, sealed.digests, sealed.size_bytes, fetched, stamp)
        self._report(file, Phase.DONE, sealed.size_bytes)

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
