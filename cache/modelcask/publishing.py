"""Publishing: where the store and the catalog meet, and the only place that makes a blob visible.

Order, for a group of sealed files (I1, I4, I5)::

    lease each digest            from here on no collector takes it
    take the stripe locks        in order, so that two groups cannot wait for each other
    read the rows
    link() into blobs/           visible, but nobody is told of it
    sync the folders
    commit the rows              the point of no return: from here on it is served
    remove the partials, free the locks

Killed before the commit: the partial is still there, and the next attempt finds the same inode under the blob's
name, or nothing. Killed after it: the partial is left over and is removed by whoever takes its key next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from modelcask import locks
from modelcask.catalog.catalog import Catalog, NewBlob
from modelcask.layout import Layout
from modelcask.store import blobs, fs
from modelcask.store.sealed import SealedFile, discard_partial
from modelcask.store.sessions import Session
from modelcask.types import StatStamp

_GROUP: Final = 64


def publish(layout: Layout, catalog: Catalog, session: Session, group: Sequence[SealedFile]) -> dict[str, StatStamp]:
    """Make sealed files visible, all in one transaction; return the stamp of each blob by its hex.

    Idempotent: a blob that is there already stays, and ours is dropped. The stamps are those after the
    partials are gone, since removing a hard link changes a file's ctime; record them with the revision.
    """
    for sealed in group:
        session.lease(sealed.digest)
    with contextlib.ExitStack() as stack:
        for path in sorted({layout.blob_lock(sealed.digest) for sealed in group}):
            stack.enter_context(locks.locked(path))
        for sealed in group:
            row = catalog.find_blob(sealed.digest)
            state, stamp = (row.state, row.stamp) if row is not None else (None, None)
            blobs.place(layout, sealed, state, stamp)
        for folder in sorted({layout.blob(sealed.digest).parent for sealed in group}):
            fs.sync_folder("blob", folder)
        catalog.record_blobs(
            [
                NewBlob(sealed.digest, sealed.size_bytes, sealed.digests, _stamp(layout, sealed))
                for sealed in {sealed.digest: sealed for sealed in group}.values()
            ]
        )
        for sealed in group:
            discard_partial(sealed.path.parent)
        return {sealed.digest.hex: _stamp(layout, sealed) for sealed in group}


class Publisher:
    """Publishes what is sealed in groups: while one group is committed, the next gathers."""

    def __init__(self, layout: Layout, catalog: Catalog, session: Session) -> None:
        self._layout = layout
        self._catalog = catalog
        self._session = session
        self._waiting: list[tuple[SealedFile, asyncio.Future[StatStamp]]] = []
        self._task: asyncio.Task[None] | None = None

    async def publish(self, sealed: SealedFile) -> StatStamp:
        """Return when the file is visible, with the stamp of its blob."""
        future: asyncio.Future[StatStamp] = asyncio.get_running_loop().create_future()
        self._waiting.append((sealed, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def close(self) -> None:
        """Return when no group is being committed any more."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:_GROUP], self._waiting[_GROUP:]
            files = [sealed for sealed, _ in group]
            try:
                stamps = await asyncio.to_thread(publish, self._layout, self._catalog, self._session, files)
            except BaseException as error:  # noqa: BLE001 - handed to those who wait
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
                continue
            for sealed, future in group:
                if not future.done():
                    future.set_result(stamps[sealed.digest.hex])


def _stamp(layout: Layout, sealed: SealedFile) -> StatStamp:
    return StatStamp.of(layout.blob(sealed.digest).stat(follow_symlinks=False))
