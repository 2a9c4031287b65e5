"""The catalog's file while it is open: many readers, one writer at a time on this machine, and the checkpoints.

Every write transaction and every checkpoint runs inside one gate, ``locks/writer``, and SQLite's own checkpoints
are off. SQLite 3.7.0 to 3.51.2 can corrupt a database when a commit and a checkpoint of two connections interleave;
such versions will be in use for years, and the gate leaves no room for it. It also ends the starvation of writers
that poll for SQLite's lock. Closing counts: SQLite copies the log when the last connection closes, so a
connection that can write is closed inside the gate, and readers are opened so that they cannot.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator

from sqlalchemy import Connection, Engine

from modelcask import locks
from modelcask.catalog import schema
from modelcask.catalog.connection import WAL_LIMIT_BYTES, connect_reader, connect_writer
from modelcask.catalog.engine import make_engine, sql_translated
from modelcask.catalog.rows import SENSELESS, senseless
from modelcask.errors import CacheError, SchemaVersionError
from modelcask.layout import Layout

_log = logging.getLogger("modelcask.catalog")

_GATE_TIMEOUT_S = 30.0

_abandoned: list[Engine] = []
"""Engines inherited through a fork. SQLite forbids a child even to close such connections, so they are kept."""


_open_here: weakref.WeakSet[Database] = weakref.WeakSet()


def _renew_databases() -> None:
    for database in list(_open_here):
        database.renew_after_fork()


os.register_at_fork(after_in_child=_renew_databases)


class Database:
    """One open catalog. Safe for threads; a forked child that uses it gets connections and locks of its own."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.reserve = layout.reserve
        """Of what room a write that finds the disk full may be done again."""
        self._path = layout.catalog
        self._closed = False
        self._prepare()
        self._hold_schema()
        _open_here.add(self)

    def _prepare(self) -> None:
        self._held: tuple[locks.Lock, schema.Version] | None = None
        self._wrote = False
        self._turn = threading.Lock()  # threads queue here; processes poll for the lock file
        self._reader = make_engine(lambda: connect_reader(self._path), begin="BEGIN")
        self._writer = make_engine(lambda: connect_writer(self._path), begin="BEGIN IMMEDIATE")

    def renew_after_fork(self) -> None:
        """Give up what is the parent's. Called in each forked child before it runs anything else."""
        _abandoned.extend((self._reader, self._writer))
        self._prepare()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection inside one read transaction: all its statements see the same rows.

        What they come to is made a value inside the block, where a row that makes no sense is told as damage.
        """
        self._hold_schema()
        with sql_translated(self._path), self._reader.connect() as connection:
            try:
                yield connection
            except CacheError:
                raise  # some are ValueErrors too
            except SENSELESS as error:
                raise senseless(error) from error

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection inside one write transaction, committed at the end of the block, else rolled back.

        No I/O inside: every other writer on this machine waits.

        Raises:
            BusyError: another process has been writing for too long.
            SchemaVersionError: a newer modelcask has made the catalog read-only for this one.
        """
        version = self._hold_schema()
        if not version.writable:
            raise SchemaVersionError(version.number, schema.HEAD)
        with self._gate(), sql_translated(self._path):
            self._wrote = True
            with self._writer.begin() as connection:
                yield connection
            if self._wal_bytes() > WAL_LIMIT_BYTES:
                self._checkpoint("wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close every connection, and leave no log behind if nobody reads it. Safe to call twice; raises nothing."""
        if self._closed:
            return
        self._closed = True
        self._reader.dispose()
        try:
            if self._wrote:
                with self._gate():
                    # Without waiting for readers: what they still need, the next checkpoint copies.
                    self._checkpoint("busy_timeout = 0", "wal_checkpoint(TRUNCATE)")
                    self._writer.dispose()
        except CacheError as error:
            _log.warning("the catalog was closed with its log not copied; the next one to write copies it: %s", error)
        finally:
            self._writer.dispose()
            if self._held is not None:
                self._held[0].release()

    def _hold_schema(self) -> schema.Version:
        if self._closed:
            raise ValueError("the catalog is closed")
        held = self._held
        if held is None:
            with self._turn:
                held = self._held = self._held or schema.hold(self._layout)
        return held[1]

    @contextlib.contextmanager
    def _gate(self) -> Iterator[None]:
        with self._turn:
            held = locks.lock(self._layout.writer_lock, timeout_s=_GATE_TIMEOUT_S)
            try:
                yield
            finally:
                held.release()

    def _wal_bytes(self) -> int:
        try:
            return self._path.with_name(f"{self._path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def _checkpoint(self, *pragmas: str) -> None:
        try:
            with contextlib.closing(self._writer.raw_connection()) as raw:  # not inside a transaction
                cursor = raw.cursor()
                for pragma in pragmas:
                    cursor.execute(f"PRAGMA {pragma}")
                    cursor.fetchall()
                cursor.close()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the second: a message that quotes damaged text
            # What was committed is safe in the log, so this is no failure of the write that came before.
            _log.warning("the catalog's log could not be copied; the next write tries again: %s", error)
