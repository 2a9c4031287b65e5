"""Roots and catalogs for the tests; every catalog is made by the real migrations."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.catalog_samples import Clock
from modelcask.catalog.catalog import Catalog
from modelcask.catalog.schema import HEAD
from modelcask.catalog.upgrade import upgrade
from modelcask.layout import Layout


def make_root(root: Path) -> Layout:
    layout = Layout(root)
    layout.locks.mkdir(parents=True)
    return layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A root without a catalog."""
    return make_root(tmp_path / "root")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty catalog's file, to be copied: running the migrations for each test would take most of the time."""
    layout = make_root(tmp_path_factory.mktemp("migrated") / "root")
    upgrade(layout, None, HEAD)
    Catalog.open(layout).close()
    return layout.catalog


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalog(layout: Layout, migrated: Path, clock: Clock) -> Iterator[Catalog]:
    """An empty catalog, open."""
    shutil.copy(migrated, layout.catalog)
    shutil.copy(Layout(migrated.parent).schema_lock, layout.schema_lock)
    with Catalog.open(layout, clock=clock) as opened:
        yield opened
