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
    matching = true() if pattern is None else t.source.c.uri.like(to_like(pattern), escape="\\")
    exact = to_regex("*" if pattern is None else pattern)
    damaged = case(
        (and_(t.entry.c.blob_id.is_not(None), or_(t.replica.c.id.is_(None), t.replica.c.state.in_(_DAMAGED))), 1),
        else_=0,
    )
    statement = (
        select(
            t.revision.c.id,
            t.source.c.uri,
            t.revision.c.key,
            t.revision.c.listed,
            func.count(t.entry.c.blob_id).label("held"),
            func.count(t.entry.c.id).label("known"),
            func.sum(damaged).label("damaged"),
            func.coalesce(func.sum(t.blob.c.size_bytes), 0).label("size_bytes"),
            t.revision.c.fetched_at,
            t.revision.c.last_used_at,
        )
        .select_from(t.source)
        .join(t.revision, t.revision.c.source_id == t.source.c.id)
        .join(t.entry, t.entry.c.revision_id == t.revision.c.id)
        .outerjoin(t.blob, t.blob.c.id == t.entry.c.blob_id)
        .outerjoin(t.replica, and_(t.replica.c.blob_id == t.blob.c.id, t.replica.c.store == LOCAL_STORE))
        .where(matching)
        .group_by(t.revision.c.id, t.source.c.uri)
        .having(func.count(t.entry.c.blob_id) > 0)
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
        select(t.ref.c.revision_id, t.ref.c.name)
        .join(t.source, t.source.c.id == t.ref.c.source_id)
        .where(matching)
        .order_by(t.ref.c.name)
    )
    names: dict[int, list[str]] = defaultdict(list)
    for revision, name in connection.execute(statement):
        names[revision].append(name)
    return names


def _read_trust(connection: Connection, matching: ColumnElement[bool]) -> dict[int, list[TrustLevel]]:
    statement = (
        select(t.entry.c.revision_id, t.entry.c.trust)
        .join(t.revision, t.revision.c.id == t.entry.c.revision_id)
        .join(t.source, t.source.c.id == t.revision.c.source_id)
        .where(matching, t.entry.c.trust.is_not(None))
        .distinct()
    )
    levels: dict[int, list[TrustLevel]] = defaultdict(list)
    for revision, trust in connection.execute(statement):
        levels[revision].append(TrustLevel(str(trust)))
    for found in levels.values():
        found.sort(key=_STRENGTH.__getitem__)
    return levels
