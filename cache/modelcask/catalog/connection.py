"""Connections to the catalog's SQLite file, and what SQLite's errors mean to a caller.

Standard library only, because a lookup goes this way and must not pay for SQLAlchemy.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from modelcask.errors import BusyError, CacheError, CorruptStoreError, StorageError, StoreFullError

WAL_LIMIT_BYTES: Final = 4 << 20
"""A write-ahead log above this is copied into the database after the next write."""

_BUSY_TIMEOUT_S: Final = 10.0
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT})
_SIGNS_OF_DAMAGE: Final = ("no such ", "unsupported file format", "malformed ")
"""How messages begin for which SQLite has no code of their own."""
_HELD: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

# A page that mmap shows after the disk has failed ends the process by a signal; a read reports an error.
# A damaged or hostile file must not make its schema call functions.
_SAFE: Final = ("mmap_size = 0", "trusted_schema = OFF")

# FULL, because the dangerous loss is a committed delete that comes back (I1). No checkpoint by itself: see
# database.py. The size limit lets the log shrink again once it has been copied.
_DURABLE: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 0",
    f"journal_size_limit = {WAL_LIMIT_BYTES // 4}",
)


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open an existing catalog so that nothing can be written through it, not even a checkpoint at close.

    Outside a transaction each statement sees all that is committed by then. May be used by any thread, by one at
    a time.

    Raises:
        sqlite3.Error: see :func:`translated`.
        CorruptStoreError: what stands in the place of one of its files is none.
    """
    return _connect(path, "ro", (*_SAFE, "query_only = ON"))


def connect_writer(path: Path, *, create: bool = False, foreign_keys: bool = True) -> sqlite3.Connection:
    """Open a catalog for writing; the caller begins transactions itself. Threads as in :func:`connect_reader`."""
    mode = "rwc" if create else "rw"
    return _connect(path, mode, (*_SAFE, *_DURABLE, f"foreign_keys = {int(foreign_keys)}"))


def _connect(path: Path, mode: str, pragmas: Iterable[str]) -> sqlite3.Connection:
    for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(os.stat(part).st_mode):  # noqa: PTH116 - as in lookup.py
                raise CorruptStoreError(f"{part} is no file; run: modelcask rebuild")  # a pipe would keep us waiting
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite says inside the ``with`` block as an error of ours, ``from`` the original."""
    try:
        yield
    except sqlite3.Error as error:
        ours = translate(error, path)
        if ours is None:
            raise
        raise ours from error
    except UnicodeDecodeError as error:
        raise _damaged(path, "text that is none") from error


def translate(error: BaseException | None, path: Path) -> CacheError | None:  # noqa: PLR0911 - one a kind
    """Return our error for one of SQLite's, None for one that only a mistake in this program can cause."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Raised by Python's module itself, which gives it no code and shows the bytes.
        undecodable = str(error).startswith("Could not decode to UTF-8")
        return _damaged(path, "text that is none") if undecodable else None
    primary = code & 0xFF  # the rest tells where in SQLite it arose
    if primary in _DAMAGED or (primary == sqlite3.SQLITE_ERROR and str(error).startswith(_SIGNS_OF_DAMAGE)):
        return _damaged(path, str(error))
    if primary in _HELD:
        return BusyError(f"the catalog {path}")
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _free_bytes(path) < WAL_LIMIT_BYTES):
        return StoreFullError(0, _free_bytes(path), where=str(path.parent))
    if primary == sqlite3.SQLITE_ERROR:
        return None
    if not os.access(path.parent, os.W_OK):
        return StorageError(
            f"{path.parent} is read-only for this user, and even a lookup writes its lease there; make it writable, "
            "or set MODELCASK_HOME to a folder of your own"
        )
    return StorageError(f"the catalog {path} cannot be used ({error}); check its permissions and its disk")


def _damaged(path: Path, how: str) -> CorruptStoreError:
    return CorruptStoreError(f"the catalog {path} is damaged ({how}); run: modelcask rebuild")


def _free_bytes(path: Path) -> int:
    with contextlib.suppress(OSError):
        found = os.statvfs(path.parent)
        return found.f_bavail * found.f_frsize
    return 0
