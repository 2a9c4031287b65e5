"""The list of snapshots: one row for each revision of which something is held."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, true

from modelcask.catalog import tables as t
from modelcask.catalog.globs import to_like, to_regex
from modelcask.catalog.rows import LOCAL_STORE, SnapshotRow
from modelcask.types import ReplicaState, TrustLevel

_DAMAGED: Final = (ReplicaState.MISSING.value, ReplicaState.QUARANTINED.value)
_STRENGTH: Final = {level: rank for rank, level in enumerate(TrustLevel)}


def read_snapshots(connection: Connection, pattern: str | None) -> list[SnapshotRow]:
    """Return the snapshots whose source matches a glob, in no order."""
    matching = true() if pattern is None else t.Source.uri.like(to_like(pattern), escape="\\")
    exact = to_regex("*" if pattern is None else pattern)
    damaged = case(
        (and_(t.Entry.blob_id.is_not(None), or_(t.Replica.id.is_(None), t.Replica.state.in_(_DAMAGED))), 1),
        else_=0,
    )
    statement = (
        select(
            t.Revision.id,
            t.Source.uri,
            t.Revision.key,
            t.Revision.listed,
            func.count(t.Entry.blob_id).label("held"),
            func.count(t.Entry.id).label("known"),
            func.sum(damaged).label("damaged"),
            func.coalesce(func.sum(t.Blob.size_bytes), 0).label("size_bytes"),
            t.Revision.fetched_at,
            t.Revision.last_used_at,
        )
        .select_from(t.Source)
        .join(t.Revision, t.Revision.source_id == t.Source.id)
        .join(t.Entry, t.Entry.revision_id == t.Revision.id)
        .outerjoin(t.Blob, t.Blob.id == t.Entry.blob_id)
        .outerjoin(t.Replica, and_(t.Replica.blob_id == t.Blob.id, t.Replica.store == LOCAL_STORE))
        .where(matching)
        .group_by(t.Revision.id, t.Source.uri)
        .having(func.count(t.Entry.blob_id) > 0)
    )
    refs = _read_refs(connection, matching)
    trust = _read_trust(connection, matching)
    return [
        SnapshotRow(
            row.id,
            row.uri,
            row.key,
            tuple(refs[row.id]),
            bool(row.listed),
            row.held,
            row.known,
            int(row.damaged),
            int(row.size_bytes),
            row.fetched_at,
            row.last_used_at,
            tuple(trust[row.id]),
        )
        for row in connection.execute(statement)
        if exact.fullmatch(row.uri)  # SQLite's LIKE folds case, and a URI has it
    ]


def _read_refs(connection: Connection, matching: ColumnElement[bool]) -> dict[int, list[str]]:
    statement = (
        select(t.Ref.revision_id, t.Ref.name)
        .join(t.Source, t.Source.id == t.Ref.source_id)
        .where(matching)
        .order_by(t.Ref.name)
    )
    names: dict[int, list[str]] = defaultdict(list)
    for revision, name in connection.execute(statement):
        names[revision].append(name)
    return names


def _read_trust(connection: Connection, matching: ColumnElement[bool]) -> dict[int, list[TrustLevel]]:
    statement = (
        select(t.Entry.revision_id, t.Entry.trust)
        .join(t.Revision, t.Revision.id == t.Entry.revision_id)
        .join(t.Source, t.Source.id == t.Revision.source_id)
        .where(matching, t.Entry.trust.is_not(None))
        .distinct()
    )
    levels: dict[int, list[TrustLevel]] = defaultdict(list)
    for revision, trust in connection.execute(statement):
        levels[revision].append(TrustLevel(str(trust)))
    for found in levels.values():
        found.sort(key=_STRENGTH.__getitem__)
    return levels
