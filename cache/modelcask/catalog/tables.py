"""The catalog's tables, as the code knows them; ``migrations/`` makes them, and a test holds the two equal.

::

    source ──< revision ──< entry >── blob ──< replica        content is apart from where its bytes stand
       │          │                     └───< digest
       ├──< ref ──┤                           pin ──> revision, ref, blob or a pattern
       └──< ref_history                       export ──< export_entry >── blob
    attempt   event   gc_run   meta           what happened, and what the catalog says of itself

Integer keys, digests as raw bytes, times as UTC microseconds, CHECK constraints in place of native enums: the
same tables serve SQLite (STRICT, so that a value of the wrong type is refused) and PostgreSQL. There is no
reference count and no pending row: both leak when a process dies, and a join says the same and cannot be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.schema import SchemaItem

from modelcask.catalog.rows import LOCAL_STORE, Outcome, RevisionState
from modelcask.types import ReplicaState, TrustLevel

# SQLite's STRICT tables know the word INTEGER only, and only an INTEGER PRIMARY KEY is the row's own number.
INTEGER: Final = BigInteger().with_variant(Integer(), "sqlite")

_DIGEST_LENGTHS: Final = {"sha256": 32, "git-sha1": 20, "md5": 16}
_COMPUTED_SHA256: Final = "algorithm = 'sha256' AND origin = 'computed'"


def _one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    quoted = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({quoted})", name=column)


METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)
"""All tables, with names for every constraint, so that a migration can reach it."""


def _table(name: str, *parts: SchemaItem) -> Table:
    return Table(name, METADATA, *parts, sqlite_strict=True)


meta = _table(
    "meta",
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""What the catalog says of itself: ``min_reader``, ``min_writer``, and what its owner adds."""

source = _table(
    "source",
    Column("id", INTEGER, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("uri", Text, nullable=False),
    UniqueConstraint("uri"),
)
"""A place that revisions come from, by its canonical URI, which holds no secret."""

revision = _table(
    "revision",
    Column("id", INTEGER, primary_key=True),
    Column("source_id", INTEGER, ForeignKey("source.id", ondelete="RESTRICT"), nullable=False),
    Column("key", Text, nullable=False),
    Column("listed", INTEGER, nullable=False),
    Column("state", Text, nullable=False),
    Column("fetched_at", INTEGER, nullable=False),
    Column("last_used_at", INTEGER, nullable=False),
    UniqueConstraint("source_id", "key"),
    CheckConstraint("listed IN (0, 1)", name="listed"),
    _one_of("state", RevisionState),
    Index(None, "last_used_at"),
)
"""An immutable version at its source. ``listed``: its entries are all that the source has."""

ref = _table(
    "ref",
    Column("id", INTEGER, primary_key=True),
    Column("source_id", INTEGER, ForeignKey("source.id", ondelete="RESTRICT"), nullable=False),
    Column("name", Text, nullable=False),
    Column("revision_id", INTEGER, ForeignKey("revision.id", ondelete="RESTRICT"), nullable=False),
    Column("entrypoint", Text, nullable=False, server_default=text("''")),
    Column("checked_at", INTEGER, nullable=False),
    UniqueConstraint("source_id", "name"),
    Index(None, "revision_id"),
)
"""A movable name for a revision. ``entrypoint``: the path that a name such as a quantisation tag means."""

ref_history = _table(
    "ref_history",
    Column("id", INTEGER, primary_key=True),
    Column("source_id", INTEGER, ForeignKey("source.id", ondelete="RESTRICT"), nullable=False),
    Column("name", Text, nullable=False),
    Column("revision_id", INTEGER, ForeignKey("revision.id", ondelete="CASCADE"), nullable=False),
    Column("at", INTEGER, nullable=False),
    Index(None, "source_id", "name", "at"),
    Index(None, "revision_id"),
)
"""One move of a ref: since ``at`` it has pointed to this revision."""

blob = _table(
    "blob",
    Column("id", INTEGER, primary_key=True),
    Column("blake3", LargeBinary, nullable=False),
    Column("size_bytes", INTEGER, nullable=False),
    Column("created_at", INTEGER, nullable=False),
    Column("last_used_at", INTEGER, nullable=False),
    UniqueConstraint("blake3"),
    CheckConstraint("length(blake3) = 32", name="blake3"),
    CheckConstraint("size_bytes >= 0", name="size_bytes"),
    Index(None, "last_used_at"),
)
"""Immutable bytes. Where they stand is in :class:`Replica`."""

digest = _table(
    "digest",
    Column("blob_id", INTEGER, ForeignKey("blob.id", ondelete="CASCADE"), nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("origin", Text, nullable=False),
    PrimaryKeyConstraint("blob_id", "algorithm", "origin"),
    _one_of("algorithm", _DIGEST_LENGTHS),
    _one_of("origin", ("computed", "claimed")),
    CheckConstraint(
        "length(value) = CASE algorithm "
        + " ".join(f"WHEN '{name}' THEN {length}" for name, length in _DIGEST_LENGTHS.items())
        + " END",
        name="value",
    ),
    Index(None, "algorithm", "value"),
    Index(
        "uq_digest_computed_sha256",
        "value",
        unique=True,
        sqlite_where=text(_COMPUTED_SHA256),
        postgresql_where=text(_COMPUTED_SHA256),
    ),
)
"""One more name of a blob. Only a ``computed`` one deduplicates: a claimed one is a promise to check."""

entry = _table(
    "entry",
    Column("id", INTEGER, primary_key=True),
    Column("revision_id", INTEGER, ForeignKey("revision.id", ondelete="CASCADE"), nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", INTEGER),
    Column("blob_id", INTEGER, ForeignKey("blob.id", ondelete="RESTRICT")),
    Column("promised_sha256", LargeBinary),
    Column("promised_git_sha1", LargeBinary),
    Column("promised_md5", LargeBinary),
    Column("trust", Text),
    UniqueConstraint("revision_id", "path"),
    CheckConstraint("path <> ''", name="path"),
    CheckConstraint("size_bytes >= 0", name="size_bytes"),
    *(
        CheckConstraint(f"length(promised_{name}) = {length}", name=f"promised_{name}")
        for name, length in (("sha256", 32), ("git_sha1", 20), ("md5", 16))
    ),
    _one_of("trust", TrustLevel),
    CheckConstraint("(blob_id IS NULL) = (trust IS NULL)", name="held"),
    Index(None, "blob_id"),
)
"""One path of a revision. Without ``blob_id`` the path is known at the source and its bytes are not held."""

replica = _table(
    "replica",
    Column("id", INTEGER, primary_key=True),
    Column("blob_id", INTEGER, ForeignKey("blob.id", ondelete="RESTRICT"), nullable=False),
    Column("store", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("generation", INTEGER, nullable=False),
    Column("state", Text, nullable=False),
    Column("inode", INTEGER),
    Column("mtime_ns", INTEGER),
    Column("ctime_ns", INTEGER),
    Column("size_bytes", INTEGER, nullable=False),
    Column("verified_at", INTEGER),
    Column("trashed_at", INTEGER),
    UniqueConstraint("blob_id", "store"),
    UniqueConstraint("store", "key"),
    _one_of("state", ReplicaState),
    CheckConstraint("size_bytes >= 0", name="size_bytes"),
    CheckConstraint(
        f"store <> '{LOCAL_STORE}' OR (inode IS NOT NULL AND mtime_ns IS NOT NULL AND ctime_ns IS NOT NULL)",
        name="stamp",
    ),
    CheckConstraint("(state = 'trash') = (trashed_at IS NOT NULL)", name="trashed_at"),
    Index(None, "store", "state"),
    Index(None, "verified_at"),
)
"""The bytes of a blob in one store, and what ``stat`` said when they were last proved.

``inode`` is kept as a signed number (:func:`modelcask.catalog.rows.to_signed`).
"""

pin = _table(
    "pin",
    Column("id", INTEGER, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("revision_id", INTEGER, ForeignKey("revision.id", ondelete="RESTRICT")),
    Column("ref_id", INTEGER, ForeignKey("ref.id", ondelete="RESTRICT")),
    Column("blob_id", INTEGER, ForeignKey("blob.id", ondelete="RESTRICT")),
    Column("pattern", Text),
    Column("path", Text, nullable=False, server_default=text("''")),
    Column("owner", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=text("''")),
    Column("created_at", INTEGER, nullable=False),
    Column("expires_at", INTEGER),
    _one_of("kind", ("revision", "ref", "blob", "pattern")),
    CheckConstraint(
        "(kind = 'revision') = (revision_id IS NOT NULL) AND (kind = 'ref') = (ref_id IS NOT NULL) "
        "AND (kind = 'blob') = (blob_id IS NOT NULL) AND (kind = 'pattern') = (pattern IS NOT NULL)",
        name="target",
    ),
    Index(None, "revision_id"),
    Index(None, "ref_id"),
    Index(None, "blob_id"),
)
"""Lasting protection set by a person, on the one target that ``kind`` says.

The targets are real foreign keys that restrict: what is pinned cannot be deleted by mistake, and a pin
cannot come to mean another row that was given the number of a deleted one.
"""

export = _table(
    "export",
    Column("id", INTEGER, primary_key=True),
    Column("path", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("revision_id", INTEGER, ForeignKey("revision.id", ondelete="RESTRICT"), nullable=False),
    Column("created_at", INTEGER, nullable=False),
    Column("checked_at", INTEGER, nullable=False),
    UniqueConstraint("path"),
    _one_of("mode", ("reflink", "hardlink", "symlink", "copy")),
    Index(None, "revision_id"),
)
"""A copy or a set of links that was made for another tool; while its path exists it is a root."""

export_entry = _table(
    "export_entry",
    Column("export_id", INTEGER, ForeignKey("export.id", ondelete="CASCADE"), nullable=False),
    Column("path", Text, nullable=False),
    Column("blob_id", INTEGER, ForeignKey("blob.id", ondelete="RESTRICT"), nullable=False),
    PrimaryKeyConstraint("export_id", "path"),
    Index(None, "blob_id"),
)
"""One file of an export, so that a healed blob can be put in place of a damaged one there too."""

attempt = _table(
    "attempt",
    Column("id", INTEGER, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("started_at", INTEGER, nullable=False),
    Column("finished_at", INTEGER),
    Column("outcome", Text),
    Column("bytes_fetched", INTEGER, nullable=False, server_default=text("0")),
    Column("bytes_reused", INTEGER, nullable=False, server_default=text("0")),
    Column("error_class", Text),
    _one_of("outcome", Outcome),
    CheckConstraint("(finished_at IS NULL) = (outcome IS NULL)", name="finished"),
    CheckConstraint("bytes_fetched >= 0 AND bytes_reused >= 0", name="bytes"),
    Index(None, "started_at"),
    Index(None, "uri", "started_at"),
    Index(
        "ix_attempt_open",
        "session",
        sqlite_where=text("outcome IS NULL"),
        postgresql_where=text("outcome IS NULL"),
    ),
)
"""One try to fetch one file. Unfinished and its ``session`` dead: it was interrupted."""

event = _table(
    "event",
    Column("id", INTEGER, primary_key=True),
    Column("at", INTEGER, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default=text("'{}'")),
    Index(None, "at"),
)
"""Something worth telling later, appended and trimmed by age; ``detail`` is JSON."""

gc_run = _table(
    "gc_run",
    Column("id", INTEGER, primary_key=True),
    Column("started_at", INTEGER, nullable=False),
    Column("finished_at", INTEGER),
    Column("outcome", Text),
    Column("policy", Text, nullable=False),
    Column("blobs_condemned", INTEGER, nullable=False, server_default=text("0")),
    Column("blobs_rescued", INTEGER, nullable=False, server_default=text("0")),
    Column("blobs_trashed", INTEGER, nullable=False, server_default=text("0")),
    Column("blobs_purged", INTEGER, nullable=False, server_default=text("0")),
    Column("bytes_freed", INTEGER, nullable=False, server_default=text("0")),
    Column("error_class", Text),
    _one_of("outcome", ("done", "failed", "interrupted")),
    CheckConstraint("(finished_at IS NULL) = (outcome IS NULL)", name="finished"),
    Index(None, "started_at"),
)
"""One collection; ``policy`` is JSON."""
