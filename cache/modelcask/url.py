"""URLs by RFC 3986: the strict reading, and one spelling for each meaning.

``uri.py`` and ``hub_uri.py`` say what a URI means; here is only how its characters are read. What two parsers
could read differently (a backslash, a password, ``0x7f.1``, a name outside the alphabet of host names) is
refused, so that the host that was checked is the host that is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes

from modelcask.errors import PolicyError
from modelcask.query import strip_secrets
from modelcask.refusal import Refusal, password_refusal
from modelcask.relpath import check_relpath

UNNAMED: Final = "download"
"""The name of a file whose URL has none that may be used."""

_PORTS: Final = {"http": 80, "https": 443}
_LAST_PORT = 65535
_MAX_HOST = 253

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PLAIN_IN_NAMES = "/!$&'()*+,;="
_NOT_PLAIN = re.compile(r"%([0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)

_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[]*)(?::(.*))?", re.DOTALL)
# Underscores are no host name by RFC 952, but containers are called so and every parser reads them alike.
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class URL:
    """A URL in normal form and as it must be requested; neither has a fragment."""

    normal: str
    """One spelling for each meaning, without signed parameters."""
    request: str
    """As it was written, characters that no URL may hold percent-encoded: signatures cover the spelling."""
    authority: str
    path: str
    """The normal path."""
    query: str
    fragment: str | None
    stripped: tuple[str, ...]
    """The names of the parameters that ``normal`` leaves out."""

    @property
    def name(self) -> str:
        """The last segment of the path as a file name, or ``UNNAMED``."""
        return file_name(self.path)


def read_url(scheme: str, rest: str) -> URL:
    """Read what follows ``scheme://``; http and https get the rules of their scheme, others the general ones."""
    text, mark, fragment = rest.partition("#")
    text, _, query = text.partition("?")
    authority, slash, path = text.partition("/")
    path = slash + path
    if "\\" in authority + path:
        # Browsers read it as '/': then another host would be asked than the one that was checked.
        raise Refusal("a URL cannot hold '\\'; write %5C if it belongs to a name", "\\")
    if _holds_password(authority, rest):
        clean = rest.partition("@")[2]
        # Only the usual form is sure to end at the '@': else nothing of it may be suggested.
        raise password_refusal(f"{scheme}://{clean}" if rest.count("@") == authority.count("@") == 1 else None)
    if " " in authority + path + query:
        fixed = rest.removesuffix(mark + fragment).replace(" ", "%20")
        raise Refusal("a URL cannot hold a space; write %20", " ", f"{scheme}://{fixed}")
    if scheme in _PORTS:
        authority = _read_authority(scheme, authority, rest)
        path = path or "/"
    elif not authority + path:
        raise Refusal("nothing follows the scheme", f"{scheme}://")
    normal_path = normalise(path)
    if scheme in _PORTS:
        _refuse_dot_segments(f"{scheme}://{authority}", normal_path, f"?{query}" if query else "")
    kept, stripped = strip_secrets(query)
    prefix = f"{scheme}://{normalise(authority, extra='[]')}"
    return URL(
        normal=f"{prefix}{normal_path}{'?' if kept else ''}{normalise(kept)}",
        request=f"{prefix}{_legal(path)}{'?' if query else ''}{_legal(query)}",
        authority=authority,
        path=normal_path,
        query=query,
        fragment=fragment if mark else None,
        stripped=stripped,
    )


def read_file_url(rest: str) -> URL:
    """Read what follows ``file:``, by RFC 8089: a path that begins at the root of this machine."""
    text, mark, fragment = rest.partition("#")
    text, question, _ = text.partition("?")
    if question:
        raise Refusal("a local file has no query; a '?' in its name is written %3F", "?")
    if text.startswith("//"):
        host, slash, path = text[2:].partition("/")
        if _holds_password(host, rest):
            raise password_refusal(None)
        if host.lower() not in {"", "localhost"}:
            reason = f"a local file is on this machine, not on {host!r}, and '~' and '.' are not expanded"
            raise Refusal(reason, host, f"file:///{text[2:]}" if host[0] not in "~." else None)
        path = slash + path
    else:
        path = text
    if not path.startswith("/"):
        raise Refusal("the path of a local file begins with '/'", "file:")
    if "\\" in path:
        raise Refusal("a URL cannot hold '\\'; write %5C if it belongs to a name", "\\")
    # "//" and "/./" mean nothing to the system; ".." may lead elsewhere than it seems to, through a link.
    segments = [part for part in _decode_segments(path) if part not in {b"", b"."}]
    if b".." in segments:
        raise Refusal("'..' in a local path may lead elsewhere through a link; write the path without it", "..")
    if not segments or path[-1] == "/":
        bare = quote(b"/".join(segments), safe=_PLAIN_IN_NAMES)
        raise Refusal("it names a folder; a local URI names one file", path, f"file:///{bare}" if bare else None)
    normal_path = "/" + quote(b"/".join(segments), safe=_PLAIN_IN_NAMES)
    url = f"file://{normal_path}"
    return URL(url, url, "", normal_path, "", fragment if mark else None, ())


def file_name(path: str) -> str:
    """Return the last segment of a URL's path as a file name, or ``UNNAMED`` where it may not be one."""
    try:
        name = decode(path.rpartition("/")[2])
        return check_relpath(name) if "/" not in name else UNNAMED
    except (Refusal, PolicyError):
        return UNNAMED


def decode(text: str) -> str:
    """Percent-decode strictly: every ``%`` leads two hex digits, and the bytes are UTF-8."""
    if "%" not in text:
        return text
    _check_percent(text)
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise Refusal("the percent-encoded bytes are not UTF-8", text) from error


def encode(name: str, *, plain: str = _PLAIN_IN_NAMES) -> str:
    """Percent-encode a name so that :func:`decode` gives it back; the result is printable ASCII."""
    return quote(name, safe=plain)


def normalise(text: str, *, extra: str = "") -> str:
    """Return text with one spelling for each meaning (RFC 3986, 6.2.2): for URL parts whose ``%`` are kept."""

    def one(match: re.Match[str]) -> str:
        if match[1]:
            char = chr(int(match[1], 16))
            return char if char in _UNRESERVED else match[0].upper()
        return match[0] if match[0] in extra else quote(match[0], safe="")

    _check_percent(text)
    return _NOT_PLAIN.sub(one, text)


def _legal(text: str) -> str:
    return _NOT_PLAIN.sub(lambda match: match[0] if match[1] else quote(match[0], safe=""), text)


def _check_percent(text: str) -> None:
    bad = _BAD_PERCENT.search(text)
    if bad is not None:
        raise Refusal("'%' leads two hex digits; a '%' in a name is written %25", bad[0])


def _decode_segments(path: str) -> Iterable[bytes]:
    _check_percent(path)
    for part in path.split("/"):
        raw = unquote_to_bytes(part)
        if b"/" in raw or b"\0" in raw:
            raise Refusal("a file name holds neither '/' nor NUL", part)
        yield raw


def _holds_password(authority: str, rest: str) -> bool:
    """Say whether there is a ``user:password@``, or most likely one with a '/', '?' or '#' in the password."""
    match = _AUTHORITY.fullmatch(authority)
    usual = match is not None and (match[2] is None or match[2].isdecimal())
    return "@" in authority or ("@" in rest and not usual)


def _read_authority(scheme: str, authority: str, rest: str) -> str:
    """Return ``host[:port]`` in normal form: lower case, IDNA, no default port."""
    match = _AUTHORITY.fullmatch(authority)
    host, port = (match[1], match[2] or "") if match else (authority, "")
    return _read_host(scheme, host, rest) + _read_port(scheme, port)


def _read_port(scheme: str, port: str) -> str:
    if not port:
        return ""
    # int() alone would also take signs, underscores and the digits of other scripts.
    if re.fullmatch(r"[0-9]{1,10}", port) is None or not 1 <= int(port) <= _LAST_PORT:
        raise Refusal(f"a port is a number from 1 to {_LAST_PORT}", port)
    return "" if int(port) == _PORTS[scheme] else f":{int(port)}"


def _read_host(scheme: str, host: str, rest: str) -> str:
    if not host:
        raise Refusal("it names no host", f"{scheme}://")
    if host.startswith("["):
        return _read_ipv6(scheme, host, rest)
    name = host.lower()
    if not name.isascii():
        # IDNA 2003 and 2008 read these two differently: they would name another machine there than here.
        if "ß" in name or "ς" in name:
            raise Refusal("parsers disagree on this host name; write its xn-- form", host)
        try:
            name = name.encode("idna").decode("ascii").lower()
        except UnicodeError as error:
            raise Refusal("this is not a host name", host) from error
    if name.endswith(".") and len(name) > 1:
        suggestion = f"{scheme}://{host.rstrip('.')}{rest[len(host) :]}"
        raise Refusal("a host name ends without a dot", host, suggestion)
    if _HOST.fullmatch(name) is None or len(name) > _MAX_HOST:
        raise Refusal("a host name has letters, digits, '-' and '.'", host)
    if _ENDS_IN_NUMBER.fullmatch(name) and _IPV4.fullmatch(name) is None:
        raise Refusal("an IPv4 address has four numbers from 0 to 255 without leading zeros", host)
    return name


def _read_ipv6(scheme: str, host: str, rest: str) -> str:
    try:
        # A zone ("%eth0") is an address of this machine only, and written in two ways.
        address = IPv6Address(host[1:-1] if host.endswith("]") and "%" not in host else host)
    except AddressValueError as error:
        raise Refusal("this is not an IPv6 address (zones are not read)", host) from error
    if address.ipv4_mapped is not None:
        suggestion = f"{scheme}://{address.ipv4_mapped}{rest[len(host) :]}"
        raise Refusal("this is an IPv4 address in disguise", host, suggestion)
    return f"[{address}]"


def _refuse_dot_segments(prefix: str, path: str, query: str) -> None:
    segments = path.split("/")[1:]
    if "." not in segments and ".." not in segments:
        return
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    suggestion = f"{prefix}/{'/'.join(kept)}{query}"
    part = ".." if ".." in segments else "."
    raise Refusal("'.' and '..' in a URL's path are read differently on the way", part, suggestion)
