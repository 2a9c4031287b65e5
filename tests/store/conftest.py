from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from ingests import KEY
from modelcask.layout import Layout
from modelcask.store import fs, ingest, stream
from modelcask.store.root import open_root


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Return a root that the tests of a module share; ``_clean`` keeps them apart."""
    made, _ = open_root(tmp_path_factory.mktemp("ingest") / "cask")
    return made


@pytest.fixture
def _clean(layout: Layout) -> Iterator[None]:
    """Remove the partial and the hook that a test leaves."""
    yield
    fs.on_step(None)
    shutil.rmtree(layout.partial(KEY), ignore_errors=True)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks and segments so small that a kilobyte crosses many of them, and sync after each."""
    monkeypatch.setattr(stream, "BLOCK_BYTES", 64)
    monkeypatch.setattr(stream, "_SMALL_BYTES", 16)
    monkeypatch.setattr(ingest, "SEGMENT_BYTES", 256)
    monkeypatch.setattr(ingest, "CHECKPOINT_S", 0)
