"""Upgrading the catalog's tables: a backup first, then all migrations in one transaction.

Called with ``locks/schema`` held exclusively. A crash leaves the old schema: SQLite makes tables transactionally.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from importlib.resources import files
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from modelcask.catalog.connection import connect_reader, translated
from modelcask.catalog.creation import changing, make_private
from modelcask.catalog.rows import now_us
from modelcask.errors import CorruptStoreError
from modelcask.layout import Layout

SCRIPTS = str(files("modelcask_migrations"))
"""Alembic's script directory, found in an editable install and in a wheel alike."""

_BACKUPS_KEPT: Final = 3


def upgrade(layout: Layout, found: str | None, wanted: str) -> None:
    """Bring the catalog from version ``found`` (None: it does not exist) to ``wanted``.

    Raises:
        CorruptStoreError: the rows contradict each other; nothing was changed.
        StoreFullError: there is no room for the backup or the change; nothing was changed.
    """
    if found is not None:
        back_up(layout, found)
    # Rebuilding a table drops the one that others refer to, so the keys are checked at the end instead.
    with changing(layout, foreign_keys=False) as connection:
        config = Config()
        config.set_main_option("script_location", SCRIPTS.replace("%", "%%"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, wanted)
        except CommandError as error:
            raise CorruptStoreError(
                f"the catalog {layout.catalog} says a version that never was; run: modelcask rebuild"
            ) from error
        if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
            raise CorruptStoreError(
                f"the catalog {layout.catalog} has rows that refer to nothing; run: modelcask rebuild"
            )


def back_up(layout: Layout, version: str) -> None:
    """Copy the catalog into ``backups/`` while others may read it; keep the newest three copies.

    The copy is complete and on disk before it gets its name.
    """
    layout.backups.mkdir(exist_ok=True)
    for left_over in layout.backups.glob("*.tmp"):
        left_over.unlink()
    final = layout.backups / f"catalog-{now_us():016d}-{version}.db"
    aside = final.with_suffix(".tmp")
    make_private(aside)
    with (
        translated(layout.catalog),
        contextlib.closing(connect_reader(layout.catalog)) as source,
        contextlib.closing(sqlite3.connect(aside)) as target,
    ):
        source.backup(target)
    aside.rename(final)
    folder = os.open(layout.backups, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    for old in sorted(layout.backups.glob("catalog-*.db"))[:-_BACKUPS_KEPT]:
        old.unlink()
