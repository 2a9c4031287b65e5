"""Publishing: where the store and the catalog meet, and the only place that makes a blob visible.

Order, for a group of sealed files (I1, I4, I5)::

    lease each digest            from here on no collector takes it
    take the stripe locks        in order, so that two groups cannot wait for each other
    read the rows                a blob that is there but has changed is proved first, without the locks
    link() into blobs/           visible, but nobody is told of it
    sync the folders
    commit the rows              the point of no return: from here on it is served
    free the locks

The partials, a second name of the same inodes, stay until the revision is recorded, so that a crash before that
costs no second download. ``retire`` removes them and renews the stamps, for losing a name changes a file's ctime.
Killed before the commit, the next attempt finds the same inode under the blob's name, or nothing. Killed before
``retire``, the next pull that meets the blob sweeps the partial away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from modelcask import locks
from modelcask.cancellation import through
from modelcask.catalog.catalog import Catalog, NewBlob
from modelcask.catalog.rows import BlobRow
from modelcask.digest import Digest
from modelcask.errors import BusyError
from modelcask.layout import Layout, ingest_key
from modelcask.proving import prove_again
from modelcask.store import blobs, fs
from modelcask.store.sealed import SealedFile, discard_partial
from modelcask.store.sessions import Session
from modelcask.types import ReplicaState, Snapshot

_GROUP: Final = 64
_ROUNDS: Final = 5


def publish(layout: Layout, catalog: Catalog, session: Session, group: Sequence[SealedFile]) -> None:
    """Make sealed files visible, all in one transaction.

    Idempotent: a blob that is there already stays, and ours is dropped when it is retired.

    Raises:
        BusyError: a blob's file never stops changing.
    """
    for sealed in group:
        session.lease(sealed.digest)
    doubtful: list[BlobRow] = []
    for _ in range(_ROUNDS):
        with _stripes(layout, group):
            rows = catalog.find_blobs({sealed.digest for sealed in group})
            doubtful = [row for sealed in group if (row := _place(layout, sealed, rows.get(sealed.digest))) is not None]
            if not doubtful:
                for folder in sorted({layout.blob(sealed.digest).parent for sealed in group}):
                    fs.sync_folder("blob", folder)
                _commit(layout, catalog, group)
                return
        for row in doubtful:
            prove_again(layout, catalog, row.digest, row.state, row.stamp)
    path = layout.blob(doubtful[0].digest)
    raise BusyError(f"{path} keeps changing: it", holder="something else that writes to the store")


def retire(layout: Layout, catalog: Catalog, published: Sequence[SealedFile]) -> None:
    """Remove the partials of published files, and renew the stamps of the blobs that lost a name by that."""
    for start in range(0, len(published), _GROUP):
        group = published[start : start + _GROUP]
        with _stripes(layout, group):
            rows = catalog.find_blobs({sealed.digest for sealed in group})
            as_recorded = [sealed for sealed in group if _is_as_recorded(layout, rows.get(sealed.digest))]
            for sealed in group:
                discard_partial(sealed.path.parent)
            _commit(layout, catalog, as_recorded)


def sweep(layout: Layout, catalog: Catalog, key: str, digest: Digest) -> None:
    """Remove the partial of a key whose file is held as the blob ``digest``, if nobody has the key's lock."""
    folder = layout.partial(key)
    if not folder.exists():
        return
    lock = locks.try_lock(layout.key_lock(key))
    if lock is None:
        return
    try:
        with locks.locked(layout.blob_lock(digest)):
            as_recorded = _is_as_recorded(layout, catalog.find_blob(digest))
            discard_partial(folder)
            now = blobs.stamp(layout, digest)
            if as_recorded and now is not None:
                catalog.refresh_stamp(digest, now, verified=False)
    finally:
        lock.release(remove=True)


def sweep_snapshot(layout: Layout, catalog: Catalog, held: Snapshot) -> None:
    """Remove the partials that a pull of a snapshot left when it was killed after recording it."""
    if not any(layout.partials.iterdir()):
        return
    for entry in held.entries:
        row = None if entry.blob is None else catalog.find_blob(entry.blob)
        if row is None:
            continue
        # Under each key that it can have had: what the source promised then is not known here.
        keys = {digest.hex for digest in row.digests if digest.strong}
        for revision in (held.revision, None):
            keys.add(ingest_key(expected=None, source=held.source, revision=revision, path=entry.path))
        for key in keys:
            sweep(layout, catalog, key, row.digest)


def _is_as_recorded(layout: Layout, row: BlobRow | None) -> bool:
    """Say whether a blob is what its row says: only then may a change that we make ourselves renew it."""
    return row is not None and row.state is ReplicaState.PRESENT and blobs.stamp(layout, row.digest) == row.stamp


def _place(layout: Layout, sealed: SealedFile, row: BlobRow | None) -> BlobRow | None:
    """Give a sealed file its name; return the row of the file that has it and is to be proved first."""
    if row is None:
        blobs.place(layout, sealed, None, None)
        return None
    return None if blobs.place(layout, sealed, row.state, row.stamp) else row


class Publisher:
    """Publishes what is sealed in groups: while one group is committed, the next gathers."""

    def __init__(self, layout: Layout, catalog: Catalog, session: Session) -> None:
        self._layout = layout
        self._catalog = catalog
        self._session = session
        self._waiting: list[tuple[SealedFile, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def publish(self, sealed: SealedFile) -> None:
        """Return when the file is visible. Cancelled, it still waits until the file is visible or refused.

        The caller holds the lock of the file's key until then: nobody else may touch the partial meanwhile.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((sealed, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await through(future)

    async def close(self) -> None:
        """Return when no group is being committed any more."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:_GROUP], self._waiting[_GROUP:]
            try:
                await self._publish([sealed for sealed, _ in group])
            except BaseException:  # noqa: BLE001 - each is tried alone, so that only the faulty one fails
                for sealed, future in group:
                    try:
                        await self._publish([sealed])
                    except BaseException as error:  # noqa: BLE001 - handed to who waits for it
                        future.set_exception(error)
                    else:
                        future.set_result(None)
            else:
                for _, future in group:
                    future.set_result(None)

    async def _publish(self, group: list[SealedFile]) -> None:
        await asyncio.to_thread(publish, self._layout, self._catalog, self._session, group)


@contextlib.contextmanager
def _stripes(layout: Layout, group: Sequence[SealedFile]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for path in sorted({layout.blob_lock(sealed.digest) for sealed in group}):
            stack.enter_context(locks.locked(path))
        yield


def _commit(layout: Layout, catalog: Catalog, group: Sequence[SealedFile]) -> None:
    stamps = {sealed.digest: blobs.stamp(layout, sealed.digest) for sealed in group}
    found = {sealed.digest: (sealed, stamp) for sealed in group if (stamp := stamps[sealed.digest]) is not None}
    catalog.record_blobs(
        [NewBlob(sealed.digest, sealed.size_bytes, sealed.digests, stamp) for sealed, stamp in found.values()]
    )
