"""What ``doctor`` looks at. It reads, tells, and changes nothing; each finding says what to do next."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from modelcask import locks
from modelcask.catalog.catalog import Catalog
from modelcask.config import Settings
from modelcask.errors import CacheError, SchemaVersionError
from modelcask.layout import Layout
from modelcask.store import blobs, fs, system
from modelcask.store.root import folders_of, read_format
from modelcask.types import ReplicaState

_LITTLE_ROOM = 1 << 30
# The WAL-reset bug: 3.7.0 to 3.51.2 can corrupt a database when checkpoints and commits interleave; fixed in
# 3.51.3 and in these backports. The catalog's write gate serialises both.
_WAL_FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))


class Health(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    health: Health
    detail: str


def diagnose(layout: Layout, settings: Settings, open_catalog: Callable[[], Catalog] | None) -> list[Check]:
    """Return every finding. ``open_catalog`` is None where there is no root yet."""
    checks = [*_system(), *_network(settings)]
    if open_catalog is None:
        return [*checks, Check("store", Health.OK, f"{layout.root} does not exist yet; the first pull makes it")]
    missing = [folder for folder in folders_of(layout) if not folder.is_dir()]
    if missing:
        return [*checks, Check("store", Health.FAILURE, f"{missing[0]} is missing; run: modelcask rebuild")]
    checks += _root(layout)
    try:
        catalog = open_catalog()
        checks += _catalog(layout, catalog)
    except SchemaVersionError as error:
        checks.append(Check("catalog", Health.FAILURE, str(error)))  # a rebuild here would lose what is newer
    except CacheError as error:
        checks.append(Check("catalog", Health.FAILURE, f"{error}; run: modelcask rebuild"))
    return checks


def _system() -> Iterator[Check]:
    found = sqlite3.sqlite_version_info
    fixed = found >= _WAL_FIXED[0] or any(found[:2] == version[:2] and found >= version for version in _WAL_FIXED)
    yield Check(
        "sqlite",
        Health.OK,
        f"{sqlite3.sqlite_version}"
        + ("" if fixed else ": has the WAL-reset bug, which modelcask's write lock keeps from happening"),
    )


def _network(settings: Settings) -> Iterator[Check]:
    yield Check("hub endpoint", Health.OK, settings.hf_endpoint + (" (offline)" if settings.offline else ""))
    if settings.ca_file is not None and not settings.ca_file.is_file():
        yield Check("certificates", Health.FAILURE, f"ca_file {settings.ca_file} is not there; correct the setting")


def _root(layout: Layout) -> Iterator[Check]:
    root = layout.root
    form = read_format(layout)
    if form is not None:
        yield Check("store", Health.OK, f"{root}, layout {form.layout}, {form.policy}, {form.store}")
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & 0o022:
        yield Check("permissions", Health.FAILURE, f"{root} may be written by others ({mode:o}); run: chmod 700 {root}")
    elif root.stat().st_uid not in {os.getuid(), 0}:
        yield Check("permissions", Health.FAILURE, f"{root} belongs to user {root.stat().st_uid}; set MODELCASK_HOME")
    else:
        yield Check("permissions", Health.OK, f"{mode:o}")
    remote = system.remote_file_system(root)
    if remote is not None:
        yield Check("file system", Health.FAILURE, f"{remote}: locks there can lie; move the store to a local disk")
    elif not locks.is_coherent(layout.locks):
        yield Check("file system", Health.FAILURE, "two processes can hold one lock; move the store to a local disk")
    else:
        yield Check("file system", Health.OK, "local, locks exclude each other")
    free = fs.free_bytes(root)
    health = Health.OK if free >= _LITTLE_ROOM else Health.WARNING
    yield Check("room", health, f"{free:,} bytes free" + ("" if health is Health.OK else "; free some"))
    partials = sum(1 for _ in layout.partials.iterdir())
    if partials:
        yield Check("partials", Health.OK, f"{partials} unfinished; pulling the same URI again goes on from there")
    kept = sum(1 for _ in layout.quarantine.iterdir())
    if kept:
        yield Check("quarantine", Health.WARNING, f"{kept} damaged files are kept in {layout.quarantine}")


def _catalog(layout: Layout, catalog: Catalog) -> Iterator[Check]:
    fault = catalog.quick_check()
    yield Check("catalog", Health.OK if fault is None else Health.FAILURE, fault or f"{layout.catalog}, intact")
    if catalog.get_meta("rebuilt_at") is not None:
        yield Check("rebuilt", Health.WARNING, "the catalog was rebuilt: nothing is collected until that is confirmed")
    known: set[str] = set()
    damaged = changed = 0
    for row in catalog.iter_blobs():
        known.add(row.digest.hex)
        now = blobs.stamp(layout, row.digest)
        if row.state in {ReplicaState.QUARANTINED, ReplicaState.MISSING} or now is None:
            damaged += 1
        elif now != row.stamp:
            changed += 1
    if damaged:
        yield Check("blobs", Health.FAILURE, f"{damaged} damaged or missing; run verify, then pull them again")
    else:
        yield Check("blobs", Health.OK, f"{len(known)} held, all there")
    if changed:
        yield Check("changed", Health.WARNING, f"{changed} files changed since they were proved; run: modelcask verify")
    orphans = sum(1 for path in layout.blobs.glob("*/*") if path.name not in known)
    if orphans:
        yield Check("orphans", Health.WARNING, f"{orphans} files without a row, left by a crash; rebuild takes them up")
