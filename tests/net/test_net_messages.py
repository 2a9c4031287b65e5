"""Every message of the network layer ends with what the caller can do."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from modelcask.errors import CacheError
from modelcask.net.policy import check_plain_http, next_hop, read_url
from modelcask.net.status import page_error, status_error
from modelcask.net.translation import RefusedAddressError, translated
from modelcask.printable import SafeURL

HERE = SafeURL("https://host.example/org/name/resolve/main/m.gguf?token=canary")
HOP = URL("https://host.example/m.gguf?token=canary")

NEXT_STEP = re.compile(r"; (?:accept|check|copy|except|for a Hub|if|leave|name|open|pull|set|try|use|write) [^;]*\Z")
"""The last clause begins with what to do, after the semicolon behind which a retry cuts the message."""


def ends_with_a_next_step(error: CacheError) -> bool:
    return NEXT_STEP.search(str(error)) is not None and "canary" not in str(error)


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "7"}, {"X-Error-Message": "no; never"}], ids=str)
@pytest.mark.parametrize("code", ["", "GatedRepo", "RepoNotFound", "RevisionNotFound"])
def test_every_status_ends_with_a_next_step(headers: dict[str, str], code: str) -> None:
    """Whatever the server adds of its own stands before it."""
    said = CIMultiDict(headers | ({"X-Error-Code": code} if code else {}))
    for status in range(100, 600):
        error = status_error(status, said, HERE, revision="v9")
        assert ends_with_a_next_step(error), str(error)


def test_a_wait_that_the_server_asks_for_is_in_the_next_step() -> None:
    """A person need not guess when to come back."""
    assert str(status_error(503, CIMultiDict({"Retry-After": "7"}), HERE)).endswith("; try again in 7 s, as it asks")
    assert str(status_error(503, CIMultiDict(), HERE)).endswith("answered 503; try again later")


def test_a_page_in_the_files_place_ends_with_a_next_step() -> None:
    """Where the right address is found, and what to do if this is it."""
    assert ends_with_a_next_step(page_error(HERE, "m.gguf", 200))


KEY = ConnectionKey("host.example", 443, True, True, None, None, None)
REQUEST = aiohttp.RequestInfo(HOP, "GET", CIMultiDictProxy(CIMultiDict()), HOP)

EDGE: list[Exception] = [
    aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "Connection refused")),
    aiohttp.ClientConnectorError(KEY, OSError()),
    aiohttp.ClientConnectorError(KEY, RefusedAddressError()),
    aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "Name or service not known")),
    aiohttp.ClientConnectorCertificateError(KEY, ValueError("self-signed")),
    aiohttp.ConnectionTimeoutError(),
    aiohttp.SocketTimeoutError(),
    TimeoutError(),
    aiohttp.InvalidURL("https://canary@host/"),
    aiohttp.ClientHttpProxyError(REQUEST, (), status=407),
    aiohttp.ClientHttpProxyError(REQUEST, (), status=502),
    aiohttp.ClientResponseError(REQUEST, (), status=400, message="canary"),
    aiohttp.ClientPayloadError("canary"),
    aiohttp.ServerDisconnectedError("canary"),
    aiohttp.ClientOSError(104, "Connection reset by peer"),
    aiohttp.ClientError("canary"),
    HttpProcessingError(message="canary"),
    OSError("canary"),
]


@pytest.mark.parametrize("error", EDGE, ids=lambda error: type(error).__name__)
def test_every_error_of_the_library_below_ends_with_a_next_step(error: Exception) -> None:
    """And with nothing of its own text, which may hold a signature."""
    assert ends_with_a_next_step(translated(error, HERE)), str(translated(error, HERE))


REFUSALS: list[Callable[[], Any]] = [
    lambda: read_url("https://ho st/m?token=canary"),
    lambda: read_url("ftp://host/m"),
    lambda: read_url("https://user:canary@host/m"),
    lambda: read_url("https:///m"),
    lambda: check_plain_http(URL("http://host/m?token=canary"), allowed=False),
    lambda: next_hop(HOP, None, status=302),
    lambda: next_hop(HOP, "https://[::1", status=302),
    lambda: next_hop(HOP, "http://host/m?token=canary", status=302),
    lambda: next_hop(HOP, "ftp://host/m", status=302),
    lambda: next_hop(HOP, "https://user:canary@host/m", status=302),
]


@pytest.mark.parametrize("refused", REFUSALS)
def test_every_refusal_ends_with_a_next_step(refused: Callable[[], Any]) -> None:
    """Of a URL, and of where a redirect leads."""
    with pytest.raises(CacheError) as caught:
        refused()
    message = str(caught.value)
    assert NEXT_STEP.search(message), message
    assert "canary" not in message
