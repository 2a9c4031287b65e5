"""The schema's version: who may read, who may write, and who upgrades it.

Every process that has the catalog open for writing holds ``locks/schema`` shared meanwhile. An upgrade takes it
exclusively and reads the version again, since somebody else may have been quicker. The catalog says in its table
``meta`` from which version on a program can read it (``min_reader``) and write it (``min_writer``): a newer schema
that has only grown stays usable for an older program. To know all that takes one query through the standard
library; Alembic is imported only when there is something to upgrade.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelcask import locks
from modelcask.catalog.connection import connect_reader, translated
from modelcask.errors import BusyError, CorruptStoreError, SchemaVersionError
from modelcask.layout import Layout
from modelcask.reserve import with_reserve

HEAD: Final = "0001"
"""The newest version this program knows: the last file in ``migrations/``."""

_LOCK_TIMEOUT_S = 30.0
_NUMBER: Final = re.compile(r"[0-9]{4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Version:
    """What a catalog says of its own schema. Versions are numbers of four digits, so they compare as text."""

    number: str
    min_reader: str
    min_writer: str

    @property
    def old(self) -> bool:
        """Whether it must be upgraded before this program can use it."""
        return self.number < HEAD

    @property
    def writable(self) -> bool:
        """Whether this program may write it."""
        return self.min_writer <= HEAD

    def check_readable(self) -> None:
        """Raise SchemaVersionError if it has changed beyond what this program can read."""
        if self.min_reader > HEAD:
            raise SchemaVersionError(self.number, HEAD)


def hold(layout: Layout) -> tuple[locks.Lock, Version]:
    """Make or upgrade the catalog if need be; return the shared lock that keeps its version, and that version.

    Safe if several processes do it at once.

    Raises:
        SchemaVersionError: it is of a newer modelcask that ours cannot read beside.
        BusyError: it must be upgraded, and another process keeps the older version open.
        CorruptStoreError: the file is no catalog, or damaged.
        StorageError: it cannot be opened.
    """
    while True:
        held = locks.lock(layout.schema_lock, shared=True, timeout_s=_LOCK_TIMEOUT_S)
        try:
            version = with_reserve(layout.reserve, find_version, layout.catalog)
            if version is not None and not version.old:
                version.check_readable()
                return held, version
        except BaseException:
            held.release()
            raise
        held.release()  # two that wait for the exclusive lock with a shared one in hand would wait for ever
        _upgrade(layout)


def find_version(path: Path) -> Version | None:
    """Return the version of the catalog at ``path``, None if there is none yet.

    Raises:
        CorruptStoreError: the file is something else, or damaged.
        StorageError: it cannot be opened.
    """
    if not path.exists():
        return None
    with translated(path), contextlib.closing(connect_reader(path)) as connection:
        return read_version(connection, path)


def _is_number(value: object) -> bool:
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None


def read_version(connection: sqlite3.Connection, path: Path) -> Version | None:
    """Return the version as ``connection`` sees it; ``path`` is for the error. As :func:`find_version`.

    Raises:
        sqlite3.Error: see :func:`modelcask.catalog.connection.translated`.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None  # made and never filled: its maker died before the first commit
    if not {"alembic_version", "meta"} <= tables:
        raise CorruptStoreError(f"{path} is a database, but no catalog of modelcask; move it away")
    numbers = [number for (number,) in connection.execute("SELECT version_num FROM alembic_version")]
    said = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('min_reader', 'min_writer')"))
    versions = [*numbers, *said.values()]
    if len(numbers) != 1 or len(said) != 2 or not all(map(_is_number, versions)):  # noqa: PLR2004 - its keys
        raise CorruptStoreError(f"the catalog {path} does not say its version; run: modelcask rebuild")
    return Version(numbers[0], said["min_reader"], said["min_writer"])


def _upgrade(layout: Layout) -> None:
    try:
        held = locks.lock(layout.schema_lock, timeout_s=_LOCK_TIMEOUT_S)
    except BusyError as error:
        # The note in the lock file is of its last exclusive holder, and these hold it shared: not to be shown.
        raise BusyError("the catalog's older version", holder="another modelcask that still runs") from error
    try:
        version = with_reserve(layout.reserve, find_version, layout.catalog)
        if version is None:
            from modelcask.catalog.creation import create  # noqa: PLC0415 - brings in SQLAlchemy

            create(layout, HEAD)
        elif version.old:
            from modelcask.catalog.upgrade import upgrade  # noqa: PLC0415 - and Alembic

            upgrade(layout, version.number, HEAD)
    finally:
        held.release()
