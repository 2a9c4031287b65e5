"""Removing what a URI names: first a plan that a person can read, then its execution.

Order of the execution, and why a crash in it is safe. The manifest forgets the entries, then their links go, then
the rows, in one transaction; until that, lookups still find them (and make a missing link again), and removing
can simply be repeated. Then each blob that no entry refers to any more is condemned in the catalog, *after that*
the sessions are read (I4), and what no live process has leased is deleted under its stripe lock: row first, file
second (I1). Killed there, what is left is bytes that nobody refers to, which the collector takes.

A path that another live process was given before keeps working until that process ends: neither the bytes nor
the link behind it go before. The link is the collector's then.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelcask import locks
from modelcask.catalog.catalog import Catalog
from modelcask.digest import Digest
from modelcask.errors import CorruptStoreError
from modelcask.finding import Finder, is_named
from modelcask.layout import Layout, ingest_key
from modelcask.reserve import with_reserve
from modelcask.store import blobs, manifests, snapshots
from modelcask.store.sessions import leased_by_others
from modelcask.types import ReplicaState
from modelcask.uri import ModelURI


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What removing one URI would do."""

    uri: str
    source: str
    revision: str
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
    return RemovalPlan(uri.canonical, uri.source, revision.key, tuple(sorted(paths)), freed, shared)


def remove(layout: Layout, catalog: Catalog, plan: RemovalPlan) -> Removal:
    """Do what the plan says; see the head of this file for the order."""
    key = ingest_key(expected=None, source=plan.source, revision=plan.revision, path="")
    lock = with_reserve(layout.reserve, locks.lock, layout.key_lock(key))
    try:
        row = catalog.find_revision(plan.source, revision=plan.revision)
        if row is None:
            return Removal(plan, 0, ())  # somebody else has removed it since the plan was made
        leased = leased_by_others(layout)
        held = {entry.path: entry.blob for entry in catalog.list_entries(row.id) if entry.path in plan.paths}
        unused = [path for path, blob in held.items() if blob is None or blob not in leased]
        with_reserve(layout.reserve, _shrink_manifest, layout, plan)
        snapshots.unlink_entries(layout, plan.source, plan.revision, unused)
        unreferenced = catalog.forget_entries(row.id, plan.paths)
    finally:
        lock.release(remove=True)
    freed, in_use = _reclaim(layout, catalog, unreferenced)
    return Removal(plan, freed, in_use)


def _shrink_manifest(layout: Layout, plan: RemovalPlan) -> None:
    try:
        manifest = manifests.read_manifest(layout.manifest(plan.source, plan.revision))
    except CorruptStoreError:
        manifest = None  # damaged: what stays cached of the revision is still in the catalog
    left = None if manifest is None else manifests.without(manifest, set(plan.paths))
    if left is not None and any(entry.blob is not None for entry in left.entries):
        manifests.write_manifest(layout, left)
    else:
        manifests.remove_manifest(layout, plan.source, plan.revision)


def _reclaim(layout: Layout, catalog: Catalog, candidates: list[Digest]) -> tuple[int, tuple[Digest, ...]]:
    condemned = catalog.condemn(candidates)
    leased = leased_by_others(layout)
    freed = 0
    in_use: list[Digest] = []
    for digest in condemned:
        lock = with_reserve(layout.reserve, locks.lock, layout.blob_lock(digest))
        try:
            if digest in leased:
                catalog.set_state(digest, ReplicaState.PRESENT, expected={ReplicaState.CONDEMNED})
                in_use.append(digest)
                continue
            row = catalog.find_blob(digest)
            if row is None or row.state is not ReplicaState.CONDEMNED:
                continue  # somebody rescued it
            catalog.delete_replica(digest)
            freed += blobs.remove(layout, digest)
        finally:
            lock.release()
    return freed, tuple(in_use)
