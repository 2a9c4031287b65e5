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
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from modelcask.catalog.rows import LOCAL_STORE, Outcome, RevisionState
from modelcask.types import ReplicaState, TrustLevel

# SQLite's STRICT tables know the word INTEGER only, and only an INTEGER PRIMARY KEY is the row's own number.
INTEGER: Final = BigInteger().with_variant(Integer(), "sqlite")

_STRICT: Final = {"sqlite_strict": True}
_DIGEST_LENGTHS: Final = {"sha256": 32, "git-sha1": 20, "md5": 16}
_COMPUTED_SHA256: Final = "algorithm = 'sha256' AND origin = 'computed'"


def _one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    quoted = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({quoted})", name=column)


class Base(DeclarativeBase):
    """What the tables share: their types, and names for every constraint so that a migration can reach it."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map = {int: INTEGER, str: Text(), bytes: LargeBinary()}  # noqa: RUF012 - SQLAlchemy's own idiom


class Meta(Base):
    """What the catalog says of itself: ``min_reader``, ``min_writer``, and what its owner adds."""

    __tablename__ = "meta"
    __table_args__ = (_STRICT,)

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Source(Base):
    """A place that revisions come from, by its canonical URI, which holds no secret."""

    __tablename__ = "source"
    __table_args__ = (UniqueConstraint("uri"), _STRICT)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    uri: Mapped[str]


class Revision(Base):
    """An immutable version at its source. ``listed``: its entries are all that the source has."""

    __tablename__ = "revision"
    __table_args__ = (
        UniqueConstraint("source_id", "key"),
        CheckConstraint("listed IN (0, 1)", name="listed"),
        _one_of("state", RevisionState),
        Index(None, "last_used_at"),
        _STRICT,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id", ondelete="RESTRICT"))
    key: Mapped[str]
    listed: Mapped[int]
    state: Mapped[str]
    fetched_at: Mapped[int]
    last_used_at: Mapped[int]


class Ref(Base):
    """A movable name for a revision. ``entrypoint``: the path that a name such as a quantisation tag means."""

    __tablename__ = "ref"
    __table_args__ = (UniqueConstraint("source_id", "name"), Index(None, "revision_id"), _STRICT)

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id", ondelete="RESTRICT"))
    name: Mapped[str]
    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id", ondelete="RESTRICT"))
    entrypoint: Mapped[str] = mapped_column(server_default=text("''"))
    checked_at: Mapped[int]


class RefHistory(Base):
    """One move of a ref: since ``at`` it has pointed to this revision."""

    __tablename__ = "ref_history"
    __table_args__ = (Index(None, "source_id", "name", "at"), Index(None, "revision_id"), _STRICT)

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id", ondelete="RESTRICT"))
    name: Mapped[str]
    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id", ondelete="CASCADE"))
    at: Mapped[int]


class Blob(Base):
    """Immutable bytes. Where they stand is in :class:`Replica`."""

    __tablename__ = "blob"
    __table_args__ = (
        UniqueConstraint("blake3"),
        CheckConstraint("length(blake3) = 32", name="blake3"),
        CheckConstraint("size_bytes >= 0", name="size_bytes"),
        Index(None, "last_used_at"),
        _STRICT,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    blake3: Mapped[bytes]
    size_bytes: Mapped[int]
    created_at: Mapped[int]
    last_used_at: Mapped[int]


class Digest(Base):
    """One more name of a blob. Only a ``computed`` one deduplicates: a claimed one is a promise to check."""

    __tablename__ = "digest"
    __table_args__ = (
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
        _STRICT,
    )

    blob_id: Mapped[int] = mapped_column(ForeignKey("blob.id", ondelete="CASCADE"))
    algorithm: Mapped[str]
    value: Mapped[bytes]
    origin: Mapped[str]


class Entry(Base):
    """One path of a revision. Without ``blob_id`` the path is known at the source and its bytes are not held."""

    __tablename__ = "entry"
    __table_args__ = (
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
        _STRICT,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id", ondelete="CASCADE"))
    path: Mapped[str]
    size_bytes: Mapped[int | None]
    blob_id: Mapped[int | None] = mapped_column(ForeignKey("blob.id", ondelete="RESTRICT"))
    promised_sha256: Mapped[bytes | None]
    promised_git_sha1: Mapped[bytes | None]
    promised_md5: Mapped[bytes | None]
    trust: Mapped[str | None]


class Replica(Base):
    """The bytes of a blob in one store, and what ``stat`` said when they were last proved.

    ``inode`` is kept as a signed number (:func:`modelcask.catalog.rows.to_signed`).
    """

    __tablename__ = "replica"
    __table_args__ = (
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
        _STRICT,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    blob_id: Mapped[int] = mapped_column(ForeignKey("blob.id", ondelete="RESTRICT"))
    store: Mapped[str]
    key: Mapped[str]
    generation: Mapped[int]
    state: Mapped[str]
    inode: Mapped[int | None]
    mtime_ns: Mapped[int | None]
    ctime_ns: Mapped[int | None]
    size_bytes: Mapped[int]
    verified_at: Mapped[int | None]
    trashed_at: Mapped[int | None]


class Pin(Base):
    """Lasting protection set by a person, on the one target that ``kind`` says.

    The targets are real foreign keys that restrict: what is pinned cannot be deleted by mistake, and a pin
    cannot come to mean another row that was given the number of a deleted one.
    """

    __tablename__ = "pin"
    __table_args__ = (
        _one_of("kind", ("revision", "ref", "blob", "pattern")),
        CheckConstraint(
            "(kind = 'revision') = (revision_id IS NOT NULL) AND (kind = 'ref') = (ref_id IS NOT NULL) "
            "AND (kind = 'blob') = (blob_id IS NOT NULL) AND (kind = 'pattern') = (pattern IS NOT NULL)",
            name="target",
        ),
        Index(None, "revision_id"),
        Index(None, "ref_id"),
        Index(None, "blob_id"),
        _STRICT,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    revision_id: Mapped[int | None] = mapped_column(ForeignKey("revision.id", ondelete="RESTRICT"))
    ref_id: Mapped[int | None] = mapped_column(ForeignKey("ref.id", ondelete="RESTRICT"))
    blob_id: Mapped[int | None] = mapped_column(ForeignKey("blob.id", ondelete="RESTRICT"))
    pattern: Mapped[str | None]
    path: Mapped[str] = mapped_column(server_default=text("''"))
    owner: Mapped[str]
    reason: Mapped[str] = mapped_column(server_default=text("''"))
    created_at: Mapped[int]
    expires_at: Mapped[int | None]


class Export(Base):
    """A copy or a set of links that was made for another tool; while its path exists it is a root."""

    __tablename__ = "export"
    __table_args__ = (
        UniqueConstraint("path"),
        _one_of("mode", ("reflink", "hardlink", "symlink", "copy")),
        Index(None, "revision_id"),
        _STRICT,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]
    tool: Mapped[str]
    mode: Mapped[str]
    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id", ondelete="RESTRICT"))
    created_at: Mapped[int]
    checked_at: Mapped[int]


class ExportEntry(Base):
    """One file of an export, so that a healed blob can be put in place of a damaged one there too."""

    __tablename__ = "export_entry"
    __table_args__ = (PrimaryKeyConstraint("export_id", "path"), Index(None, "blob_id"), _STRICT)

    export_id: Mapped[int] = mapped_column(ForeignKey("export.id", ondelete="CASCADE"))
    path: Mapped[str]
    blob_id: Mapped[int] = mapped_column(ForeignKey("blob.id", ondelete="RESTRICT"))


class Attempt(Base):
    """One try to fetch one file. Unfinished and its ``session`` dead: it was interrupted."""

    __tablename__ = "attempt"
    __table_args__ = (
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
        _STRICT,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str]
    session: Mapped[str]
    uri: Mapped[str]
    source: Mapped[str]
    path: Mapped[str]
    started_at: Mapped[int]
    finished_at: Mapped[int | None]
    outcome: Mapped[str | None]
    bytes_fetched: Mapped[int] = mapped_column(server_default=text("0"))
    bytes_reused: Mapped[int] = mapped_column(server_default=text("0"))
    error_class: Mapped[str | None]


class Event(Base):
    """Something worth telling later, appended and trimmed by age; ``detail`` is JSON."""

    __tablename__ = "event"
    __table_args__ = (Index(None, "at"), _STRICT)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[int]
    kind: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[str] = mapped_column(server_default=text("'{}'"))


class GCRun(Base):
    """One collection; ``policy`` is JSON."""

    __tablename__ = "gc_run"
    __table_args__ = (
        _one_of("outcome", ("done", "failed", "interrupted")),
        CheckConstraint("(finished_at IS NULL) = (outcome IS NULL)", name="finished"),
        Index(None, "started_at"),
        _STRICT,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[int]
    finished_at: Mapped[int | None]
    outcome: Mapped[str | None]
    policy: Mapped[str]
    blobs_condemned: Mapped[int] = mapped_column(server_default=text("0"))
    blobs_rescued: Mapped[int] = mapped_column(server_default=text("0"))
    blobs_trashed: Mapped[int] = mapped_column(server_default=text("0"))
    blobs_purged: Mapped[int] = mapped_column(server_default=text("0"))
    bytes_freed: Mapped[int] = mapped_column(server_default=text("0"))
    error_class: Mapped[str | None]
