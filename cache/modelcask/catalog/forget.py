"""Forgetting: references first, then the rows of bytes that nothing refers to any more.

Each function runs inside a transaction of its caller's. What is referred to is asked of the rows at that moment,
inside the statement that acts on the answer: there is no count that could be wrong.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, and_, delete, not_, or_, select, update

from modelcask.catalog import tables as t
from modelcask.catalog.engine import batches
from modelcask.catalog.record import blob_numbers
from modelcask.catalog.rows import LOCAL_STORE
from modelcask.digest import Digest
from modelcask.types import ReplicaState


def forget_entries(connection: Connection, revision_id: int, paths: Collection[str] | None) -> list[Digest]:
    """Hold these paths of a revision no more (None: all); return the blobs that no entry refers to now."""
    released: set[int] = set()
    held = and_(t.entry.c.revision_id == revision_id, t.entry.c.blob_id.is_not(None))
    chosen = [held] if paths is None else [and_(held, t.entry.c.path.in_(batch)) for batch in batches(list(paths))]
    for condition in chosen:
        found = connection.execute(select(t.entry.c.blob_id).where(condition)).scalars()
        released.update(number for number in found if number is not None)
        connection.execute(update(t.entry).where(condition).values(blob_id=None, trust=None))
    if connection.execute(select(t.entry.c.id).where(held).limit(1)).first() is None:
        _forget_revision(connection, revision_id)
    left: list[Digest] = []
    for batch in batches(sorted(released)):
        statement = select(t.blob.c.blake3).where(t.blob.c.id.in_(batch), not_(_is_held(t.blob.c.id)))
        left += [Digest("blake3", blake3.hex()) for blake3 in connection.execute(statement).scalars()]
    return sorted(left)


def _forget_revision(connection: Connection, revision_id: int) -> None:
    refs = select(t.ref.c.id).where(t.ref.c.revision_id == revision_id)
    pin = select(t.pin.c.id).where(or_(t.pin.c.revision_id == revision_id, t.pin.c.ref_id.in_(refs)))
    export = select(t.export.c.id).where(t.export.c.revision_id == revision_id)
    if connection.execute(pin.union_all(export).limit(1)).first() is not None:
        return
    connection.execute(delete(t.ref).where(t.ref.c.revision_id == revision_id))
    connection.execute(delete(t.revision).where(t.revision.c.id == revision_id))


def condemn(connection: Connection, digests: Collection[Digest], now: int) -> list[Digest]:
    """Condemn those of the present blobs that nothing protects; return them."""
    condemned: list[Digest] = []
    for batch in batches(sorted(set(digests))):
        numbers = {number: digest for digest, number in blob_numbers(connection, batch).items()}
        pin = select(t.pin.c.id).where(
            t.pin.c.blob_id == t.replica.c.blob_id, or_(t.pin.c.expires_at.is_(None), t.pin.c.expires_at > now)
        )
        statement = (
            update(t.replica)
            .where(
                t.replica.c.store == LOCAL_STORE,
                t.replica.c.state == ReplicaState.PRESENT.value,
                t.replica.c.blob_id.in_(numbers),
                not_(_is_held(t.replica.c.blob_id)),
                not_(_is_exported(t.replica.c.blob_id)),
                not_(pin.exists()),
            )
            .values(state=ReplicaState.CONDEMNED.value)
            .returning(t.replica.c.blob_id)
        )
        condemned += [numbers[number] for number in connection.execute(statement).scalars()]
    return sorted(condemned)


def delete_replica(connection: Connection, digest: Digest, expected: Collection[ReplicaState]) -> bool:
    """Delete the local replica of a blob if its state is expected, and the blob if nothing refers to it."""
    blob = select(t.blob.c.id).where(t.blob.c.blake3 == digest.value).scalar_subquery()
    deleted = connection.execute(
        delete(t.replica).where(
            t.replica.c.store == LOCAL_STORE,
            t.replica.c.blob_id == blob,
            t.replica.c.state.in_([state.value for state in expected]),
        )
    )
    connection.execute(
        delete(t.blob).where(
            t.blob.c.blake3 == digest.value,
            not_(_is_held(t.blob.c.id)),
            not_(_is_exported(t.blob.c.id)),
            not_(select(t.pin.c.id).where(t.pin.c.blob_id == t.blob.c.id).exists()),
            not_(select(t.replica.c.id).where(t.replica.c.blob_id == t.blob.c.id).exists()),
        )
    )
    return deleted.rowcount > 0


def _is_held(blob: ColumnElement[int]) -> ColumnElement[bool]:
    return select(t.entry.c.id).where(t.entry.c.blob_id == blob).exists()


def _is_exported(blob: ColumnElement[int]) -> ColumnElement[bool]:
    return select(t.export_entry.c.path).where(t.export_entry.c.blob_id == blob).exists()
