"""The record of attempts: one row for each try to make one file held, whether or not that took a transfer.

::

    begin     one transaction for all files of a pull: an open row each; one that is held already is closed at once
    end       one transaction for all files that have ended meanwhile
    close     rows that a dead process left open become ``interrupted``

A row is open while its ``outcome`` is NULL. What death leaves is told by that: killed before the first commit, no
row; later, open rows of a session that nobody holds, also for files that were published but not yet ended here.
Whether the session lives is the caller's to know. A row may say less than happened, never more.

Each function runs inside a transaction of its caller's. Nothing here is a secret: the URI is a canonical one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from modelcask.catalog import tables as t
from modelcask.catalog.rows import Outcome
from modelcask.uri import ModelURI

KEPT_US: Final = 90 * 24 * 3600 * 1_000_000
"""Attempts that began longer ago are forgotten."""
KEPT_ROWS: Final = 100_000
"""Of more attempts than that, the first are forgotten: some 30 MB."""


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """A file that is about to be made held."""

    request_id: str
    """What names the pull; the same for all its files."""
    session: str
    """The name of this process's session file: it tells later whether the process lives."""
    uri: ModelURI
    """What was asked for; its canonical form is recorded, so never a signed parameter."""
    path: str
    """The file's validated name inside the source."""
    bytes_reused: int | None = None
    """The size of a file that the store holds already: it is done. None for one that is still to be had."""


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """How the attempt with the number ``id`` ended. Times in UTC microseconds."""

    id: int
    outcome: Outcome
    bytes_fetched: int = 0
    bytes_reused: int = 0
    """What the store, or a kept partial, already held."""
    error_class: str | None = None
    """The name of the error's class if it failed; never its message."""
    started_at: int | None = None
    """When the transfer began; None: when the row was made. In a long queue the two are far apart."""
    finished_at: int | None = None
    """When it ended; None: as this is recorded."""


_INSERT: Final = insert(t.attempt).returning(t.attempt.c.id, sort_by_parameter_order=True)
_END: Final = (
    update(t.attempt)
    .where(t.attempt.c.id == bindparam("number"))
    .values(started_at=func.coalesce(bindparam("began", type_=t.INTEGER), t.attempt.c.started_at))
)


def begin_attempts(connection: Connection, attempts: Sequence[NewAttempt], now: int) -> list[int]:
    """Record that these are begun, or done already; return their numbers in the same order."""
    held = [attempt.bytes_reused is not None for attempt in attempts]
    rows = [
        {
            "request_id": attempt.request_id,
            "session": attempt.session,
            "uri": attempt.uri.canonical,
            "source": attempt.uri.source,
            "path": attempt.path,
            "started_at": now,
            "finished_at": now if done else None,
            "outcome": Outcome.DONE.value if done else None,
            "bytes_reused": attempt.bytes_reused or 0,
        }
        for attempt, done in zip(attempts, held, strict=True)
    ]
    return list(connection.execute(_INSERT, rows).scalars())


def end_attempts(connection: Connection, ended: Sequence[EndedAttempt], now: int) -> None:
    """Record how these ended, whatever was recorded of their end before."""
    connection.execute(
        _END,
        [
            {
                "number": attempt.id,
                "began": attempt.started_at,
                "finished_at": now if attempt.finished_at is None else attempt.finished_at,
                "outcome": attempt.outcome.value,
                "bytes_fetched": attempt.bytes_fetched,
                "bytes_reused": attempt.bytes_reused,
                "error_class": attempt.error_class,
            }
            for attempt in ended
        ],
    )


def open_sessions(connection: Connection) -> list[str]:
    """Return the sessions that have open rows."""
    return list(
        connection.execute(select(t.attempt.c.session).where(t.attempt.c.outcome.is_(None)).distinct()).scalars()
    )


def close_interrupted(connection: Connection, dead: Collection[str], now: int) -> int:
    """Close what these sessions left open; return how many rows that were."""
    statement = update(t.attempt).where(t.attempt.c.outcome.is_(None), t.attempt.c.session.in_(dead))
    return connection.execute(statement.values(outcome=Outcome.INTERRUPTED.value, finished_at=now)).rowcount


def trim(connection: Connection, now: int) -> None:
    """Delete the closed rows that are older, or more, than are kept."""
    # By numbers, which are handed out in order: counting rows would read all of them each time.
    surplus = t.attempt.c.id <= select(func.max(t.attempt.c.id) - KEPT_ROWS).scalar_subquery()
    old = t.attempt.c.started_at < now - KEPT_US
    connection.execute(delete(t.attempt).where(t.attempt.c.outcome.is_not(None), or_(old, surplus)))
