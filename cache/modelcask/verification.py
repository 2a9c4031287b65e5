"""Verifying: hash what is held again and say what is damaged. Damaged bytes are moved aside, never deleted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from modelcask import locks
from modelcask.catalog.catalog import Catalog
from modelcask.catalog.rows import BlobRow
from modelcask.digest import Digest
from modelcask.errors import StorageError, StoreFullError
from modelcask.layout import Layout
from modelcask.store import blobs
from modelcask.types import ReplicaState

_log = logging.getLogger("modelcask.store")


class Verdict(StrEnum):
    """What verifying one blob found."""

    OK = "ok"
    DAMAGED = "damaged"
    """The bytes are wrong; the file is in quarantine now, or was already."""
    MISSING = "missing"
    UNREADABLE = "unreadable"
    """The disk gave an error. That says nothing of the bytes: nothing was changed."""


@dataclass(frozen=True, slots=True)
class Verified:
    """One blob that was looked at."""

    digest: Digest
    size_bytes: int
    verdict: Verdict
    uses: tuple[tuple[str, str, str], ...]
    """Where the blob is needed: source, revision, path."""


def verify(
    layout: Layout, catalog: Catalog, only: Iterable[Digest] | None, started: Callable[[Digest, int], None] | None
) -> Iterator[Verified]:
    """Hash blobs again, those longest unproved first, and yield each verdict as it is reached.

    Args:
        layout: the root.
        catalog: its catalog.
        only: the blobs to look at; None for all that the catalog knows.
        started: called with each blob and its size before it is read.
    """
    wanted = None if only is None else set(only)
    for row in catalog.iter_blobs():
        if wanted is not None and row.digest not in wanted:
            continue
        if row.state is ReplicaState.TRASH:
            continue
        if started is not None:
            started(row.digest, row.size_bytes)
        verdict = _verify_one(layout, catalog, row)
        yield Verified(row.digest, row.size_bytes, verdict, tuple(catalog.list_uses(row.digest)))


def _verify_one(layout: Layout, catalog: Catalog, row: BlobRow) -> Verdict:
    path = layout.blob(row.digest)
    before = blobs.stamp(layout, row.digest)
    instead = before is None and blobs.is_taken(layout, row.digest)  # a folder, a pipe, a link
    if before is None and not instead and row.state is ReplicaState.QUARANTINED:
        return Verdict.DAMAGED
    try:
        good = before is not None and blobs.hash_blob(path) == row.digest.hex
    except StorageError as error:
        _log.error("%s", error)
        return Verdict.UNREADABLE
    with locks.locked(layout.blob_lock(row.digest)):
        now = blobs.stamp(layout, row.digest)
        expected = {row.state}
        if now != before:
            return Verdict.UNREADABLE  # it was replaced while it was read; the next run sees by what
        if now is None and not instead:
            catalog.set_state(row.digest, ReplicaState.MISSING, expected=expected)
            return Verdict.MISSING
        if now is None or not good:
            catalog.set_state(row.digest, ReplicaState.QUARANTINED, expected=expected)
            blobs.quarantine(layout, row.digest)
            return Verdict.DAMAGED
        try:
            catalog.refresh_stamp(row.digest, now, verified=True)
            if row.state in {ReplicaState.MISSING, ReplicaState.QUARANTINED}:
                catalog.set_state(row.digest, ReplicaState.PRESENT, expected=expected)
        except StoreFullError as error:
            _log.warning("%s is right, but that cannot be recorded: %s", row.digest, error)
        return Verdict.OK
