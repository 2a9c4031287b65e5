"""What the record of attempts answers: the list behind ``log``, the sums behind ``stats``.

Each function runs inside a transaction of its caller's. Open rows of a session in ``dead`` are told as interrupted,
though nobody has closed them yet: reading writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, true

from modelcask.catalog import tables as t
from modelcask.catalog.globs import to_like, to_regex
from modelcask.catalog.rows import LOCAL_STORE, AttemptRow, Outcome, Statistics
from modelcask.types import ReplicaState

_HIT: Final = and_(t.attempt.c.outcome == Outcome.DONE.value, t.attempt.c.bytes_fetched == 0)


def read_attempts(
    connection: Connection,
    dead: Collection[str],
    *,
    pattern: str | None,
    outcomes: Collection[Outcome] | None,
    since: int | None,
    limit: int | None,
) -> list[AttemptRow]:
    """Return the attempts that fit, the newest first."""
    outcome = _outcome(dead)
    statement = (
        select(
            t.attempt.c.request_id,
            t.attempt.c.uri,
            t.attempt.c.source,
            t.attempt.c.path,
            t.attempt.c.started_at,
            t.attempt.c.finished_at,
            outcome.label("outcome"),
            t.attempt.c.bytes_fetched,
            t.attempt.c.bytes_reused,
            t.attempt.c.error_class,
        )
        .where(_since(since))
        .order_by(t.attempt.c.started_at.desc(), t.attempt.c.id.desc())
    )
    if outcomes is not None:
        statement = statement.where(outcome.in_([one.value for one in outcomes]))
    exact = to_regex("*" if pattern is None else pattern)
    if pattern is not None:
        like = to_like(pattern)
        statement = statement.where(
            or_(t.attempt.c.uri.like(like, escape="\\"), t.attempt.c.path.like(like, escape="\\"))
        )
    rows = (
        AttemptRow(
            row.request_id,
            row.uri,
            row.source,
            row.path,
            row.started_at,
            # When its row was closed says nothing of when it died.
            None if row.outcome == Outcome.INTERRUPTED else row.finished_at,
            None if row.outcome is None else Outcome(row.outcome),
            row.bytes_fetched,
            row.bytes_reused,
            row.error_class,
        )
        for row in connection.execute(statement)
        if exact.fullmatch(row.uri) or exact.fullmatch(row.path)
    )
    return list(islice(rows, limit))


def read_statistics(connection: Connection, dead: Collection[str], since: int | None) -> Statistics:
    """Return the sums over the attempts since then, and those over the store as it is."""
    sums = connection.execute(
        select(
            func.count(t.attempt.c.id),
            func.count(t.attempt.c.request_id.distinct()),
            func.count(case((_HIT, 1))),
            func.coalesce(func.sum(t.attempt.c.bytes_fetched), 0),
            func.coalesce(func.sum(t.attempt.c.bytes_reused), 0),
            func.coalesce(func.sum(case((_HIT, t.attempt.c.bytes_reused))), 0),
            func.min(t.attempt.c.started_at),
        ).where(_since(since))
    ).one()
    files, requests, hits, fetched, reused, hit, first_at = sums
    outcome = _outcome(dead)
    ended = connection.execute(select(outcome, func.count()).where(_since(since)).group_by(outcome)).all()
    failed = connection.execute(
        select(t.attempt.c.error_class, func.count().label("number"))
        .where(_since(since), t.attempt.c.outcome == Outcome.FAILED.value, t.attempt.c.error_class.is_not(None))
        .group_by(t.attempt.c.error_class)
        .order_by(func.count().desc(), t.attempt.c.error_class)
    ).all()
    blobs, stored, without_dedup, saved = _read_store(connection)
    return Statistics(
        requests=requests,
        files=files,
        hits=hits,
        running=sum(number for name, number in ended if name is None),
        outcomes={Outcome(name): number for name, number in ended if name is not None},
        failures={str(name): number for name, number in failed},
        bytes_fetched=int(fetched),
        bytes_hit=int(hit),
        bytes_resumed=int(reused) - int(hit),
        first_at=first_at,
        blobs=blobs,
        bytes_stored=stored,
        bytes_without_dedup=without_dedup,
        bytes_saved=saved,
    )


def _read_store(connection: Connection) -> tuple[int, int, int, int]:
    """Return blobs, their bytes, what the held files would take one by one, and what sharing saves of that."""
    uses = select(func.count(t.entry.c.id)).where(t.entry.c.blob_id == t.replica.c.blob_id).correlate(t.replica)
    number = uses.scalar_subquery()
    present = (
        select(t.replica.c.size_bytes, number.label("uses"))
        .where(t.replica.c.store == LOCAL_STORE, t.replica.c.state == ReplicaState.PRESENT.value)
        .subquery()
    )
    size, used = present.c.size_bytes, present.c.uses
    sums = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(size), 0),
            func.coalesce(func.sum(size * used), 0),
            func.coalesce(func.sum(case((used > 1, size * (used - 1)), else_=0)), 0),
        ).select_from(present)
    ).one()
    blobs, stored, without_dedup, saved = map(int, sums)
    return blobs, stored, without_dedup, saved


def _outcome(dead: Collection[str]) -> ColumnElement[str | None]:
    orphaned = and_(t.attempt.c.outcome.is_(None), t.attempt.c.session.in_(dead))
    return case((orphaned, Outcome.INTERRUPTED.value), else_=t.attempt.c.outcome)


def _since(since: int | None) -> ColumnElement[bool]:
    return true() if since is None else t.attempt.c.started_at >= since
