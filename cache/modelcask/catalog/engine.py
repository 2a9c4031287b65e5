"""How SQLAlchemy speaks to SQLite here: its transactions, its errors, its upserts."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from modelcask.catalog.connection import translate, translated

BATCH_ROWS: Final = 500
"""The most rows that one statement names: short statements, far below every database's limit of parameters."""

_Item = TypeVar("_Item")


def make_engine(connect: Callable[[], sqlite3.Connection], *, begin: str) -> Engine:
    """Return an engine whose transactions start with the statement ``begin``.

    The driver would begin one only before the first write, so that a read before it could see other rows than
    the write after it. SQLAlchemy's documentation ("Transactions with SQLite and the sqlite3 driver") has the
    recipe for every version of Python: ``isolation_level=None`` at connect, and BEGIN by an event.
    """
    # A thread that finds all connections in use gets one more instead of an error.
    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=5, max_overflow=-1)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextlib.contextmanager
def sql_translated(path: Path) -> Iterator[None]:
    """Raise what SQLAlchemy or SQLite says inside the ``with`` block as an error of ours, ``from`` the original."""
    try:
        with translated(path):
            yield
    except DBAPIError as error:
        ours = translate(error.orig, path)
        if ours is None:
            raise
        raise ours from error


def upsert(connection: Connection, table: Table) -> sqlite.Insert:
    """Return an INSERT that takes ON CONFLICT, in the dialect of ``connection``.

    The two dialects' classes have the same methods as far as they are used here.
    """
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - takes a while, and is not SQLite's

        return postgresql.insert(table)  # type: ignore[return-value] # see above
    return sqlite.insert(table)


def batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Yield ``items`` in order, in groups of ``BATCH_ROWS`` at most."""
    for start in range(0, len(items), BATCH_ROWS):
        yield items[start : start + BATCH_ROWS]
