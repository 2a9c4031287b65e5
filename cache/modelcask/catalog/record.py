"""Recording what was fetched: blobs first, then the revision that names them.

Each function runs inside a transaction of its caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, insert, select, update

from modelcask.catalog import tables as t
from modelcask.catalog.engine import batches, upsert
from modelcask.catalog.rows import LOCAL_STORE, RevisionState, to_signed
from modelcask.digest import Digest
from modelcask.errors import StorageError
from modelcask.types import Entry, ReplicaState, StatStamp, TrustLevel

UPDATE_REPLICA: Final = update(t.replica).where(
    t.replica.c.store == LOCAL_STORE,
    t.replica.c.blob_id == select(t.blob.c.id).where(t.blob.c.blake3 == bindparam("blob")).scalar_subquery(),
)
"""Sets the columns it is given parameters for, in the local replica of ``blob`` (its BLAKE3)."""

_STRENGTH: Final = {level.value: rank for rank, level in enumerate(TrustLevel)}


@dataclass(frozen=True, slots=True)
class NewBlob:
    """A blob that stands complete and synced under its name."""

    digest: Digest
    size_bytes: int
    digests: tuple[Digest, ...]
    """What was computed from its bytes; the BLAKE3 may be among them."""
    stamp: StatStamp


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """What one pull learned of a revision."""

    source: str
    """The canonical URI of the source."""
    kind: str
    """Its scheme."""
    key: str
    listed: bool
    """Whether ``entries`` are all files that the source has."""
    refs: Mapping[str, str]
    """The names that point to it now, each with its entrypoint or an empty string."""
    entries: tuple[Entry, ...]


def record_blobs(connection: Connection, blobs: Sequence[NewBlob], now: int) -> None:
    """Record blobs as present and proved at ``now``, with every digest computed from them."""
    for batch in batches(blobs):
        connection.execute(
            upsert(connection, t.blob).on_conflict_do_nothing(index_elements=["blake3"]),
            [
                {"blake3": blob.digest.value, "size_bytes": blob.size_bytes, "created_at": now, "last_used_at": now}
                for blob in batch
            ],
        )
        numbers = blob_numbers(connection, [blob.digest for blob in batch])
        digests = [
            {
                "blob_id": numbers[blob.digest],
                "algorithm": digest.algorithm,
                "value": digest.value,
                "origin": "computed",
            }
            for blob in batch
            for digest in blob.digests
            if digest.algorithm != "blake3"
        ]
        if digests:
            # Only the key may be there already: the same SHA-256 for two blobs is a contradiction, and an error.
            key = ["blob_id", "algorithm", "origin"]
            connection.execute(upsert(connection, t.digest).on_conflict_do_nothing(index_elements=key), digests)
        statement = upsert(connection, t.replica)
        fresh = ("state", "inode", "mtime_ns", "ctime_ns", "size_bytes", "verified_at", "trashed_at")
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["blob_id", "store"], set_={name: statement.excluded[name] for name in fresh}
            ),
            [
                {
                    "blob_id": numbers[blob.digest],
                    "store": LOCAL_STORE,
                    "key": blob.digest.hex,
                    "generation": 0,
                    "state": ReplicaState.PRESENT.value,
                    "verified_at": now,
                    "trashed_at": None,
                    **stamp_columns(blob.stamp),
                }
                for blob in batch
            ],
        )


def record_revision(connection: Connection, record: RevisionRecord, now: int) -> int:
    """Record a revision, its entries and the refs that point to it; return its number.

    Raises:
        StorageError: an entry names a blob that is not recorded.
    """
    connection.execute(
        upsert(connection, t.source).on_conflict_do_nothing(index_elements=["uri"]),
        {"kind": record.kind, "uri": record.source},
    )
    source = connection.execute(select(t.source.c.id).where(t.source.c.uri == record.source)).scalar_one()
    statement = upsert(connection, t.revision)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["source_id", "key"],
            set_={
                "listed": case((statement.excluded.listed == 1, 1), else_=t.revision.c.listed),
                "state": case(
                    (t.revision.c.state == RevisionState.EVICTED.value, RevisionState.LIVE.value),
                    else_=t.revision.c.state,
                ),
                "last_used_at": statement.excluded.last_used_at,
            },
        ),
        {
            "source_id": source,
            "key": record.key,
            "listed": int(record.listed),
            "state": RevisionState.LIVE.value,
            "fetched_at": now,
            "last_used_at": now,
        },
    )
    here = and_(t.revision.c.source_id == source, t.revision.c.key == record.key)
    revision: int = connection.execute(select(t.revision.c.id).where(here)).scalar_one()
    for batch in batches(record.entries):
        _record_entries(connection, revision, batch)
    for name, entrypoint in record.refs.items():
        _move_ref(connection, source, name, revision=revision, entrypoint=entrypoint, now=now)
    return revision


def _record_entries(connection: Connection, revision: int, entries: Sequence[Entry]) -> None:
    numbers = blob_numbers(connection, [entry.blob for entry in entries if entry.blob is not None])
    for entry in entries:
        if entry.blob is not None and entry.blob not in numbers:
            raise StorageError(f"the blob {entry.blob} of {entry.path!r} was collected meanwhile; pull again")
    statement = upsert(connection, t.entry)
    new = statement.excluded
    joined: dict[str, ColumnElement[Any]] = {
        name: func.coalesce(new[name], t.entry.c[name])
        for name in ("size_bytes", "blob_id", "promised_sha256", "promised_git_sha1", "promised_md5")
    }
    # Bytes that were proved once stay proved: a later pull without the pin does not weaken it.
    weaker = and_(
        new.blob_id == t.entry.c.blob_id, case(_STRENGTH, value=new.trust) > case(_STRENGTH, value=t.entry.c.trust)
    )
    joined["trust"] = case((weaker, t.entry.c.trust), else_=func.coalesce(new.trust, t.entry.c.trust))
    connection.execute(
        statement.on_conflict_do_update(index_elements=["revision_id", "path"], set_=joined),
        [
            {
                "revision_id": revision,
                "path": entry.path,
                "size_bytes": entry.size_bytes,
                "blob_id": None if entry.blob is None else numbers[entry.blob],
                "trust": None if entry.trust is None else entry.trust.value,
                "promised_sha256": _promised(entry, "sha256"),
                "promised_git_sha1": _promised(entry, "git-sha1"),
                "promised_md5": _promised(entry, "md5"),
            }
            for entry in entries
        ],
    )


def _move_ref(connection: Connection, source: int, name: str, *, revision: int, entrypoint: str, now: int) -> None:
    here = and_(t.ref.c.source_id == source, t.ref.c.name == name)
    before = connection.execute(select(t.ref.c.revision_id).where(here)).scalar_one_or_none()
    target = {"revision_id": revision, "entrypoint": entrypoint, "checked_at": now}
    statement = upsert(connection, t.ref).on_conflict_do_update(index_elements=["source_id", "name"], set_=target)
    connection.execute(statement, {"source_id": source, "name": name, **target})
    if before != revision:
        connection.execute(
            insert(t.ref_history), {"source_id": source, "name": name, "revision_id": revision, "at": now}
        )


def _promised(entry: Entry, algorithm: str) -> bytes | None:
    return next((digest.value for digest in entry.promised if digest.algorithm == algorithm), None)


def blob_numbers(connection: Connection, digests: Sequence[Digest]) -> dict[Digest, int]:
    """Return the numbers of those of at most one batch of blobs that are recorded."""
    statement = select(t.blob.c.blake3, t.blob.c.id).where(t.blob.c.blake3.in_({digest.value for digest in digests}))
    return {Digest("blake3", blake3.hex()): number for blake3, number in connection.execute(statement)}


def stamp_columns(stamp: StatStamp) -> dict[str, int]:
    """Return the columns of a replica that hold its stamp."""
    return {
        "size_bytes": stamp.size_bytes,
        "inode": to_signed(stamp.inode),
        "mtime_ns": stamp.mtime_ns,
        "ctime_ns": stamp.ctime_ns,
    }
