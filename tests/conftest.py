"""What every test has: a machine of its own, so that no user's cache, token, proxy or setting plays a part."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin import Origin
from zygote import Zygote

_OURS = ("MODELCASK_", "HF_", "HUGGING_FACE_", "HUGGINGFACE_", "XDG_", "SSL_CERT_")
_PROXIES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"})
_COLOURS = frozenset({"NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES", "TTY_COMPATIBLE"})


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point every folder that a user has below ``tmp_path``, and clear whatever else modelcask or its parts read."""
    for name in list(os.environ):
        if name.startswith(_OURS) or name.lower() in _PROXIES or name in _COLOURS:
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    folders = {
        "HOME": home,
        "XDG_CACHE_HOME": home / "cache",
        "XDG_CONFIG_HOME": home / "config",
        "XDG_DATA_HOME": home / "data",
        "XDG_STATE_HOME": home / "state",
        "HF_HOME": home / "huggingface",
        "MODELCASK_HOME": tmp_path / "cask",
        "MODELCASK_CONFIG": home / "config" / "modelcask.toml",
    }
    for name, folder in folders.items():
        monkeypatch.setenv(name, str(folder))


@pytest.fixture
def cask(tmp_path: Path) -> Path:
    """Return where this test's root is or will be: ``MODELCASK_HOME`` names it, and nothing is there yet."""
    return tmp_path / "cask"


@pytest.fixture
def seed() -> int:
    """Return a new seed each run, printed when the test fails; ``TEST_SEED`` in the environment repeats one."""
    chosen = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed: TEST_SEED={chosen}")  # noqa: T201 - pytest shows it with a failure
    return chosen


@pytest.fixture
def origin() -> Iterator[Origin]:
    """Return a server on loopback that plays what it is told to."""
    with Origin() as started:
        yield started


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Return the warm process that children are forked from."""
    with Zygote() as started:
        yield started
