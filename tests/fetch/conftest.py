"""What every test of a real transfer needs: a server, and no proxy between it and us."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from download_bench import Bench
from origin import Origin


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def bench(origin: Origin) -> Bench:
    return Bench(origin)
