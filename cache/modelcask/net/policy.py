"""What the network layer may do, decided without a socket: URLs, hops, addresses, credentials, speed.

One parser reads a URL, once: the ``yarl.URL`` made here is checked here and then handed to the connection as
it is. Two readings of one string (a check by one parser, a request by another) is how such checks are got around.
"""

from __future__ import annotations

import ipaddress
import re
import string
from collections import deque
from typing import Final
from urllib.parse import quote

from yarl import URL

from modelcask.errors import PolicyError, ResponseError
from modelcask.printable import SafeURL, display
from modelcask.types import Credential

MAX_HOPS: Final = 10
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_BY_HAND: Final = "open it in a browser, and pull from the address of the download itself"
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?", re.ASCII | re.IGNORECASE)
# Everything printable stays as the server wrote it, since a signature covers the exact spelling. A backslash is
# encoded, so that it can never end an authority.
_KEPT = "".join(sorted(set(string.printable) - set(string.whitespace) - {"\\"}))


def read_url(text: str) -> URL:
    """Return the URL of a first hop, spelled exactly as given, without its fragment.

    Raises:
        PolicyError: it is no absolute http(s) URL with a plain host, or it carries a user name or a password.
    """
    try:
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise ValueError("characters that no URL may hold")  # noqa: TRY301 - the parser would drop some of them
        return _checked(URL(text, encoded=True))
    except ValueError as error:
        raise PolicyError(f"{SafeURL(text)} cannot be requested: the URL is malformed; check its spelling") from error


def next_hop(current: URL, location: str | None, *, status: int) -> URL:
    """Return where a redirect leads; ``location`` is the header as it came, relative or absolute.

    Raises:
        PolicyError: it leaves http(s), steps down from https to http, or carries a user name or a password.
        ResponseError: there is no location, or it is no URL.
    """
    here = SafeURL(str(current))
    if not location or not location.strip():
        raise ResponseError(f"{here} redirects without saying where; {_BY_HAND}", status=status, retryable=False)
    try:
        target = URL(quote(location.strip().encode("utf-8", "surrogateescape"), safe=_KEPT), encoded=True)
        hop = _checked(current.join(target))
    except ValueError as error:
        raise ResponseError(
            f"{here} redirects to what is no URL; {_BY_HAND}", status=status, retryable=False
        ) from error
    if current.scheme == "https" and hop.scheme == "http":
        raise PolicyError(
            f"{here} redirects from https to plain http ({SafeURL(str(hop))}): refused; if you trust that place, "
            "pull from it by its own URL"
        )
    return hop


def check_plain_http(url: URL, *, allowed: bool) -> None:
    """Raise PolicyError if ``url`` is plain http to another machine and nothing allows that."""
    if url.scheme == "http" and not allowed and not is_loopback(host_of(url)):
        raise PolicyError(
            f"{SafeURL(str(url))} is plain http: anybody on the way can change the bytes; use https://, "
            "or pin the content with #sha256=…, or pass --allow-http"
        )


def origin_of(url: str | URL) -> str:
    """Return ``scheme://host:port`` in lower case, the port always written: the same text for the same origin."""
    parsed = url if isinstance(url, URL) else URL(url, encoded=True)
    host = host_of(parsed)
    return f"{parsed.scheme}://{f'[{host}]' if ':' in host else host}:{parsed.port}"


def may_carry(credential: Credential, url: URL) -> bool:
    """Say whether ``credential`` may go to ``url``: its own origin only, and never readable on the way."""
    private = url.scheme == "https" or is_loopback(host_of(url))
    return private and origin_of(credential.origin) == origin_of(url)


def host_of(url: URL) -> str:
    """Return the host in lower case, IPv6 without brackets; empty if there is none."""
    return (url.raw_host or "").lower()


def is_loopback(host: str) -> bool:
    """Say whether a host, as a URL spells it, can only be this machine."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_GLOBAL = (
    ipaddress.IPv6Network("2001::/23"),  # Teredo, ORCHID and other protocol assignments
    ipaddress.IPv6Network("2002::/16"),  # 6to4 carries any IPv4 address, private ones too
    ipaddress.IPv6Network("3fff::/20"),  # documentation, newer than some Pythons
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments; one cloud's metadata service lives here
    ipaddress.IPv4Network("192.88.99.0/24"),  # the relays of 6to4
    ipaddress.IPv4Network("168.63.129.16/32"),  # public by number, but what answers is the host of an Azure machine
)


def is_public_address(address: str) -> bool:
    """Say whether a numeric address belongs to the public internet.

    ``ipaddress.is_global`` alone is not enough: it calls multicast, 6to4 and NAT64 global. An IPv4 address inside
    an IPv6 one (mapped, or behind the NAT64 prefix of RFC 6052) is judged as the IPv4 address it is.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip not in _GLOBAL_UNICAST or ip.scope_id is not None:
            return False
    if any(ip.version == network.version and ip in network for network in _NOT_GLOBAL):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class SpeedFloor:
    """Notice a body that drips: bytes keep coming, so no read ever times out, and yet it never ends.

    Only time spent waiting for the peer counts. A consumer that is slow itself blames nobody.
    """

    def __init__(self, *, bytes_per_s: float = 1024.0, window_s: float = 60.0) -> None:
        self._floor = bytes_per_s * window_s
        self._window_s = window_s
        self._slices: deque[tuple[float, int]] = deque()
        self._waited_s = 0.0
        self._size = 0

    def is_too_slow(self, waited_s: float, size: int) -> bool:
        """Take in ``size`` bytes that were waited for; say whether the last window's average is below the floor."""
        self._waited_s += waited_s
        self._size += size
        if self._slices and self._slices[-1][0] < self._window_s / 60:
            # merged, so that a fast body with a million short waits keeps sixty entries
            last_waited_s, last_size = self._slices.pop()
            waited_s, size = waited_s + last_waited_s, size + last_size
        self._slices.append((waited_s, size))
        while self._waited_s - self._slices[0][0] >= self._window_s:
            old_waited_s, old_size = self._slices.popleft()
            self._waited_s -= old_waited_s
            self._size -= old_size
        return self._waited_s >= self._window_s and self._size < self._floor


def _checked(url: URL) -> URL:
    shown = SafeURL(str(url))
    if url.scheme not in _PORTS:
        scheme = display(url.scheme, 20)
        raise PolicyError(f"{shown} cannot be requested: {scheme!r} is neither https nor http; {_BY_HAND}")
    if url.raw_user is not None or url.raw_password is not None:
        raise PolicyError(f"{shown} cannot be requested: a user name or password in a URL is refused; leave it out")
    host = url.raw_host or ""
    if ":" in host and "%" not in host:
        ipaddress.IPv6Address(host)  # ValueError for anything that only looks like one
    elif _HOST.fullmatch(host) is None:
        raise ValueError(host)
    if not url.port:
        raise ValueError("no port")
    return url.with_fragment(None)
