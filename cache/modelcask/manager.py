"""ModelCache: the one object that people and programs use. It opens what a verb needs when it needs it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from modelcask.config import Settings, load_settings
from modelcask.digest import Digest
from modelcask.errors import CacheError, NotCachedError, NotFoundError
from modelcask.explanation import Explanation, PlannedFile, SnapshotDetail
from modelcask.finding import Finder
from modelcask.layout import Layout
from modelcask.selection import Wanted, select
from modelcask.store.root import open_root, read_format
from modelcask.types import ProgressCallback, RemoteFile, Snapshot
from modelcask.uri import ModelURI, parse_uri

# The heavy parts (SQLAlchemy, aiohttp, huggingface_hub) are imported by the verbs that need them: a lookup
# needs none of them, and it is what programs do all day.
if TYPE_CHECKING:
    from modelcask.catalog.catalog import Catalog
    from modelcask.catalog.rows import SnapshotRow
    from modelcask.diagnosis import Check
    from modelcask.pulling import Puller
    from modelcask.rebuilding import Rebuilt
    from modelcask.removal import Removal, RemovalPlan
    from modelcask.verification import Verified

_T = TypeVar("_T")


class ModelCache:
    """The models of one root.

    Cheap to make: nothing is opened or created before it is needed. Thread-safe. Every path that it returns is
    leased to this process until the process ends, so no collector takes it. Close it, or use it in ``with`` or
    ``async with``.

    Args:
        root: the root folder; default: the setting ``home``.
        settings: settings in place of those from the environment and the config file.
    """

    def __init__(self, root: str | Path | None = None, *, settings: Settings | None = None) -> None:
        self.settings = settings if settings is not None else load_settings(home=None if root is None else Path(root))
        self._layout = Layout(self.settings.home)
        self._guard = threading.RLock()
        self._catalog: Catalog | None = None
        self._finder = Finder(self._layout, self._open_catalog)
        self._puller: tuple[asyncio.AbstractEventLoop, Puller] | None = None
        host = urlsplit(self.settings.hf_endpoint).netloc.rpartition("@")[2].lower()
        self._parse = lru_cache(maxsize=4096)(partial(parse_uri, hub_hosts=(host,)))

    @property
    def root(self) -> Path:
        """The root folder, whether or not it exists yet."""
        return self._layout.root

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        """Keep connections open for all pulls inside the block."""
        self._puller = (asyncio.get_running_loop(), await self._new_puller().__aenter__())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._puller is not None:
            _, puller = self._puller
            self._puller = None
            await puller.__aexit__(*error)
        self.close()

    def close(self) -> None:
        """Close the catalog. Leases stay until the process ends; the next call opens it again."""
        self._finder.close()
        with self._guard:
            if self._catalog is not None:
                self._catalog.close()
                self._catalog = None

    def parse(self, uri: str | ModelURI) -> ModelURI:
        """Read a URI as this cache understands it: web pages of its Hub endpoint are the Hub's.

        Raises:
            InvalidURIError: it cannot be read; the error names the part and the nearest right form.
        """
        return uri if isinstance(uri, ModelURI) else self._parse(uri)

    # Looking up: never the network.

    def lookup(self, uri: str | ModelURI) -> Path | None:
        """Return the local path of what ``uri`` means, None unless all of it is cached and proved.

        A file for a URI that means one file, a folder for one that means several. Never uses the network.
        """
        found = self.find(uri)
        return None if found is None else found.path

    async def lookup_async(self, uri: str | ModelURI) -> Path | None:
        """See :meth:`lookup`; a blob whose file changed is hashed again in a thread."""
        return await asyncio.to_thread(self.lookup, uri)

    def find(self, uri: str | ModelURI, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> Snapshot | None:
        """Return the snapshot that ``uri`` means, None unless all of it is cached and proved."""
        return self._finder.find(self.parse(uri), select(include, exclude))

    def get_path(self, uri: str | ModelURI) -> Path:
        """Return what :meth:`lookup` does, but raise NotCachedError where that returns None."""
        parsed = self.parse(uri)
        found = self._finder.find(parsed)
        if found is None:
            raise self._finder.explain_absence(parsed)
        return found.path

    # Pulling.

    def get(self, uri: str | ModelURI, *, progress: ProgressCallback | None = None) -> Path:
        """Return the local path of what ``uri`` means; download it first if it is not cached."""
        return self.lookup(uri) or _run(self.get_async(uri, progress=progress), "get")

    async def get_async(self, uri: str | ModelURI, *, progress: ProgressCallback | None = None) -> Path:
        """See :meth:`get`."""
        [snapshot] = await self.pull_async(uri, progress=progress)
        return snapshot.path

    def pull(
        self,
        *uris: str | ModelURI,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        refresh: bool = False,
        progress: ProgressCallback | None = None,
    ) -> list[Snapshot]:
        """Make what each URI means cached, and return a snapshot for each, in order.

        Args:
            uris: at least one; several are pulled side by side.
            include: globs; of a URI that means several files, only those that match.
            exclude: globs; without those that match.
            refresh: ask the source again even if it is cached; unchanged bytes are not fetched again.
            progress: called with events, from the thread that runs the pull.

        Raises:
            CacheError: the first error in the order of the URIs, after all others have ended. Each further one is
                a note on it.
        """
        return _run(
            self.pull_async(*uris, include=include, exclude=exclude, refresh=refresh, progress=progress), "pull"
        )

    async def pull_async(
        self,
        *uris: str | ModelURI,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        refresh: bool = False,
        progress: ProgressCallback | None = None,
    ) -> list[Snapshot]:
        """See :meth:`pull`. Cancellation keeps what has arrived for the next pull."""
        parsed = [self.parse(uri) for uri in uris]
        wanted = select(include, exclude)
        async with self._pulling() as puller:
            tasks = [
                asyncio.ensure_future(puller.pull(uri, wanted=wanted, refresh=refresh, progress=progress))
                for uri in parsed
            ]
            try:
                await asyncio.wait(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
        return list(_or_first_error(results))

    # Telling.

    def explain(self, uri: str | ModelURI, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> Explanation:
        """Return how ``uri`` is read, what is cached of it, and what a pull would fetch. Asks the source."""
        return _run(self.explain_async(uri, include=include, exclude=exclude), "explain")

    async def explain_async(
        self, uri: str | ModelURI, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
    ) -> Explanation:
        """See :meth:`explain`."""
        parsed = self.parse(uri)
        wanted = select(include, exclude)
        cached = await asyncio.to_thread(self._finder.find, parsed, wanted)
        planned: tuple[PlannedFile, ...] | None = None
        reason = ""
        if cached is None:
            try:
                files = await self._plan(parsed, wanted)
                planned = tuple(PlannedFile(file.path, file.size_bytes, file.digests, held) for file, held in files)
            except CacheError as error:
                reason = str(error)
        return Explanation(parsed, cached, planned, reason)

    def show(self, uri: str | ModelURI) -> SnapshotDetail:
        """Return everything that is known here of the revision a URI points to. Never uses the network.

        Raises:
            NotCachedError: nothing is.
        """
        parsed = self.parse(uri)
        known = self._finder.known(parsed)
        if known is None:
            raise NotCachedError(parsed.canonical)
        revision, files = known
        return SnapshotDetail.of(parsed, revision, files, self._layout)

    def list_snapshots(
        self, pattern: str | None = None, *, sort: Literal["name", "size", "used", "added"] = "name"
    ) -> list[SnapshotRow]:
        """Return a row for each revision of which something is held, from the catalog alone.

        Args:
            pattern: a glob over the sources' canonical URIs.
            sort: ``name``, ``size``, ``used`` or ``added``.
        """
        return self._open_catalog().list_snapshots(pattern, sort) if self._exists() else []

    # Changing.

    def plan_removal(self, uri: str | ModelURI) -> RemovalPlan:
        """Return what :meth:`remove` would do, for a person to read.

        Raises:
            NotCachedError: nothing of it is held.
        """
        from modelcask.removal import plan_removal  # noqa: PLC0415

        parsed = self.parse(uri)
        if not self._exists():
            raise NotCachedError(parsed.canonical)
        return plan_removal(self._open_catalog(), self._finder, parsed)

    def remove(self, plan: RemovalPlan) -> Removal:
        """Forget what the plan names and delete the bytes that nothing else needs and no process uses."""
        from modelcask.removal import remove  # noqa: PLC0415

        return remove(self._layout, self._open_catalog(), plan)

    def verify(self, *uris: str | ModelURI, started: Callable[[Digest, int], None] | None = None) -> Iterator[Verified]:
        """Hash what the URIs name, or everything, again; yield a verdict for each blob as it is reached.

        Damaged blobs go to quarantine, where they are kept, and are never served; a pull fetches them again.
        """
        from modelcask.verification import verify  # noqa: PLC0415

        if not self._exists():
            if uris:
                raise NotCachedError(self.parse(uris[0]).canonical)
            return iter(())
        only: set[Digest] | None = None
        if uris:
            only = set()
            for uri in uris:
                parsed = self.parse(uri)
                plan = self._finder.held(parsed)
                if not plan:
                    raise self._finder.explain_absence(parsed)
                only |= plan
        return verify(self._layout, self._open_catalog(), only, started)

    def rebuild(self, *, hashed: Callable[[int], None] | None = None) -> Rebuilt:
        """Make the catalog again from the blobs and manifests on disk; the former one is kept in ``backups/``.

        Raises:
            BusyError: another process uses the catalog.
            NotFoundError: there is no store here.
        """
        from modelcask.rebuilding import rebuild_catalog  # noqa: PLC0415

        if not self._exists():
            raise NotFoundError(f"there is no store in {self.root}; nothing to rebuild")
        self.close()
        return rebuild_catalog(self._layout, hashed)

    def diagnose(self) -> list[Check]:
        """Return the findings on system, root and catalog, worst included. Changes nothing."""
        from modelcask.diagnosis import diagnose  # noqa: PLC0415

        return diagnose(self._layout, self.settings, self._open_catalog if self._exists() else None)

    async def _plan(self, uri: ModelURI, wanted: Wanted | None) -> list[tuple[RemoteFile, bool]]:
        if not self._exists():
            from modelcask.resolving import plan_without_store  # noqa: PLC0415

            return await plan_without_store(uri, wanted, self.settings)
        async with self._pulling() as puller:
            return await puller.plan(uri, wanted=wanted)

    def _exists(self) -> bool:
        return read_format(self._layout) is not None

    def _open_catalog(self) -> Catalog:
        with self._guard:
            if self._catalog is None:
                from modelcask.catalog.catalog import Catalog  # noqa: PLC0415

                layout, _ = open_root(self._layout.root)
                self._catalog = Catalog.open(layout)
            return self._catalog

    def _new_puller(self) -> Puller:
        from modelcask.pulling import Puller  # noqa: PLC0415

        return Puller(self._layout, self.settings, self._open_catalog(), self._finder)

    @contextlib.asynccontextmanager
    async def _pulling(self) -> AsyncIterator[Puller]:
        if self._puller is not None and self._puller[0] is asyncio.get_running_loop():
            yield self._puller[1]
            return
        async with self._new_puller() as puller:
            yield puller


def _run(verb: Coroutine[Any, Any, _T], name: str) -> _T:
    running = True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        running = False
    if running:
        verb.close()
        raise RuntimeError(f"an event loop is running here: await {name}_async() instead of calling {name}()")
    return asyncio.run(verb)


def _or_first_error(results: list[Snapshot | BaseException]) -> Iterator[Snapshot]:
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"also: {other}")
        raise errors[0]
    for result in results:
        if isinstance(result, Snapshot):
            yield result
