"""Looking things up: the catalog's hot path, one prepared statement through the standard library.

Importing SQLAlchemy costs more than the whole of ``modelcask path`` may, and a statement through it several times
the query, so it is not imported here. ``reads.py`` has the same query for other databases; a test holds them equal.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelcask.catalog.connection import connect_reader, translate, translated
from modelcask.catalog.rows import LOCAL_STORE, believing, to_entry, to_number, to_stamp, to_text
from modelcask.catalog.schema import Version, read_version
from modelcask.digest import Digest
from modelcask.errors import CorruptStoreError, StorageError
from modelcask.layout import Layout
from modelcask.reserve import with_reserve
from modelcask.types import Entry, ReplicaState, StatStamp, TrustLevel


@dataclass(frozen=True, slots=True)
class Found:
    """One held file of a revision, whatever the state of its bytes: the caller checks state and stamp."""

    revision: str
    path: str
    digest: Digest
    size_bytes: int
    state: ReplicaState
    stamp: StatStamp
    trust: TrustLevel


@dataclass(frozen=True, slots=True)
class FoundRevision:
    """A revision that the catalog knows."""

    id: int
    key: str
    listed: bool
    """Whether its entries are all files that the source has."""
    entrypoint: str
    """What the ref that was asked for means inside it; empty if nothing in particular."""


_FOUND: Final = """\
SELECT revision.key, entry.path, blob.blake3, blob.size_bytes, replica.state,
       replica.size_bytes, replica.inode, replica.mtime_ns, replica.ctime_ns, entry.trust
"""
_BYTES: Final = f"""\
JOIN blob ON blob.id = entry.blob_id
JOIN replica ON replica.blob_id = blob.id AND replica.store = '{LOCAL_STORE}'
"""
# That a ref and its revision have one source is asked, though it is always so: damage must not lead elsewhere.
FILE_BY_REF: Final = f"""\
{_FOUND} FROM source
JOIN ref ON ref.source_id = source.id AND ref.name = :ref
JOIN revision ON revision.id = ref.revision_id AND revision.source_id = source.id
JOIN entry ON entry.revision_id = revision.id AND entry.path = coalesce(nullif(:path, ''), ref.entrypoint)
{_BYTES} WHERE source.uri = :source
"""
FILE_BY_REVISION: Final = f"""\
{_FOUND} FROM source
JOIN revision ON revision.source_id = source.id AND revision.key = :revision
JOIN entry ON entry.revision_id = revision.id AND entry.path = :path
{_BYTES} WHERE source.uri = :source
"""
FILE_BY_BLAKE3: Final = f"""\
{_FOUND} FROM blob
JOIN entry ON entry.blob_id = blob.id AND (entry.path = :path OR :path = '')
JOIN revision ON revision.id = entry.revision_id
JOIN source ON source.id = revision.source_id AND source.uri = :source
JOIN replica ON replica.blob_id = blob.id AND replica.store = '{LOCAL_STORE}'
WHERE blob.blake3 = :value ORDER BY revision.fetched_at DESC, revision.id DESC, entry.path LIMIT 1
"""
FILE_BY_SHA256: Final = f"""\
{_FOUND} FROM digest
JOIN blob ON blob.id = digest.blob_id
JOIN entry ON entry.blob_id = blob.id AND (entry.path = :path OR :path = '')
JOIN revision ON revision.id = entry.revision_id
JOIN source ON source.id = revision.source_id AND source.uri = :source
JOIN replica ON replica.blob_id = blob.id AND replica.store = '{LOCAL_STORE}'
WHERE digest.value = :value AND digest.algorithm = 'sha256' AND digest.origin = 'computed'
ORDER BY revision.fetched_at DESC, revision.id DESC, entry.path LIMIT 1
"""
IS_BLAKE3: Final = "SELECT 1 FROM blob WHERE blake3 = :value"
IS_COMPUTED: Final = """\
SELECT 1 FROM digest WHERE value = :value AND algorithm = :algorithm AND origin = 'computed' LIMIT 1
"""
REVISION_BY_REF: Final = """\
SELECT revision.id, revision.key, revision.listed, ref.entrypoint FROM source
JOIN ref ON ref.source_id = source.id AND ref.name = :ref
JOIN revision ON revision.id = ref.revision_id AND revision.source_id = source.id
WHERE source.uri = :source
"""
REVISION_BY_KEY: Final = """\
SELECT revision.id, revision.key, revision.listed, '' FROM source
JOIN revision ON revision.source_id = source.id AND revision.key = :revision
WHERE source.uri = :source
"""
# '0' follows '/' in ASCII: the range is what begins with the prefix and a slash.
FILES: Final = f"""\
SELECT entry.path, entry.size_bytes, blob.blake3, entry.promised_sha256, entry.promised_git_sha1,
       entry.promised_md5, entry.trust, revision.key, blob.size_bytes, replica.state,
       replica.size_bytes, replica.inode, replica.mtime_ns, replica.ctime_ns
FROM revision JOIN entry ON entry.revision_id = revision.id
LEFT JOIN blob ON blob.id = entry.blob_id
LEFT JOIN replica ON replica.blob_id = blob.id AND replica.store = '{LOCAL_STORE}'
WHERE revision.id = :id AND (:prefix = '' OR entry.path = :prefix
      OR (entry.path > :prefix || '/' AND entry.path < :prefix || '0'))
ORDER BY entry.path
"""  # noqa: S608 - a constant of ours

_abandoned: list[sqlite3.Connection] = []
"""Connections inherited through a fork. SQLite forbids a child even to close them, so they are kept."""
_readers: weakref.WeakSet[LookupReader] = weakref.WeakSet()


def _renew_readers() -> None:
    for reader in list(_readers):
        reader.renew_after_fork()


os.register_at_fork(after_in_child=_renew_readers)


class LookupReader:
    """Lookups in one catalog, cheap to make and to import. Writes nothing.

    Each call sees all that any process has committed by then, also where the catalog was replaced by a rebuilt
    one. Safe for threads, and in a forked child, which opens a connection of its own.

    It takes no lock: a server that looks up for weeks must stop neither an upgrade nor a rebuild. That is safe
    because a migration that changes what a column means also changes its name, so that a statement of ours fails
    instead of misreading; the failure is then told as what it is.

    Every method raises SchemaVersionError if a newer modelcask has changed the
    catalog beyond what this one can read, CorruptStoreError if it is damaged, and StorageError if it is of an
    older version, which only opening the :class:`~modelcask.catalog.catalog.Catalog` upgrades.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._path = layout.catalog
        self._guard = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._version: Version | None = None
        self._file = (0, 0)
        _readers.add(self)

    def has_schema(self) -> bool:
        """Say whether the catalog exists and needs no upgrade. If not, opening the Catalog sees to it."""
        return with_reserve(self._layout.reserve, self._has_schema)

    def _has_schema(self) -> bool:
        with self._guard, translated(self._path):
            version = self._renew()
            return version is not None and not version.old

    def find_file(self, source: str, *, ref: str | None, revision: str | None, path: str) -> Found | None:
        """Return what the catalog holds under a path of a revision, None if its bytes are not held.

        Args:
            source: the canonical URI of the source.
            ref: a movable name of the revision; ignored where ``revision`` is given.
            revision: the key of the revision. Without both, nothing is found.
            path: the path inside the revision; empty for the ref's entrypoint.
        """
        if revision is not None:
            rows = self._rows(FILE_BY_REVISION, {"source": source, "revision": revision, "path": path})
        else:
            rows = self._rows(FILE_BY_REF, {"source": source, "ref": ref, "path": path})
        return _found(rows[0]) if rows else None

    def find_file_by_pin(self, source: str, digest: Digest, path: str) -> Found | None:
        """Return the file of the source with these bytes, in the newest revision that has it at ``path``.

        Args:
            source: the canonical URI of the source.
            digest: the BLAKE3 or the SHA-256 of the bytes; nothing is found by another.
            path: the path inside the revision; empty for any.
        """
        statement = {"blake3": FILE_BY_BLAKE3, "sha256": FILE_BY_SHA256}.get(digest.algorithm)
        if statement is None:
            return None
        rows = self._rows(statement, {"source": source, "value": digest.value, "path": path})
        return _found(rows[0]) if rows else None

    def knows(self, digest: Digest) -> bool:
        """Say whether some blob has this digest, computed from its bytes, in whatever state and from any source."""
        if digest.algorithm == "blake3":
            return bool(self._rows(IS_BLAKE3, {"value": digest.value}))
        return bool(self._rows(IS_COMPUTED, {"value": digest.value, "algorithm": digest.algorithm}))

    def find_revision(self, source: str, *, ref: str | None, revision: str | None) -> FoundRevision | None:
        """Return the revision that a ref points to, or the one with a key; None if it is not known."""
        if revision is not None:
            rows = self._rows(REVISION_BY_KEY, {"source": source, "revision": revision})
        else:
            rows = self._rows(REVISION_BY_REF, {"source": source, "ref": ref})
        return _found_revision(rows[0]) if rows else None

    def list_files(self, revision_id: int, prefix: str = "") -> list[tuple[Entry, Found | None]]:
        """Return every known entry at or below ``prefix``, by path, each with what is held of it."""
        rows = self._rows(FILES, {"id": revision_id, "prefix": prefix})
        return [_listed(row) for row in rows]

    def close(self) -> None:
        """Close the connection. Safe to call twice; a later lookup opens it again."""
        with self._guard:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _rows(self, statement: str, values: dict[str, Any]) -> list[Any]:
        return with_reserve(self._layout.reserve, self._query, statement, values)

    def _query(self, statement: str, values: dict[str, Any]) -> list[Any]:
        with self._guard:
            try:
                version = self._renew()
                if version is not None and version.old:
                    raise StorageError(
                        f"the catalog {self._path} has the older schema {version.number}; "
                        "open it once for writing, for example by: modelcask pull"
                    )
                return [] if self._connection is None else self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                self._check_version()
                ours = translate(error, self._path)
                if ours is None:
                    raise
                raise ours from error

    def _renew(self) -> Version | None:
        """Open the file that is the catalog now, if it is not open yet; return its version, None if there is none."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - half the time of Path.stat, on each lookup
        except FileNotFoundError:
            self._close()
            return None
        file = (found.st_dev, found.st_ino)
        if self._connection is not None and file == self._file:
            return self._version
        self._close()
        with contextlib.ExitStack() as undo:
            connection = undo.enter_context(contextlib.closing(connect_reader(self._path)))
            version = read_version(connection, self._path)
            if version is not None and not version.old:
                version.check_readable()
                self._connection, self._version, self._file = connection, version, file
                undo.pop_all()
            return version

    def _check_version(self) -> None:
        """Raise SchemaVersionError if the catalog has been upgraded beyond this program since it was opened."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error, CorruptStoreError):
                version = read_version(self._connection, self._path)
                if version is not None:
                    version.check_readable()

    def renew_after_fork(self) -> None:
        """Give up what is the parent's. Called in each forked child before it runs anything else."""
        if self._connection is not None:
            _abandoned.append(self._connection)
        self._connection = None
        self._guard = threading.Lock()  # another thread of the parent's may have held it


@believing
def _found(row: Sequence[Any]) -> Found:
    revision, path, blake3, size_bytes, state, *stamp, trust = row
    return Found(
        to_text(revision),
        to_text(path),
        Digest("blake3", blake3.hex()),
        to_number(size_bytes),
        ReplicaState(state),
        to_stamp(stamp),
        TrustLevel(trust),
    )


@believing
def _listed(row: Sequence[Any]) -> tuple[Entry, Found | None]:
    path, _, blake3, _, _, _, trust, revision, size_bytes, state, *stamp = row
    found = None if state is None else _found((revision, path, blake3, size_bytes, state, *stamp, trust))
    return to_entry(row[:7]), found


@believing
def _found_revision(row: Sequence[Any]) -> FoundRevision:
    number, key, listed, entrypoint = row
    return FoundRevision(number, to_text(key), bool(listed), to_text(entrypoint))
