"""What the catalog answers, as values. Lookups that must be quick go another way: ``lookup.py``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, bindparam, func, literal, select

from modelcask.catalog import history
from modelcask.catalog import tables as t
from modelcask.catalog.attempts import open_sessions
from modelcask.catalog.database import Database
from modelcask.catalog.engine import batches
from modelcask.catalog.listing import read_snapshots
from modelcask.catalog.lookup import Found
from modelcask.catalog.rows import (
    LOCAL_STORE,
    AttemptRow,
    BlobRow,
    Counts,
    Outcome,
    RevisionRow,
    RevisionState,
    SnapshotRow,
    Statistics,
    believing,
    to_entry,
    to_number,
    to_stamp,
    to_text,
)
from modelcask.digest import Digest
from modelcask.types import Entry, ReplicaState, TrustLevel

Sort = Literal["size", "used", "added", "name"]

_HERE: Final = and_(t.replica.c.blob_id == t.blob.c.id, t.replica.c.store == LOCAL_STORE)


class _Named:
    """A query of blobs by one of their names: the BLAKE3, or another digest that was computed from the bytes.

    Built once, since SQLAlchemy takes ten times as long to build a statement as SQLite to run it, and a pull of
    a thousand files asks three thousand times.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        computed = select(t.digest.c.blob_id).where(
            t.digest.c.algorithm == bindparam("algorithm"),
            t.digest.c.value == bindparam("value"),
            t.digest.c.origin == "computed",
        )
        self._by_blake3 = statement.where(t.blob.c.blake3 == bindparam("value"))
        self._by_computed = statement.where(t.blob.c.id.in_(computed))

    def execute(self, connection: Connection, digest: Digest, **values: str) -> Sequence[Row[*tuple[Any, ...]]]:
        if digest.algorithm == "blake3":
            return connection.execute(self._by_blake3, {"value": digest.value, **values}).all()
        values["algorithm"] = digest.algorithm
        return connection.execute(self._by_computed, {"value": digest.value, **values}).all()


_REPLICA: Final = (
    t.blob.c.blake3,
    t.blob.c.size_bytes,
    t.replica.c.state,
    t.replica.c.size_bytes,
    t.replica.c.inode,
    t.replica.c.mtime_ns,
    t.replica.c.ctime_ns,
)
"""A blob and where it stands: what every query for blobs begins with, or has in its middle."""
_OTHER_NAME: Final = t.digest.alias()
_BLOBS: Final = (
    select(
        *_REPLICA,
        t.replica.c.verified_at,
        _OTHER_NAME.c.algorithm,
        _OTHER_NAME.c.value,
        t.blob.c.id,
    )
    .join(t.replica, _HERE)
    .outerjoin(_OTHER_NAME, and_(_OTHER_NAME.c.blob_id == t.blob.c.id, _OTHER_NAME.c.origin == "computed"))
    .order_by(t.blob.c.id, _OTHER_NAME.c.algorithm.desc())  # sha256 first
)
_IN_SOURCE: Final = (
    select(t.entry.c.id)
    .join(t.revision, t.revision.c.id == t.entry.c.revision_id)
    .join(t.source, t.source.c.id == t.revision.c.source_id)
    .where(t.entry.c.blob_id == t.blob.c.id, t.source.c.uri == bindparam("source"))
    .exists()
)
_BLOB_BY_NAME: Final = _Named(_BLOBS)
_BLOB_BY_NAME_IN_SOURCE: Final = _Named(_BLOBS.where(_IN_SOURCE))
_BLOBS_BY_NUMBER: Final = _BLOBS.where(t.blob.c.id.in_(bindparam("numbers", expanding=True)))
_BLOBS_BY_BLAKE3: Final = _BLOBS.where(t.blob.c.blake3.in_(bindparam("values", expanding=True)))
_USES_BY_NAME: Final = _Named(
    select(t.source.c.uri, t.revision.c.key, t.entry.c.path)
    .select_from(t.blob)
    .join(t.entry, t.entry.c.blob_id == t.blob.c.id)
    .join(t.revision, t.revision.c.id == t.entry.c.revision_id)
    .join(t.source, t.source.c.id == t.revision.c.source_id)
)
_SORT_KEYS: Final[dict[str, Callable[[SnapshotRow], int]]] = {
    "size": lambda row: row.size_bytes,
    "used": lambda row: row.last_used_at,
    "added": lambda row: row.fetched_at,
}


class CatalogReader:
    """The reading half of the catalog. Safe for threads; each method sees one state of the rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find_blob(self, digest: Digest) -> BlobRow | None:
        """Return the blob with this BLAKE3 or this computed SHA-256, whatever its state.

        None for other algorithms: others can make a file with the same weak digest.
        """
        if not digest.strong:
            return None
        with self._database.read() as connection:
            return next(_to_blobs(_BLOB_BY_NAME.execute(connection, digest)), None)

    def find_blobs(self, digests: Collection[Digest]) -> dict[Digest, BlobRow]:
        """Return those of the blobs with these BLAKE3 that are recorded, whatever their state."""
        found: dict[Digest, BlobRow] = {}
        with self._database.read() as connection:
            for batch in batches(list(digests)):
                values = {"values": [digest.value for digest in batch]}
                found |= {row.digest: row for row in _to_blobs(connection.execute(_BLOBS_BY_BLAKE3, values))}
        return found

    def find_blob_in_source(self, source: str, digest: Digest) -> BlobRow | None:
        """Return the blob with this computed digest among those that this source's entries refer to.

        Only so far is a weak digest believed: whoever could forge it could have forged the file itself.
        """
        with self._database.read() as connection:
            return next(_to_blobs(_BLOB_BY_NAME_IN_SOURCE.execute(connection, digest, source=source)), None)

    def find_file(self, source: str, *, ref: str | None, revision: str | None, path: str) -> Found | None:
        """Return what :meth:`modelcask.catalog.lookup.LookupReader.find_file` returns, on any database."""
        statement = (
            select(
                t.revision.c.key,
                t.entry.c.path,
                *_REPLICA,
                t.entry.c.trust,
            )
            .select_from(t.source)
            .where(t.source.c.uri == source)
        )
        wanted: ColumnElement[Any]
        if revision is not None:
            here = and_(t.revision.c.source_id == t.source.c.id, t.revision.c.key == revision)
            statement, wanted = statement.join(t.revision, here), t.entry.c.path == path
        else:
            statement = statement.join(t.ref, and_(t.ref.c.source_id == t.source.c.id, t.ref.c.name == ref))
            here = and_(t.revision.c.id == t.ref.c.revision_id, t.revision.c.source_id == t.source.c.id)
            statement = statement.join(t.revision, here)
            wanted = t.entry.c.path == (path or t.ref.c.entrypoint)
        statement = (
            statement.join(t.entry, and_(t.entry.c.revision_id == t.revision.c.id, wanted))
            .join(t.blob, t.blob.c.id == t.entry.c.blob_id)
            .join(t.replica, _HERE)
        )
        with self._database.read() as connection:
            row = connection.execute(statement).first()
            if row is None:
                return None
            key, found, blake3, size_bytes, state, *stamp, trust = row
            digest = Digest("blake3", blake3.hex())
            return Found(key, found, digest, size_bytes, ReplicaState(state), to_stamp(stamp), TrustLevel(trust))

    def find_revision(self, source: str, *, ref: str | None = None, revision: str | None = None) -> RevisionRow | None:
        """Return the revision that a ref points to, or the one with a key; None if it is not known."""
        if revision is not None:
            statement = select(t.revision, literal("").label("entrypoint")).where(t.revision.c.key == revision)
        else:
            statement = select(t.revision, t.ref.c.entrypoint).join(t.ref, t.ref.c.revision_id == t.revision.c.id)
            statement = statement.where(t.ref.c.source_id == t.revision.c.source_id, t.ref.c.name == ref)
        statement = statement.join(t.source, t.source.c.id == t.revision.c.source_id).where(t.source.c.uri == source)
        with self._database.read() as connection:
            row = connection.execute(statement).first()
            if row is None:
                return None
            return RevisionRow(
                row.id,
                source,
                to_text(row.key),
                bool(row.listed),
                RevisionState(row.state),
                to_text(row.entrypoint),
                to_number(row.fetched_at),
                to_number(row.last_used_at),
            )

    def list_entries(self, revision_id: int) -> list[Entry]:
        """Return every known entry of a revision, by path; ``blob`` says which are held."""
        statement = (
            select(
                t.entry.c.path,
                t.entry.c.size_bytes,
                t.blob.c.blake3,
                t.entry.c.promised_sha256,
                t.entry.c.promised_git_sha1,
                t.entry.c.promised_md5,
                t.entry.c.trust,
            )
            .outerjoin(t.blob, t.blob.c.id == t.entry.c.blob_id)
            .where(t.entry.c.revision_id == revision_id)
            .order_by(t.entry.c.path)
        )
        with self._database.read() as connection:
            return [to_entry(row) for row in connection.execute(statement)]

    def list_uses(self, digest: Digest) -> list[tuple[str, str, str]]:
        """Return the source, the revision and the path of every entry that refers to a blob, in order.

        ``digest`` is its BLAKE3 or one computed from its bytes.
        """
        with self._database.read() as connection:
            return sorted(
                (to_text(uri), to_text(key), to_text(path))
                for uri, key, path in _USES_BY_NAME.execute(connection, digest)
            )

    def iter_blobs(self, states: Collection[ReplicaState] | None = None) -> Iterator[BlobRow]:
        """Yield every blob, the oldest proof first, those never proved before all.

        No transaction stays open between two of them, so the caller may hash each. A blob is told as it is when
        its group of 500 is read; one that goes meanwhile is left out, one that comes is not seen.
        """
        order = select(t.replica.c.blob_id).where(t.replica.c.store == LOCAL_STORE)
        order = order.order_by(t.replica.c.verified_at.asc().nulls_first(), t.replica.c.blob_id)
        if states is not None:
            order = order.where(t.replica.c.state.in_([state.value for state in states]))
        with self._database.read() as connection:
            numbers = list(connection.execute(order).scalars())
        for group in batches(numbers):
            with self._database.read() as connection:
                rows = connection.execute(_BLOBS_BY_NUMBER, {"numbers": group}).all()
            order_in_group = {number: place for place, number in enumerate(group)}
            yield from _to_blobs(sorted(rows, key=lambda row: order_in_group[row.id]))

    def list_snapshots(self, pattern: str | None = None, sort: Sort = "name") -> list[SnapshotRow]:
        """Return each revision of which something is held.

        Args:
            pattern: a glob over the source's whole URI, with ``*`` and ``?``; None for all.
            sort: ``name``, else the largest (``size``) or the latest (``used``, ``added``) first.
        """
        with self._database.read() as connection:
            rows = read_snapshots(connection, pattern)
        rows.sort(key=lambda row: (row.source, row.revision))
        if sort != "name":
            rows.sort(key=_SORT_KEYS[sort], reverse=True)
        return rows

    def counts(self) -> Counts:
        """Return the totals."""
        by_state = (
            select(t.replica.c.state, func.count(), func.sum(t.replica.c.size_bytes))
            .where(t.replica.c.store == LOCAL_STORE)
            .group_by(t.replica.c.state)
        )
        with self._database.read() as connection:
            states = [(ReplicaState(state), number, size) for state, number, size in connection.execute(by_state)]
            revisions = connection.execute(select(func.count()).select_from(t.revision)).scalar_one()
            held, known = connection.execute(select(func.count(t.entry.c.blob_id), func.count(t.entry.c.id))).one()
        return Counts(
            {state: number for state, number, _ in states},
            {state: int(size) for state, _, size in states},
            revisions,
            held,
            known,
        )

    def list_attempts(
        self,
        is_alive: Callable[[str], bool],
        *,
        pattern: str | None = None,
        outcomes: Collection[Outcome] | None = None,
        since: int | None = None,
        limit: int | None = None,
    ) -> list[AttemptRow]:
        """Return the attempts that fit, the newest first. What a dead process left open is told as interrupted.

        Args:
            is_alive: says of a session's name whether its process may live.
            pattern: a glob over the whole URI or the whole path, with ``*`` and ``?``; None for all.
            outcomes: only those that ended so; None for all, those that go on included.
            since: only those that began then or later, in UTC microseconds.
            limit: at most so many.
        """
        dead = self._dead_sessions(is_alive)
        with self._database.read() as connection:
            return history.read_attempts(connection, dead, pattern=pattern, outcomes=outcomes, since=since, limit=limit)

    def statistics(self, is_alive: Callable[[str], bool], *, since: int | None = None) -> Statistics:
        """Return what the attempts since then came to, and what the store saves now.

        Args:
            is_alive: says of a session's name whether its process may live.
            since: only attempts that began then or later, in UTC microseconds; None for all that are kept.
        """
        dead = self._dead_sessions(is_alive)
        with self._database.read() as connection:
            return history.read_statistics(connection, dead, since)

    def _dead_sessions(self, is_alive: Callable[[str], bool]) -> list[str]:
        with self._database.read() as connection:
            sessions = open_sessions(connection)
        # Asked before the rows are read again: what the dead had committed by then is seen there.
        return [session for session in sessions if not is_alive(session)]

    def quick_check(self) -> str | None:
        """Return the first damage that SQLite finds in the file's structure, None if there is none."""
        with self._database.read() as connection:
            verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        return None if verdict == "ok" else str(verdict)

    def get_meta(self, key: str) -> str | None:
        """Return what the catalog says of itself under ``key``, None if nothing."""
        with self._database.read() as connection:
            return connection.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar_one_or_none()


def _to_blobs(rows: Iterable[Row[*tuple[Any, ...]]]) -> Iterator[BlobRow]:
    """Make blobs of rows of ``_BLOBS``: one for each computed digest, those of one blob together."""
    for _, group in groupby(rows, key=lambda row: row.id):
        yield _to_blob(list(group))


@believing
def _to_blob(rows: Sequence[Row[*tuple[Any, ...]]]) -> BlobRow:
    blake3, size_bytes, state, *stamp, verified_at, _, _, _ = rows[0]
    name = Digest("blake3", blake3.hex())
    others = (Digest(row.algorithm, row.value.hex()) for row in rows if row.algorithm is not None)
    return BlobRow(name, to_number(size_bytes), (name, *others), ReplicaState(state), to_stamp(stamp), verified_at)
