"""What every test of a real transfer needs: a server, and no proxy between it and us."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from download_bench import Bench
from modelcask.fetch import plan, work
from origin import Origin


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know ``both.localhost`` by an IPv6 address, where nobody listens, and the origin's; no name of ``.invalid``."""
    ask = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host == "both.localhost":
            stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [
                (socket.AF_INET6, *stream, ("::1", port, 0, 0)),
                (socket.AF_INET, *stream, ("127.0.0.1", port)),
            ]
        return ask(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file of a few thousand bytes fetched as if it were many gigabytes: in spans, several at a time."""
    monkeypatch.setattr(plan, "SPLIT_BYTES", 1)
    monkeypatch.setattr(plan, "SPAN_BYTES", (3_000, 6_000))
    monkeypatch.setattr(work, "ALIGNMENT_BYTES", 500)


@pytest.fixture
def tiny_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have 500 bytes be a large file, for figures that a reader can add up."""
    monkeypatch.setattr(plan, "SPLIT_BYTES", 500)
    monkeypatch.setattr(plan, "SPAN_BYTES", (100, 400))
    monkeypatch.setattr(work, "ALIGNMENT_BYTES", 10)


@pytest.fixture(scope="session")
def tls_origin() -> Iterator[Origin]:
    """One for all tests: its certificate takes a while."""
    with Origin(tls=True) as server:
        yield server


@pytest.fixture
def bench(origin: Origin) -> Bench:
    return Bench(origin)
