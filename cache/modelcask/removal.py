"""Removing what a URI names: first a plan that a person can read, then its execution.

Order of the execution, and why a crash in it is safe: rows first, files second (I1). Entries are forgotten in
one transaction; from there no lookup finds them. Then the links and the manifest go. Then each blob that no
entry refers to any more is condemned in the catalog, *after that* the sessions are read (I4), and what no live
process has leased is deleted under its stripe lock: row, then file. Killed anywhere, what is left is bytes that
nobody refers to, which the collector takes.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelcask import locks
from modelcask.catalog.catalog import Catalog
from modelcask.digest import Digest
from modelcask.finding import Finder, is_named
from modelcask.layout import Layout, ingest_key
from modelcask.store import blobs, manifests, snapshots
from modelcask.store.sessions import read_leases
from modelcask.types import ReplicaState
from modelcask.uri import ModelURI


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What removing one URI would do."""

    uri: str
    source: str
    revision: str
    revision_id: int
    paths: tuple[str, ...]
    """The entries that are held now and would be forgotten."""
    bytes_freed: int
    """Bytes that only these entries hold."""
    bytes_shared: int
    """Bytes that stay because other entries hold them too."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal did."""

    plan: RemovalPlan
    bytes_freed: int
    in_use: tuple[Digest, ...]
    """Blobs that a live process has leased: they stay until the collector finds them free."""


def plan_removal(catalog: Catalog, finder: Finder, uri: ModelURI) -> RemovalPlan:
    """Return what removing ``uri`` would do. Changes nothing.

    Raises:
        NotCachedError: nothing of it is held.
    """
    known = finder.known(uri)
    if known is None:
        raise finder.explain_absence(uri)
    revision, files = known
    wanted = uri.path or revision.entrypoint
    chosen = [found for entry, found in files if found is not None and is_named(wanted, entry.path)]
    if not chosen:
        raise finder.explain_absence(uri)
    paths = {found.path for found in chosen}
    freed = shared = 0
    for digest, size in {found.digest: found.size_bytes for found in chosen}.items():
        uses = catalog.list_uses(digest)
        if all((source, key) == (uri.source, revision.key) and path in paths for source, key, path in uses):
            freed += size
        else:
            shared += size
    return RemovalPlan(uri.canonical, uri.source, revision.key, revision.id, tuple(sorted(paths)), freed, shared)


def remove(layout: Layout, catalog: Catalog, plan: RemovalPlan) -> Removal:
    """Do what the plan says; see the head of this file for the order."""
    key = ingest_key(expected=None, source=plan.source, revision=plan.revision, path="")
    lock = locks.lock(layout.key_lock(key))
    try:
        unreferenced = catalog.forget_entries(plan.revision_id, plan.paths)
        snapshots.unlink_entries(layout, plan.source, plan.revision, plan.paths)
        _shrink_manifest(layout, plan)
    finally:
        lock.release(remove=True)
    freed, in_use = _reclaim(layout, catalog, unreferenced)
    return Removal(plan, freed, in_use)


def _shrink_manifest(layout: Layout, plan: RemovalPlan) -> None:
    manifest = manifests.read_manifest(layout.manifest(plan.source, plan.revision))
    if manifest is None:
        return
    left = manifests.without(manifest, set(plan.paths))
    if any(entry.blob is not None for entry in left.entries):
        manifests.write_manifest(layout, left)
    else:
        manifests.remove_manifest(layout, plan.source, plan.revision)


def _reclaim(layout: Layout, catalog: Catalog, candidates: list[Digest]) -> tuple[int, tuple[Digest, ...]]:
    condemned = catalog.condemn(candidates)
    leased = frozenset().union(*(digests for _, digests in read_leases(layout, except_own=True)))
    freed = 0
    in_use: list[Digest] = []
    for digest in condemned:
        with locks.locked(layout.blob_lock(digest)):
            if digest.hex in leased:
                catalog.set_state(digest, ReplicaState.PRESENT, expected={ReplicaState.CONDEMNED})
                in_use.append(digest)
                continue
            row = catalog.find_blob(digest)
            if row is None or row.state is not ReplicaState.CONDEMNED:
                continue  # somebody rescued it
            catalog.delete_replica(digest)
            freed += blobs.remove(layout, digest)
    return freed, tuple(in_use)
