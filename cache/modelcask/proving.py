"""Proving again: what to do with a blob whose file is not what its row says.

A changed stamp says only that something touched the file: a second name that came or went, a copy of the whole
root, a restored backup, or damage. The bytes decide. They are hashed before the stripe lock is taken, since that
may take minutes (I5), and what was hashed counts only if the file is still the same under the lock.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from modelcask import locks
from modelcask.digest import Digest
from modelcask.layout import Layout
from modelcask.store import blobs
from modelcask.types import ReplicaState, StatStamp

if TYPE_CHECKING:
    from modelcask.catalog.catalog import Catalog

_log = logging.getLogger("modelcask.store")

_NOT_IN_TRASH: Final = frozenset(ReplicaState) - {ReplicaState.TRASH}


def prove_again(layout: Layout, catalog: Catalog, digest: Digest, state: ReplicaState, recorded: StatStamp) -> bool:
    """Bring a blob and its row together again; return whether it can be served.

    Damaged bytes go to quarantine. False also if the file is replaced meanwhile: the next look sees by what.

    Args:
        layout: the root.
        catalog: its catalog.
        digest: the blob's name.
        state: what its row says.
        recorded: the stamp that its row has; a file that still has it is taken for proved, unless it was found damaged.

    Raises:
        StorageError: the file cannot be read. That says nothing of its bytes, and nothing is changed.
    """
    before = blobs.stamp(layout, digest)
    as_recorded = before == recorded and state is not ReplicaState.QUARANTINED
    proved = as_recorded
    if before is not None and not as_recorded:
        _log.info("the file of %s has changed since it was proved: hashing it again", digest)
        proved = blobs.hash_blob(layout.blob(digest)) == digest.hex
    with locks.locked(layout.blob_lock(digest)):
        now = blobs.stamp(layout, digest)
        if now is None:
            instead = blobs.is_taken(layout, digest)
            state = ReplicaState.QUARANTINED if instead else ReplicaState.MISSING
            catalog.set_state(digest, state, expected=_NOT_IN_TRASH)
            if instead:
                aside = blobs.quarantine(layout, digest)
                _log.error("in place of %s stood what is no file; it is now %s, pull the file again", digest, aside)
            return False
        if now != before:
            return False
        if not proved:
            catalog.set_state(digest, ReplicaState.QUARANTINED, expected=_NOT_IN_TRASH)  # row first (I1)
            blobs.quarantine(layout, digest)
            _log.error("the file of %s was damaged; it is in quarantine now, pull it again", digest)
            return False
        catalog.refresh_stamp(digest, now, verified=not as_recorded)
        catalog.set_state(digest, ReplicaState.PRESENT, expected=_NOT_IN_TRASH)
        return True
