"""The one place that opens sockets for downloads: sessions, redirects, policy, credentials, translated errors.

Import this only when the network is used: aiohttp takes a third of a second.

Redirects are followed by hand, under the rules of ``policy`` at each hop. What the library would do by itself
is switched off where it would hand out secrets or change bytes: it reads ``~/.netrc`` along with the proxy
variables, keeps cookies, decompresses, and carries foreign headers across origins.

A host that the user named may be any machine, their own included. A redirect to *another* host must end on the
public internet, or a download page could reach into the user's network. That is held where it cannot be raced: by
the socket factory, which sees the very address that is about to be connected, however the host was spelled.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
import urllib.request
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.metadata import version
from typing import Final, Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from modelcask.config import Settings
from modelcask.errors import ConfigError, OfflineError, ResponseError, TransferTimeoutError
from modelcask.net import policy
from modelcask.net.translation import EDGE_ERRORS, RefusedAddressError, cause_of, translated
from modelcask.printable import SafeURL
from modelcask.types import Credential

logger = logging.getLogger("modelcask.net")

READ_BUFFER_BYTES: Final = 1 << 19
_DRAIN_BYTES: Final = 1 << 14
_CLOSING_S: Final = (0.0, 0.01, 0.05, 0.25)
# The only headers a caller may send. They go to every hop, so nothing secret may be among them.
_CARRIED: Final = frozenset({"accept", "if-none-match", "if-range", "range", "user-agent"})


class Client:
    """Make requests under the rules of this module: ``async with Client(settings) as client``.

    One belongs to one event loop; any number of tasks may use it at once. It holds no cookies and no
    credentials, and connections are reused between requests.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._context: ssl.SSLContext | None = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._proxies = urllib.request.getproxies()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()
        await self._close_sockets()

    async def _close_sockets(self) -> None:
        """Close what requests left that were cancelled as they connected: no session knows of those.

        A transport, if there is one, has to close its own socket: told that the connection has ended it does,
        within a few turns of the loop. What nobody closes then has no transport.
        """
        await asyncio.sleep(0)
        for left in self._open_sockets():
            with suppress(OSError):
                left.shutdown(socket.SHUT_RDWR)
        for pause_s in _CLOSING_S:
            if self._open_sockets():
                await asyncio.sleep(pause_s)
        for left in self._open_sockets():
            left.close()

    def _open_sockets(self) -> list[socket.socket]:
        return [made for made in list(self._sockets) if made.fileno() != -1]

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        credential: Credential | None = None,
        allow_http: bool = False,
        shortcut: object = None,
    ) -> AsyncIterator[Response]:
        """Yield the answer to a GET or HEAD, redirects followed, whatever its status.

        The connection is freed when the block ends, reused if the body was read to its end. Status codes are the
        caller's to judge (see ``status_error``).

        Args:
            method: ``GET`` or ``HEAD``.
            url: absolute and canonical; requested exactly as spelled.
            headers: of ``Accept``, ``If-None-Match``, ``If-Range``, ``Range`` and ``User-Agent`` only.
            credential: sent to hops of its own origin only.
            allow_http: allow plain http to other machines for this request: its content is pinned.
            shortcut: where the redirects of ``url`` led before (:attr:`Response.shortcut`): asked at once, under the
                same rules as if they had been followed again.

        Raises:
            OfflineError: the settings forbid the network; nothing was connected.
            PolicyError: a hop is plain http, steps down to http, leads inside a private network, or names a user.
            ConnectionInterruptedError: no connection, a certificate that does not hold, or a cut one.
            TransferTimeoutError: no connection, or no headers, in time.
            ResponseError: the answer is no HTTP, is encoded although that was declined, or redirects without end.
        """
        if self._settings.offline:
            raise OfflineError(
                f"{SafeURL(url)} needs the network, but offline mode is on; leave out --offline or MODELCASK_OFFLINE"
            )
        status = 0
        first = policy.read_url(url)
        hop = shortcut if isinstance(shortcut, URL) else first
        for _ in range(policy.MAX_HOPS + 1):
            policy.check_plain_http(hop, allowed=allow_http or self._settings.allow_http)
            answer = await self._send(
                method,
                hop,
                _headers(headers, credential, hop),
                guarded=policy.host_of(hop) != policy.host_of(first),
            )
            try:
                status = answer.status
                logger.debug("%s %s %s: %d", method, SafeURL(str(hop)), (headers or {}).get("Range", "whole"), status)
                if status not in policy.REDIRECTS:
                    _check_encoding(answer)
                    yield Response(answer, self._clock, shortcut=None if hop is first else hop)
                    return
                hop = policy.next_hop(hop, answer.headers.get("Location"), status=status)
                await _drain(answer)
            finally:
                answer.close()
        raise ResponseError(
            f"{SafeURL(url)} redirects more than {policy.MAX_HOPS} times", status=status, retryable=False
        )

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], *, guarded: bool
    ) -> aiohttp.ClientResponse:
        shown = SafeURL(str(url))
        proxy = await self._proxy_for(url)
        if proxy is not None and guarded:
            # The proxy resolves the name, so an address seen here would be the proxy's own.
            logger.debug("%s goes through a proxy, which decides which addresses it may reach", shown)
            guarded = False
        try:
            # Each single wait inside has its own limit; this one ends a server that sends its headers a byte at a
            # time, or 1xx answers for ever.
            async with asyncio.timeout(self._settings.connect_timeout_s + self._settings.stall_timeout_s):
                return await self._session(guarded=guarded).request(
                    method, url, headers=headers, proxy=proxy, ssl=self._tls(url), allow_redirects=False
                )
        except EDGE_ERRORS as error:
            raise translated(error, shown) from cause_of(error)

    def _tls(self, url: URL) -> ssl.SSLContext | bool:
        """Return the rules for TLS. Made for the first https hop: reading the system's certificates takes 40 ms."""
        if url.scheme != "https":
            return True
        if self._context is None:
            self._context = tls_context(self._settings)
        return self._context

    async def _proxy_for(self, url: URL) -> URL | None:
        if policy.is_loopback(policy.host_of(url)):
            return None  # the proxy would look for it on its own machine
        text = self._proxies.get(url.scheme) or self._proxies.get("all")
        # In a thread: on macOS the answer may need a name to be resolved.
        if not text or await asyncio.to_thread(urllib.request.proxy_bypass, url.raw_host or ""):
            return None
        proxy = URL(text if "://" in text else f"http://{text}")
        if proxy.scheme not in {"http", "https"}:
            raise ConfigError(
                f"the proxy for {url.scheme} is a {proxy.scheme} proxy, which is not supported: name an http:// one "
                f"in {url.scheme.upper()}_PROXY, or except the host in NO_PROXY"
            )
        return proxy

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = info
        made = socket.socket(family=family, type=kind, proto=protocol)
        self._sockets.add(made)
        return made

    def _guarded_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        if not policy.is_public_address(str(info[4][0])):
            raise RefusedAddressError
        return self._socket(info)

    def _session(self, *, guarded: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(guarded)
        if session is None:
            session = self._sessions[guarded] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, socket_factory=self._guarded_socket if guarded else self._socket
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=self._settings.connect_timeout_s,
                    sock_connect=self._settings.connect_timeout_s,
                    sock_read=self._settings.stall_timeout_s,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=1 << 14,
                max_field_size=1 << 15,
            )
        return session


class Response:
    """One answer: its status, its headers, and its body once, as it arrives."""

    __slots__ = ("_answer", "_clock", "headers", "shortcut", "status", "url")

    status: int
    headers: CIMultiDictProxy[str]
    url: SafeURL
    """Where it came from after all redirects; safe to show."""

    shortcut: object
    """Where redirects have led, None if there were none; for another request of the same URL only."""

    def __init__(self, answer: aiohttp.ClientResponse, clock: Callable[[], float], *, shortcut: object = None) -> None:
        self._answer = answer
        self._clock = clock
        self.shortcut = shortcut
        self.status = answer.status
        self.headers = answer.headers
        self.url = SafeURL(str(answer.url))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, in pieces of up to two read buffers, never empty.

        Where ``Content-Length`` or chunked framing promise an end, ending earlier is an error. A body that only
        the closed connection ends (HTTP/1.0) has no such promise: the caller judges it by size or digest.

        Raises:
            ConnectionInterruptedError: the body ended early, or its framing is broken.
            TransferTimeoutError: no byte within the stall timeout, or under 1 KiB/s over a minute.
        """
        floor = policy.SpeedFloor()
        while True:
            asked = self._clock()
            try:
                chunk = await self._answer.content.readany()
            except EDGE_ERRORS as error:
                raise translated(error, self.url) from cause_of(error)
            if not chunk:
                return
            if floor.is_too_slow(self._clock() - asked, len(chunk)):
                raise TransferTimeoutError(f"{self.url} sends less than 1 KiB a second; try again later")
            yield chunk

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole of a small body.

        Raises:
            ResponseError: it is longer than ``limit_bytes``.
            TransferError: as :meth:`chunks`.
        """
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit_bytes:
                raise ResponseError(
                    f"{self.url} answered with more than the {limit_bytes:,} bytes that such an answer may have; "
                    "check that the URI or HF_ENDPOINT names what you mean",
                    status=self.status,
                    retryable=False,
                )
        return bytes(body)


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return what every TLS connection is held to: certificates checked always, TLS 1.2 or newer.

    Raises:
        ConfigError: the file of certificates that the settings name cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"the certificates in ca_file = {settings.ca_file} cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@cache
def _user_agent() -> str:
    return f"modelcask/{version('modelcask')}"


def _headers(given: Mapping[str, str] | None, credential: Credential | None, url: URL) -> CIMultiDict[str]:
    headers = CIMultiDict({"User-Agent": _user_agent()})
    if credential is not None and policy.may_carry(credential, url):
        headers.update(credential.headers)
    # What the request itself asks for comes last: a caller's User-Agent may not change what a Hub answers.
    for name, value in (given or {}).items():
        if name.lower() not in _CARRIED:
            raise ValueError(f"the header {name} would go to every hop: secrets travel as a Credential")
        headers[name.title()] = value
    headers["Accept-Encoding"] = "identity"
    return headers


def _check_encoding(answer: aiohttp.ClientResponse) -> None:
    """Refuse a file in any other form than its own bytes.

    Ranges, lengths and digests are promised for the file; none of them holds for a compressed copy of it.
    """
    content = answer.headers.get("Content-Encoding", "").strip().lower()
    transfer = answer.headers.get("Transfer-Encoding", "").strip().lower()
    encoded = content not in {"", "identity"} or transfer not in {"", "identity", "chunked"}
    if encoded and 200 <= answer.status <= 299:  # noqa: PLR2004 - the class of success
        raise ResponseError(
            f"{SafeURL(str(answer.url))} sends the file compressed although that was declined; tell its owner, or "
            "pull it from another source",
            status=answer.status,
            retryable=False,
        )


async def _drain(answer: aiohttp.ClientResponse) -> None:
    """Read a redirect's few bytes, so that its connection can carry the next request."""
    if (answer.content_length or 0) > _DRAIN_BYTES or "Content-Length" not in answer.headers:
        return
    try:
        await answer.read()
    except EDGE_ERRORS:
        return  # the redirect itself is known; the connection is closed instead of reused
