"""ModelCache: the one object that people and programs use. It opens what a verb needs when it needs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from modelcask.access import Access
from modelcask.cancellation import CancelToken
from modelcask.catalog.rows import AttemptRow, Outcome, SnapshotRow, Statistics
from modelcask.config import Settings, load_settings
from modelcask.digest import Digest
from modelcask.errors import CacheError, NotCachedError
from modelcask.explanation import Explanation, PlannedFile, SnapshotDetail
from modelcask.fetch.gate import Gate
from modelcask.jobs import run_job, snapshots_of
from modelcask.resources import Resources
from modelcask.selection import select
from modelcask.store.sessions import is_alive
from modelcask.types import ProgressCallback, Snapshot
from modelcask.uri import ModelURI, parse_uri

# The heavy parts (SQLAlchemy, aiohttp, huggingface_hub) are imported by the verbs that need them: a lookup
# needs none of them, and it is what programs do all day.
if TYPE_CHECKING:
    from modelcask.diagnosis import Check
    from modelcask.partials import DroppedPartials, PartialFile
    from modelcask.rebuilding import Rebuilt
    from modelcask.removal import Removal, RemovalPlan
    from modelcask.verification import Verified

_T = TypeVar("_T")

# What of the log is shown, and where, is the program's to say.
logging.getLogger("modelcask").addHandler(logging.NullHandler())


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
        self._open = Resources(self.settings)
        self._stack = contextlib.AsyncExitStack()
        host = urlsplit(self.settings.hf_endpoint).netloc.rpartition("@")[2].lower()
        self._parse = lru_cache(maxsize=4096)(partial(parse_uri, hub_hosts=(host,)))

    @property
    def root(self) -> Path:
        """The root folder, whether or not it exists yet."""
        return self._open.layout.root

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        """Keep connections open for all pulls inside the block."""
        await self._stack.enter_async_context(self._open.pulling())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        self.close()

    def close(self) -> None:
        """Close the catalog. Leases stay until the process ends; the next call opens it again."""
        self._open.close()

    def parse(self, uri: str | ModelURI) -> ModelURI:
        """Read a URI as this cache understands it: web pages of its Hub endpoint are the Hub's.

        Raises:
            InvalidURIError: it cannot be read; the error names the part and the nearest right form.
            TypeError: it is neither text nor a ModelURI.
        """
        if isinstance(uri, ModelURI):
            return uri
        if not isinstance(uri, str):
            return parse_uri(uri)  # for its TypeError: a list cannot even be looked up in a cache
        return self._parse(uri)

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
        return self._open.finder.find(self.parse(uri), select(include, exclude))

    def get_path(self, uri: str | ModelURI) -> Path:
        """Return what :meth:`lookup` does, but raise NotCachedError where that returns None."""
        parsed = self.parse(uri)
        found = self._open.finder.find(parsed)
        if found is None:
            raise self._open.finder.explain_absence(parsed)
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
        cancel: CancelToken | None = None,
        gate: Gate | None = None,
        keep_partial: bool = True,
        access: Access | None = None,
        request_id: str = "",
    ) -> list[Snapshot]:
        """Make what each URI means cached, and return a snapshot for each, in order.

        Args:
            uris: at least one; several are pulled side by side.
            include: globs; of a URI that means several files, only those that match.
            exclude: globs; without those that match.
            refresh: ask the source again even if it is cached; unchanged bytes are not fetched again.
            progress: called with events, from the thread that runs the pull. What it raises ends the pull.
            cancel: ends it from any thread, within a second.
            gate: while another thread has it shut, nothing is transferred.
            keep_partial: whether what has arrived stays when it is cancelled, for the next pull to go on with.
            access: tokens and headers for this pull; default: those of the settings, else as each source's tools
                find them.
            request_id: a name of the caller's own, told with every event.

        Raises:
            PullCancelledError: the token ended it.
            CacheError: the first error in the order of the URIs, after all others have ended. Each further one is
                a note on it.
        """
        pull = self.pull_async(
            *uris,
            include=include,
            exclude=exclude,
            refresh=refresh,
            progress=progress,
            cancel=cancel,
            gate=gate,
            keep_partial=keep_partial,
            access=access,
            request_id=request_id,
        )
        return _run(pull, "pull")

    async def pull_async(
        self,
        *uris: str | ModelURI,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        refresh: bool = False,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
        gate: Gate | None = None,
        keep_partial: bool = True,
        access: Access | None = None,
        request_id: str = "",
    ) -> list[Snapshot]:
        """See :meth:`pull`. Cancelled as a task, it ends as by a token."""
        from modelcask.pulling import Order  # noqa: PLC0415

        wanted = select(include, exclude)
        orders = [
            Order(self.parse(uri), wanted, refresh, progress, request_id, gate or Gate(), keep_partial, access)
            for uri in uris
        ]
        async with self._open.pulling() as puller:
            return snapshots_of(await run_job(puller, orders, cancel=cancel, max_time_s=self.settings.max_time_s))

    # Telling.

    def explain(self, uri: str | ModelURI, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> Explanation:
        """Return how ``uri`` is read, what is cached of it, and what a pull would fetch. Asks the source."""
        return _run(self.explain_async(uri, include=include, exclude=exclude), "explain")

    async def explain_async(
        self, uri: str | ModelURI, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
    ) -> Explanation:
        """See :meth:`explain`."""
        parsed = self.parse(uri)
        cached = await asyncio.to_thread(self._open.finder.find, parsed, select(include, exclude))
        planned: tuple[PlannedFile, ...] | None = None
        reason = ""
        if cached is None:
            try:
                planned = await self.plan_async(parsed, include=include, exclude=exclude)
            except CacheError as error:
                reason = str(error)
        return Explanation(parsed, cached, planned, reason)

    async def plan_async(
        self,
        uri: str | ModelURI,
        *,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        access: Access | None = None,
    ) -> tuple[PlannedFile, ...]:
        """Return the files that a pull would make held, each with whether it is here. Asks the source.

        Raises:
            CacheError: the source cannot tell.
        """
        parsed, wanted = self.parse(uri), select(include, exclude)
        if self._open.exists():
            async with self._open.pulling() as puller:
                files = await puller.plan(parsed, wanted=wanted, access=access)
        else:
            from modelcask.resolving import plan_without_store  # noqa: PLC0415

            files = await plan_without_store(parsed, wanted, self.settings, access)
        return tuple(PlannedFile(file.path, file.size_bytes, file.digests, held) for file, held in files)

    def show(self, uri: str | ModelURI) -> SnapshotDetail:
        """Return everything that is known here of the revision a URI points to. Never uses the network.

        Raises:
            NotCachedError: nothing is.
        """
        parsed = self.parse(uri)
        known = self._open.finder.known(parsed)
        if known is None:
            raise self._open.finder.explain_absence(parsed)
        revision, files = known
        return SnapshotDetail.of(parsed, revision, files, self._open.layout)

    def list_snapshots(
        self, pattern: str | None = None, *, sort: Literal["name", "size", "used", "added"] = "name"
    ) -> list[SnapshotRow]:
        """Return a row for each revision of which something is held, from the catalog alone.

        Args:
            pattern: a glob over the sources' canonical URIs.
            sort: ``name``, ``size``, ``used`` or ``added``.
        """
        return self._open.catalog().list_snapshots(pattern, sort) if self._open.exists() else []

    def list_attempts(
        self,
        pattern: str | None = None,
        *,
        outcomes: Collection[Outcome] | None = None,
        since: int | None = None,
        limit: int | None = None,
    ) -> list[AttemptRow]:
        """Return a row for each try to make a file held, the newest first: those of 90 days, 100,000 at most.

        Args:
            pattern: a glob over canonical URIs, or over paths of files.
            outcomes: only attempts that ended so; None for all, those that go on included.
            since: only attempts that began then or later, in UTC microseconds.
            limit: at most so many.
        """
        if not self._open.exists():
            return []
        living = partial(is_alive, self._open.layout)
        return self._open.catalog().list_attempts(living, pattern=pattern, outcomes=outcomes, since=since, limit=limit)

    def statistics(self, *, since: int | None = None) -> Statistics:
        """Return what the attempts came to that began at ``since`` (UTC microseconds) or later, and what is saved."""
        if not self._open.exists():
            return Statistics()
        return self._open.catalog().statistics(partial(is_alive, self._open.layout), since=since)

    def list_partials(self, *names: str | ModelURI) -> list[PartialFile]:
        """Return the unfinished downloads, all or those with these URIs or keys, last changed first. Changes nothing.

        Raises:
            NotFoundError: a name means none.
        """
        from modelcask.partials import is_key, list_partials  # noqa: PLC0415

        parsed = [name if isinstance(name, str) and is_key(name) else self.parse(name) for name in names]
        return list_partials(self._open.layout, parsed, exists=self._open.exists())

    # Changing.

    def drop_partials(self, partials: Iterable[PartialFile]) -> DroppedPartials:
        """Delete unfinished downloads as they were listed, but those that anybody is at, or was since."""
        from modelcask.partials import drop_partials  # noqa: PLC0415

        return drop_partials(self._open.layout, self._open.catalog, partials)

    def plan_removal(self, uri: str | ModelURI) -> RemovalPlan:
        """Return what :meth:`remove` would do, for a person to read.

        Raises:
            NotCachedError: nothing of it is held.
        """
        from modelcask.removal import plan_removal  # noqa: PLC0415

        parsed = self.parse(uri)
        if not self._open.exists():
            raise NotCachedError(parsed.canonical)
        return plan_removal(self._open.catalog(), self._open.finder, parsed)

    def remove(self, plan: RemovalPlan) -> Removal:
        """Forget what the plan names and delete the bytes that nothing else needs and no process uses."""
        from modelcask.removal import remove  # noqa: PLC0415

        return remove(self._open.layout, self._open.catalog(), plan)

    def verify(self, *uris: str | ModelURI, started: Callable[[Digest, int], None] | None = None) -> Iterator[Verified]:
        """Hash what the URIs name, or everything, again; yield a verdict for each blob as it is reached.

        Damaged blobs go to quarantine, where they are kept, and are never served; a pull fetches them again.
        """
        from modelcask.verification import verify  # noqa: PLC0415

        if not self._open.exists():
            if uris:
                raise NotCachedError(self.parse(uris[0]).canonical)
            return iter(())
        only: set[Digest] | None = None
        if uris:
            only = set()
            for uri in uris:
                parsed = self.parse(uri)
                plan = self._open.finder.held(parsed)
                if not plan:
                    raise self._open.finder.explain_absence(parsed)
                only |= plan
        return verify(self._open.layout, self._open.catalog(), only, started)

    def rebuild(self, *, hashed: Callable[[int], None] | None = None) -> Rebuilt:
        """Make the catalog again from the blobs and manifests on disk; the former one is kept in ``backups/``.

        Raises:
            BusyError: another process uses the catalog.
            NotFoundError: there is no store here.
        """
        from modelcask.rebuilding import rebuild_catalog  # noqa: PLC0415

        self.close()
        return rebuild_catalog(self._open.layout, hashed)

    def diagnose(self) -> list[Check]:
        """Return the findings on system, root and catalog, worst included. Changes nothing."""
        from modelcask.diagnosis import diagnose  # noqa: PLC0415

        return diagnose(self._open.layout, self.settings, self._open.catalog)


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
