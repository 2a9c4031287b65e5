"""The catalog: what is held, where it came from, and how it was proved.

Each method that writes is one short transaction, and doing it twice comes to the same as doing it once: a caller
that was killed simply does it again. The exception is ``begin_attempts``: done twice, it tells of two tries.
The statements are in ``reads.py``, ``record.py``, ``forget.py``, ``attempts.py`` and ``history.py``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from sqlalchemy import ColumnElement, Table, select, update

from modelcask.catalog import attempts, forget, record
from modelcask.catalog import tables as t
from modelcask.catalog.attempts import EndedAttempt, NewAttempt
from modelcask.catalog.database import Database
from modelcask.catalog.engine import batches, upsert
from modelcask.catalog.reads import CatalogReader
from modelcask.catalog.record import NewBlob, RevisionRecord
from modelcask.catalog.rows import now_us
from modelcask.digest import Digest
from modelcask.layout import Layout
from modelcask.reserve import with_reserve
from modelcask.types import ReplicaState, StatStamp

__all__ = ["Catalog", "EndedAttempt", "NewAttempt", "NewBlob", "RevisionRecord"]

_log = logging.getLogger("modelcask.catalog")

_USE_STEP_US: Final = 3600 * 1_000_000

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _with_reserve(write: Callable[Concatenate[Catalog, _P], _T]) -> Callable[Concatenate[Catalog, _P], _T]:
    """Let a write that finds the disk full be done again: what it had begun was rolled back."""

    @functools.wraps(write)
    def repeated(self: Catalog, /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        return with_reserve(self._database.reserve, write, self, *arguments, **named)

    return repeated


class Catalog(CatalogReader):
    """The catalog of one root, open for reading and writing. Safe for threads, and in a forked child."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        super().__init__(database)
        self.clock = clock

    @classmethod
    def open(cls, layout: Layout, *, clock: Callable[[], int] = now_us) -> Catalog:
        """Open the catalog of a root, made or upgraded if need be. The root's folders must exist.

        Args:
            layout: the root's paths.
            clock: tells the time in UTC microseconds.

        Raises:
            SchemaVersionError: it is of a newer modelcask that ours cannot read beside.
            BusyError: it must be upgraded, and another process keeps the older version open.
            CorruptStoreError: the file is no catalog, or damaged.
            StorageError: it cannot be opened or made.
        """
        return cls(Database(layout), clock)

    def close(self) -> None:
        """Close every connection. Safe to call twice."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @_with_reserve
    def record_blobs(self, blobs: Sequence[NewBlob]) -> None:
        """Record blobs as present and proved now, with every digest computed from them. All or none."""
        with self._database.write() as connection:
            record.record_blobs(connection, blobs, self.clock())

    @_with_reserve
    def record_revision(self, revision: RevisionRecord) -> int:
        """Record a revision, its entries and the refs that point to it, all or none; return its number.

        What is known is joined, never taken back: an entry stays held if the record does not hold it, a revision
        stays listed, and the same bytes keep the strongest proof they ever had. A ref's move is remembered.

        Raises:
            StorageError: an entry names a blob that is not recorded; nothing was changed.
        """
        with self._database.write() as connection:
            return record.record_revision(connection, revision, self.clock())

    @_with_reserve
    def refresh_stamp(self, digest: Digest, stamp: StatStamp, *, verified: bool) -> None:
        """Record how the blob's file looks now; ``verified``: its bytes were hashed, and are right."""
        values = {"blob": digest.value, **record.stamp_columns(stamp)}
        if verified:
            values["verified_at"] = self.clock()
        with self._database.write() as connection:
            connection.execute(record.UPDATE_REPLICA, values)

    @_with_reserve
    def set_state(self, digest: Digest, new: ReplicaState, *, expected: Collection[ReplicaState]) -> bool:
        """Set the state of a blob's bytes if it is one of ``expected``; say whether it was."""
        trashed_at = self.clock() if new is ReplicaState.TRASH else None
        values = {"blob": digest.value, "state": new.value, "trashed_at": trashed_at}
        statement = record.UPDATE_REPLICA.where(t.replica.c.state.in_([state.value for state in expected]))
        with self._database.write() as connection:
            return connection.execute(statement, values).rowcount > 0

    @_with_reserve
    def forget_entries(self, revision_id: int, paths: Collection[str] | None) -> list[Digest]:
        """Hold these paths of a revision no more (None: all of it); return the blobs that no entry refers to now.

        The paths stay known. When nothing of the revision is held any more it goes, with the refs that point to
        it, unless it is pinned or exported.
        """
        with self._database.write() as connection:
            return forget.forget_entries(connection, revision_id, paths)

    @_with_reserve
    def condemn(self, digests: Collection[Digest]) -> list[Digest]:
        """Condemn those of the present blobs that no entry, no export and no pin protects; return them.

        The condition is part of the statement, so a reference that came after the caller looked still protects.
        """
        with self._database.write() as connection:
            return forget.condemn(connection, digests, self.clock())

    @_with_reserve
    def delete_replica(self, digest: Digest, *, expected: Collection[ReplicaState] = tuple(ReplicaState)) -> bool:
        """Forget the bytes of a blob if their state is one of ``expected``; say whether it was.

        Before the file goes, never after (I1). The blob's own rows go too when nothing refers to it.
        """
        with self._database.write() as connection:
            return forget.delete_replica(connection, digest, expected)

    def record_use(self, *, digests: Collection[Digest] = (), revisions: Collection[int] = (), at: int) -> None:
        """Record a use at ``at`` (UTC microseconds) of what was last used more than an hour before."""
        stale = at - _USE_STEP_US
        conditions: list[tuple[Table, ColumnElement[Any], ColumnElement[Any]]] = [
            (t.blob, t.blob.c.blake3.in_([digest.value for digest in batch]), t.blob.c.last_used_at < stale)
            for batch in batches(list(digests))
        ]
        conditions += [
            (t.revision, t.revision.c.id.in_(batch), t.revision.c.last_used_at < stale)
            for batch in batches(list(revisions))
        ]
        with self._database.read() as connection:  # most uses change nothing, and need not wait for a turn to write
            if not any(
                connection.execute(select(table.c.id).where(*where).limit(1)).first() for table, *where in conditions
            ):
                return
        with self._database.write() as connection:
            for table, *where in conditions:
                connection.execute(update(table).where(*where).values(last_used_at=at))

    @_with_reserve
    def begin_attempts(self, new: Sequence[NewAttempt]) -> list[int]:
        """Record that these files are to be had, all or none; return their numbers in the same order.

        One transaction for all files of a pull, before the first byte. Those that are held already are recorded as
        done at once; the others stay open until :meth:`end_attempts` names their numbers, or their process has died
        and :meth:`close_interrupted` finds that out. Attempts beyond what is kept are forgotten in passing.
        """
        if not new:
            return []
        with self._database.write() as connection:
            now = self.clock()
            numbers = attempts.begin_attempts(connection, new, now)
            attempts.trim(connection, now)
        for number, attempt in zip(numbers, new, strict=True):
            what = "began" if attempt.bytes_reused is None else "needs no transfer"
            _log.debug("attempt %d %s: %s of %s", number, what, attempt.path, attempt.uri)
        return numbers

    @_with_reserve
    def end_attempts(self, ended: Sequence[EndedAttempt]) -> None:
        """Record how these ended, all or none. Doing it twice is harmless; a number that is gone is passed over.

        Call it with whatever has ended meanwhile, not file by file: each call is one transaction. A file that was
        published stays open here until then, and is told as interrupted if the process dies before it.
        """
        if not ended:
            return
        with self._database.write() as connection:
            attempts.end_attempts(connection, ended, self.clock())
        for one in ended:
            why = "" if one.error_class is None else f" ({one.error_class})"
            figures = one.bytes_fetched, one.bytes_reused
            _log.debug("attempt %d %s%s: %d bytes fetched, %d reused", one.id, one.outcome, why, *figures)

    @_with_reserve
    def close_interrupted(self, is_alive: Callable[[str], bool]) -> int:
        """Close as interrupted what dead processes left open; return how many attempts that were.

        Writes nothing if there is nothing to close, which costs one look into an index.

        Args:
            is_alive: says of a session's name whether its process may live. Asked only of those with open rows, and
                after they were read: so a process that begins meanwhile is never taken for dead.
        """
        dead = self._dead_sessions(is_alive)
        if not dead:
            return 0
        with self._database.write() as connection:
            closed = attempts.close_interrupted(connection, dead, self.clock())
        if closed:
            _log.info("attempts that were interrupted when their process died: %d", closed)
        return closed

    @_with_reserve
    def set_meta(self, key: str, value: str) -> None:
        """Let the catalog say ``value`` of itself under ``key``."""
        with self._database.write() as connection:
            statement = upsert(connection, t.meta).on_conflict_do_update(index_elements=["key"], set_={"value": value})
            connection.execute(statement, {"key": key, "value": value})
