"""The first schema: every table of the catalog.

Frozen: it says what was made then, whatever the tables in the code have become. All tables are STRICT on SQLite,
keys and times are 64-bit integers, digests raw bytes, and every constraint has a name that a later migration can
reach on any database.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# STRICT tables know the word INTEGER only, and only an INTEGER PRIMARY KEY is the row's own number.
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text()
BYTES = sa.LargeBinary()


def upgrade() -> None:
    _sources()
    _blobs()
    _entries()
    _roots()
    _history()


def downgrade() -> None:
    raise NotImplementedError("there is no way back: restore the copy in backups/")


def _sources() -> None:
    meta = _table("meta", _text("key"), _text("value"), _primary_key("meta", "key"))
    # The oldest program that may read, and that may write, a catalog of this schema.
    op.bulk_insert(meta, [{"key": "min_reader", "value": "0001"}, {"key": "min_writer", "value": "0001"}])
    _table(
        "source",
        _integer("id"),
        _text("kind"),
        _text("uri"),
        _primary_key("source", "id"),
        _unique("source", "uri"),
    )
    _table(
        "revision",
        _integer("id"),
        _integer("source_id"),
        _text("key"),
        _integer("listed"),
        _text("state"),
        _integer("fetched_at"),
        _integer("last_used_at"),
        _primary_key("revision", "id"),
        _unique("revision", "source_id", "key"),
        _check("revision", "listed", "listed IN (0, 1)"),
        _check("revision", "state", "state IN ('live', 'degraded', 'evicted')"),
        _foreign_key("revision", "source_id", "source", "RESTRICT"),
    )
    _index("revision", "last_used_at")
    _table(
        "ref",
        _integer("id"),
        _integer("source_id"),
        _text("name"),
        _integer("revision_id"),
        _text("entrypoint", default="''"),
        _integer("checked_at"),
        _primary_key("ref", "id"),
        _unique("ref", "source_id", "name"),
        _foreign_key("ref", "source_id", "source", "RESTRICT"),
        _foreign_key("ref", "revision_id", "revision", "RESTRICT"),
    )
    _index("ref", "revision_id")
    _table(
        "ref_history",
        _integer("id"),
        _integer("source_id"),
        _text("name"),
        _integer("revision_id"),
        _integer("at"),
        _primary_key("ref_history", "id"),
        _foreign_key("ref_history", "source_id", "source", "RESTRICT"),
        _foreign_key("ref_history", "revision_id", "revision", "CASCADE"),
    )
    _index("ref_history", "source_id", "name", "at")
    _index("ref_history", "revision_id")


def _blobs() -> None:
    _table(
        "blob",
        _integer("id"),
        _bytes("blake3"),
        _integer("size_bytes"),
        _integer("created_at"),
        _integer("last_used_at"),
        _primary_key("blob", "id"),
        _unique("blob", "blake3"),
        _check("blob", "blake3", "length(blake3) = 32"),
        _check("blob", "size_bytes", "size_bytes >= 0"),
    )
    _index("blob", "last_used_at")
    _table(
        "digest",
        _integer("blob_id"),
        _text("algorithm"),
        _bytes("value"),
        _text("origin"),
        _primary_key("digest", "blob_id", "algorithm", "origin"),
        _check("digest", "algorithm", "algorithm IN ('sha256', 'git-sha1', 'md5')"),
        _check("digest", "origin", "origin IN ('computed', 'claimed')"),
        _check(
            "digest",
            "value",
            "length(value) = CASE algorithm WHEN 'sha256' THEN 32 WHEN 'git-sha1' THEN 20 WHEN 'md5' THEN 16 END",
        ),
        _foreign_key("digest", "blob_id", "blob", "CASCADE"),
    )
    _index("digest", "algorithm", "value")
    computed = sa.text("algorithm = 'sha256' AND origin = 'computed'")
    op.create_index(
        "uq_digest_computed_sha256",
        "digest",
        ["value"],
        unique=True,
        sqlite_where=computed,
        postgresql_where=computed,
    )
    _table(
        "replica",
        _integer("id"),
        _integer("blob_id"),
        _text("store"),
        _text("key"),
        _integer("generation"),
        _text("state"),
        _integer("inode", nullable=True),
        _integer("mtime_ns", nullable=True),
        _integer("ctime_ns", nullable=True),
        _integer("size_bytes"),
        _integer("verified_at", nullable=True),
        _integer("trashed_at", nullable=True),
        _primary_key("replica", "id"),
        _unique("replica", "blob_id", "store"),
        _unique("replica", "store", "key"),
        _check("replica", "state", "state IN ('present', 'condemned', 'trash', 'missing', 'quarantined')"),
        _check("replica", "size_bytes", "size_bytes >= 0"),
        _check(
            "replica",
            "stamp",
            "store <> 'local' OR (inode IS NOT NULL AND mtime_ns IS NOT NULL AND ctime_ns IS NOT NULL)",
        ),
        _check("replica", "trashed_at", "(state = 'trash') = (trashed_at IS NOT NULL)"),
        _foreign_key("replica", "blob_id", "blob", "RESTRICT"),
    )
    _index("replica", "store", "state")
    _index("replica", "verified_at")


def _entries() -> None:
    _table(
        "entry",
        _integer("id"),
        _integer("revision_id"),
        _text("path"),
        _integer("size_bytes", nullable=True),
        _integer("blob_id", nullable=True),
        _bytes("promised_sha256", nullable=True),
        _bytes("promised_git_sha1", nullable=True),
        _bytes("promised_md5", nullable=True),
        _text("trust", nullable=True),
        _primary_key("entry", "id"),
        _unique("entry", "revision_id", "path"),
        _check("entry", "path", "path <> ''"),
        _check("entry", "size_bytes", "size_bytes >= 0"),
        _check("entry", "promised_sha256", "length(promised_sha256) = 32"),
        _check("entry", "promised_git_sha1", "length(promised_git_sha1) = 20"),
        _check("entry", "promised_md5", "length(promised_md5) = 16"),
        _check("entry", "trust", "trust IN ('pinned', 'upstream-sha256', 'git-sha1', 'first-use')"),
        _check("entry", "held", "(blob_id IS NULL) = (trust IS NULL)"),
        _foreign_key("entry", "revision_id", "revision", "CASCADE"),
        _foreign_key("entry", "blob_id", "blob", "RESTRICT"),
    )
    _index("entry", "blob_id")


def _roots() -> None:
    _table(
        "pin",
        _integer("id"),
        _text("kind"),
        _integer("revision_id", nullable=True),
        _integer("ref_id", nullable=True),
        _integer("blob_id", nullable=True),
        _text("pattern", nullable=True),
        _text("path", default="''"),
        _text("owner"),
        _text("reason", default="''"),
        _integer("created_at"),
        _integer("expires_at", nullable=True),
        _primary_key("pin", "id"),
        _check("pin", "kind", "kind IN ('revision', 'ref', 'blob', 'pattern')"),
        _check(
            "pin",
            "target",
            "(kind = 'revision') = (revision_id IS NOT NULL) AND (kind = 'ref') = (ref_id IS NOT NULL) "
            "AND (kind = 'blob') = (blob_id IS NOT NULL) AND (kind = 'pattern') = (pattern IS NOT NULL)",
        ),
        _foreign_key("pin", "revision_id", "revision", "RESTRICT"),
        _foreign_key("pin", "ref_id", "ref", "RESTRICT"),
        _foreign_key("pin", "blob_id", "blob", "RESTRICT"),
    )
    _index("pin", "revision_id")
    _index("pin", "ref_id")
    _index("pin", "blob_id")
    _table(
        "export",
        _integer("id"),
        _text("path"),
        _text("tool"),
        _text("mode"),
        _integer("revision_id"),
        _integer("created_at"),
        _integer("checked_at"),
        _primary_key("export", "id"),
        _unique("export", "path"),
        _check("export", "mode", "mode IN ('reflink', 'hardlink', 'symlink', 'copy')"),
        _foreign_key("export", "revision_id", "revision", "RESTRICT"),
    )
    _index("export", "revision_id")
    _table(
        "export_entry",
        _integer("export_id"),
        _text("path"),
        _integer("blob_id"),
        _primary_key("export_entry", "export_id", "path"),
        _foreign_key("export_entry", "export_id", "export", "CASCADE"),
        _foreign_key("export_entry", "blob_id", "blob", "RESTRICT"),
    )
    _index("export_entry", "blob_id")


def _history() -> None:
    _table(
        "attempt",
        _integer("id"),
        _text("request_id"),
        _text("session"),
        _text("uri"),
        _text("source"),
        _text("path"),
        _integer("started_at"),
        _integer("finished_at", nullable=True),
        _text("outcome", nullable=True),
        _integer("bytes_fetched", default="0"),
        _integer("bytes_reused", default="0"),
        _text("error_class", nullable=True),
        _primary_key("attempt", "id"),
        _check("attempt", "outcome", "outcome IN ('done', 'failed', 'cancelled', 'interrupted')"),
        _check("attempt", "finished", "(finished_at IS NULL) = (outcome IS NULL)"),
        _check("attempt", "bytes", "bytes_fetched >= 0 AND bytes_reused >= 0"),
    )
    _index("attempt", "started_at")
    _index("attempt", "uri", "started_at")
    unfinished = sa.text("outcome IS NULL")
    op.create_index("ix_attempt_open", "attempt", ["session"], sqlite_where=unfinished, postgresql_where=unfinished)
    _table(
        "event",
        _integer("id"),
        _integer("at"),
        _text("kind"),
        _text("subject"),
        _text("detail", default="'{}'"),
        _primary_key("event", "id"),
    )
    _index("event", "at")
    _table(
        "gc_run",
        _integer("id"),
        _integer("started_at"),
        _integer("finished_at", nullable=True),
        _text("outcome", nullable=True),
        _text("policy"),
        _integer("blobs_condemned", default="0"),
        _integer("blobs_rescued", default="0"),
        _integer("blobs_trashed", default="0"),
        _integer("blobs_purged", default="0"),
        _integer("bytes_freed", default="0"),
        _text("error_class", nullable=True),
        _primary_key("gc_run", "id"),
        _check("gc_run", "outcome", "outcome IN ('done', 'failed', 'interrupted')"),
        _check("gc_run", "finished", "(finished_at IS NULL) = (outcome IS NULL)"),
    )
    _index("gc_run", "started_at")


def _table(name: str, *parts: sa.Column[int] | sa.Column[str] | sa.Column[bytes] | sa.Constraint) -> sa.Table:
    return op.create_table(name, *parts, sqlite_strict=True)


def _integer(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, INTEGER, nullable=nullable, server_default=None if default is None else sa.text(default))


def _text(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=nullable, server_default=None if default is None else sa.text(default))


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, BYTES, nullable=nullable)


def _primary_key(table: str, *columns: str) -> sa.Constraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _unique(table: str, *columns: str) -> sa.Constraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}_{'_'.join(columns)}")


def _check(table: str, name: str, condition: str) -> sa.Constraint:
    return sa.CheckConstraint(condition, name=f"ck_{table}_{name}")


def _foreign_key(table: str, column: str, target: str, ondelete: str) -> sa.Constraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}", ondelete=ondelete)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
