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
from modelcask.errors import CacheError
from modelcask.layout import Layout
from modelcask.reserve import RESERVE_BYTES
from modelcask.store import blobs, fs, system
from modelcask.store.root import foreign_name, missing_folders, read_format
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


def diagnose(layout: Layout, settings: Settings, open_catalog: Callable[[], Catalog]) -> list[Check]:
    """Return every finding. The catalog is opened only where the root is as it should be."""
    checks = [*_system(), *_network(settings)]
    try:
        form = read_format(layout)
        store = _no_store(layout) if form is None else _folders(layout)
    except CacheError as error:
        return [*checks, Check("store", Health.FAILURE, str(error))]
    if form is None or store is not None:
        return [*checks, *filter(None, [store])]
    checks.append(Check("store", Health.OK, f"{layout.root}, layout {form.layout}, {form.policy}, {form.store}"))
    checks += _root(layout)
    try:
        checks += _catalog(layout, open_catalog())
    except CacheError as error:
        checks.append(Check("catalog", Health.FAILURE, str(error)))
    return checks


def _no_store(layout: Layout) -> Check:
    root = layout.root
    if not os.path.lexists(root):
        return Check("store", Health.OK, f"{root} does not exist yet; the first pull makes it")
    foreign = foreign_name(layout)
    if foreign is not None:
        detail = f"{root} is no store (it holds {foreign!r}); set MODELCASK_HOME to an empty or new folder"
        return Check("store", Health.FAILURE, detail)
    return Check("store", Health.OK, f"{root} is empty; the first pull makes a store of it")


def _folders(layout: Layout) -> Check | None:
    missing = missing_folders(layout)
    if not missing:
        return None
    for folder in missing:
        if os.path.lexists(folder):
            return Check("store", Health.FAILURE, f"{folder} is no folder, and one belongs there; move it away")
    if not layout.blobs.is_dir():
        return Check("store", Health.FAILURE, f"{layout.blobs} is missing; run: modelcask rebuild")
    more = f" and {len(missing) - 1} more folders are" if len(missing) > 1 else " is"
    detail = f"{missing[0]}{more} missing; the next command that opens the catalog, as modelcask ls, makes it again"
    return Check("store", Health.WARNING, detail)


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
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & 0o022:
        yield Check("permissions", Health.FAILURE, f"{root} may be written by others ({mode:o}); run: chmod 700 {root}")
    elif root.stat().st_uid not in {os.getuid(), 0}:
        yield Check("permissions", Health.FAILURE, f"{root} belongs to user {root.stat().st_uid}; set MODELCASK_HOME")
    else:
        yield Check("permissions", Health.OK, f"{mode:o}")
    yield _file_system(layout)
    yield _room(layout)
    partials = sum(1 for _ in layout.partials.iterdir())
    if partials:
        yield Check(
            "partials", Health.OK, f"{partials} unfinished; pulling the same again goes on; see: modelcask partials"
        )


def _file_system(layout: Layout) -> Check:
    remote = system.remote_file_system(layout.root)
    if remote is not None:
        return Check("file system", Health.FAILURE, f"{remote}: locks there can lie; move the store to a local disk")
    try:
        coherent = locks.is_coherent(layout.locks)
    except CacheError as error:
        return Check("file system", Health.FAILURE, str(error))
    if not coherent:
        return Check("file system", Health.FAILURE, "two processes can hold one lock; move the store to a local disk")
    return Check("file system", Health.OK, "local, locks exclude each other")


def _room(layout: Layout) -> Check:
    free = fs.free_bytes(layout.root)
    detail = f"{free:,} bytes free"
    if free >= _LITTLE_ROOM:
        return Check("room", Health.OK, detail)
    kept = layout.reserve.stat().st_size if layout.reserve.is_file() else 0
    # Without a reserve the removal itself may find no room to be written down.
    step = "free some, for example by: modelcask rm" if kept else "free some of it outside the store first"
    detail += f", and {kept:,} in reserve; {step}"
    return Check("room", Health.FAILURE if free < RESERVE_BYTES else Health.WARNING, detail)


def _catalog(layout: Layout, catalog: Catalog) -> Iterator[Check]:
    fault = catalog.quick_check()
    if fault is not None:
        yield Check("catalog", Health.FAILURE, f"{layout.catalog} is damaged ({fault}); run: modelcask rebuild")
    elif catalog.get_meta("rebuilt_at") is not None:
        yield Check("catalog", Health.OK, f"{layout.catalog}, intact, made by a rebuild")
    else:
        yield Check("catalog", Health.OK, f"{layout.catalog}, intact")
    known: set[str] = set()
    damaged = changed = 0
    for row in catalog.iter_blobs():
        known.add(row.digest.hex)
        now = blobs.stamp(layout, row.digest)
        if row.state in {ReplicaState.QUARANTINED, ReplicaState.MISSING} or now is None:
            damaged += 1
        elif now != row.stamp:
            changed += 1
    kept = sum(1 for _ in layout.quarantine.iterdir())
    aside = f", and {kept} kept in {layout.quarantine}" if kept else ""
    if damaged:
        detail = f"{damaged} damaged or missing{aside}; run modelcask verify, then pull what it names again"
        yield Check("blobs", Health.FAILURE, detail)
    elif changed:
        detail = f"{len(known)} held, {changed} of them changed since they were proved; run: modelcask verify"
        yield Check("blobs", Health.WARNING, detail)
    else:
        yield Check("blobs", Health.OK, f"{len(known)} held, all there")
    if kept and not damaged:
        detail = f"{kept} damaged files are kept in {layout.quarantine}; delete them when nobody needs them"
        yield Check("quarantine", Health.WARNING, detail)
    orphans = sum(1 for path in layout.blobs.glob("*/*") if path.name not in known)
    if orphans:
        yield Check("orphans", Health.WARNING, f"{orphans} files without a row, left by a crash; rebuild takes them up")
