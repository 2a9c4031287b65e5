"""What every test of a source needs: a Hub, settings, and a user's environment with nothing in it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from hub import FakeHub
from modelcask.config import Settings
from modelcask.net.client import Client
from modelcask.sources import Wanted
from modelcask.sources.huggingface import HuggingFaceSource
from modelcask.types import Resolution
from modelcask.uri import parse_uri


@pytest.fixture(autouse=True)
def hf_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give huggingface_hub an empty home; it reads most of its environment once, when it is imported."""
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "hf-home"
    home.mkdir()
    for name, path in [
        ("HF_HOME", home),
        ("HF_TOKEN_PATH", home / "token"),
        ("HF_STORED_TOKENS_PATH", home / "stored_tokens"),
        ("HF_HUB_CACHE", home / "hub"),
        ("AGENT_HARNESSES_PATH", home / ".agent_harnesses.json"),
    ]:
        monkeypatch.setattr(constants, name, str(path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield home
    huggingface_hub.close_session()  # it is one for the process, and keeps connections to this test's servers


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, hub: FakeHub) -> Settings:
    return Settings(home=tmp_path, hf_endpoint=hub.endpoint, connect_timeout_s=5, stall_timeout_s=5)


Resolve = Callable[..., Awaitable[Resolution]]


@pytest.fixture
def resolve(settings: Settings, client: Client) -> Resolve:
    """Return what resolves a URI of the Hub under the test's settings, with changes to them."""

    async def call(uri: str = "hf://org/name", *, wanted: Wanted | None = None, **changes: Any) -> Resolution:
        return await HuggingFaceSource(replace(settings, **changes), client).resolve(parse_uri(uri), wanted=wanted)

    return call


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with Client(settings) as opened:
        yield opened
