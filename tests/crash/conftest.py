from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from zygote import Zygote


@pytest.fixture(scope="session")
def yard() -> Iterator[Path]:
    """Return a folder for many roots, in memory where there is such a place.

    A killed process loses nothing that it gave to the kernel, so a sync that costs nothing shows the same.
    """
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="yard-", dir=place))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def new_root(zygote: Zygote, yard: Path) -> Path:
    """Return a root with an empty catalog, to be copied: it holds no blob whose stamp a copy would spoil."""
    root = yard / "new"
    zygote.run("kill_jobs:command", root, "make", ())
    return root


@pytest.fixture
def root(new_root: Path, cask: Path) -> Path:
    """Return a root of the test's own, with an empty catalog."""
    shutil.copytree(new_root, cask)
    return cask
