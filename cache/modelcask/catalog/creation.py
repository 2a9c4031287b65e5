"""Making a catalog where there is none: straight from ``tables``, in one transaction.

The migrations come to the same, which a test holds, but everybody's first pull would wait for Alembic to be imported.
Called with ``locks/schema`` held exclusively, as every change of the schema. A crash leaves an empty file or none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, insert

from modelcask import locks
from modelcask.catalog import tables as t
from modelcask.catalog.connection import connect_writer
from modelcask.catalog.engine import make_engine, sql_translated
from modelcask.layout import Layout

_GATE_TIMEOUT_S: Final = 30.0
_MIN: Final = {"min_reader": "0001", "min_writer": "0001"}
"""From which version on a program can read the newest schema, and write it: as the migrations say."""
_STAMP: Final = (
    "CREATE TABLE alembic_version "
    "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
"""Alembic's own table, as Alembic makes it."""


def create(layout: Layout, version: str) -> None:
    """Make the catalog, as the newest version has it.

    Raises:
        StoreFullError: there is no room for it; nothing was made.
    """
    with changing(layout) as connection:
        t.METADATA.create_all(connection, checkfirst=False)
        connection.exec_driver_sql(_STAMP)
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (version,))
        connection.execute(insert(t.meta), [{"key": key, "value": value} for key, value in _MIN.items()])


@contextlib.contextmanager
def changing(layout: Layout, *, foreign_keys: bool = True) -> Iterator[Connection]:
    """Change the schema in one transaction, while nobody writes; the file is made if need be, for its owner only."""
    make_private(layout.catalog)
    gate = locks.lock(layout.writer_lock, timeout_s=_GATE_TIMEOUT_S)
    engine = make_engine(
        lambda: connect_writer(layout.catalog, create=True, foreign_keys=foreign_keys), begin="BEGIN IMMEDIATE"
    )
    try:
        with sql_translated(layout.catalog), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
        gate.release()


def make_private(path: Path) -> None:
    """Make sure of a file and of its mode, 0600 whatever the umask; SQLite gives it to ``-wal`` and ``-shm`` too."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)
