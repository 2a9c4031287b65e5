"""One request and its answer, as an ``Origin`` makes it: honest first, then changed by behaviours."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from multidict import CIMultiDict

BEFORE_HEAD: Final = -1
"""The offset that comes before the first header."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class Resource:
    """What lies behind a path."""

    content: bytes
    etag: str | None
    last_modified: str | None = "Sat, 01 Nov 2025 08:00:00 GMT"
    media_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in."""

    method: str
    path: str
    query: str
    headers: CIMultiDict[str]
    number: int
    """How many requests of this method the path had before."""
    asked: str = ""
    """The Range as it came, also where a behaviour has struck it out."""


@dataclass(slots=True)
class Reply:
    """One answer before it is sent: honest when made, then twisted by behaviours."""

    request: Request
    status: int
    headers: CIMultiDict[str]
    body: bytes
    version: str = "HTTP/1.1"
    chunked: bool = False
    piece_bytes: int = 1 << 16
    pause_s: float = 0.0
    stops: list[tuple[int, Stop]] = field(default_factory=list)
    at_end: list[Callable[[], None]] = field(default_factory=list)
    """Called when nothing more of it will be sent, however that came."""

    def set_body(self, body: bytes, media_type: str | None = None) -> None:
        """Send other bytes, announced truthfully."""
        self.body = body
        self.headers["Content-Length"] = str(len(body))
        if media_type is not None:
            self.headers["Content-Type"] = media_type

    def stop_at(self, offset: int, stop: Stop) -> None:
        """Do something when ``offset`` bytes of the body are sent; never where it has fewer."""
        self.stops.append((offset, stop))

    @property
    def ends_connection(self) -> bool:
        """Whether nothing can follow on this connection: only its end tells where the body ended."""
        announced = self.headers.get("Content-Length")
        return not self.chunked and (self.version == "HTTP/1.0" or announced != str(len(self.body)))


@dataclass(slots=True)
class Turn:
    """One request and what it is about, before the origin answers; behaviours may alter both."""

    request: Request
    """A copy: what stands in the log stays."""
    resource: Resource


class Behaviour:
    """The base: it changes nothing, so an answer stays honest."""

    def before(self, turn: Turn) -> None:
        """Change what the origin hears or holds."""

    def answer(self, reply: Reply) -> None:
        """Change the honest answer."""


Stop = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""What to do at an offset of a body."""


class HangUp(Exception):  # noqa: N818 - a signal, not an error
    """End the connection with FIN, in mid-answer."""


class Reset(Exception):  # noqa: N818
    """The connection was ended with RST."""


async def hang_up(_: asyncio.StreamWriter) -> None:
    """End the connection with FIN."""
    raise HangUp


async def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST, so that the peer sees an error and may lose what it has not read."""
    linger_none = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
    raise Reset


def etag_of(content: bytes) -> str:
    """Return the strong ETag that the origin gives to content."""
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def honest(turn: Turn) -> Reply:
    """Answer as RFC 9110 asks: sections 13.1.5, 14 and 15.5.17; one range at most."""
    request, resource = turn.request, turn.resource
    headers = CIMultiDict({"Accept-Ranges": "bytes", "Content-Type": resource.media_type})
    if resource.etag is not None:
        headers["ETag"] = resource.etag
    if resource.last_modified is not None:
        headers["Last-Modified"] = resource.last_modified
    reply = Reply(request, 200, headers, b"")
    asked = _RANGE.fullmatch(request.headers.get("Range", ""))
    condition = request.headers.get("If-Range")
    size = len(resource.content)
    strong_etag = None if (resource.etag or "W/").startswith("W/") else resource.etag
    if asked is None or condition not in {None, resource.last_modified, strong_etag} or asked.groups() == ("", ""):
        reply.set_body(resource.content)
        return reply
    start = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
    end = min(int(asked[2]), size - 1) if asked[1] and asked[2] else size - 1
    if start > end:
        reply.status = 416
        headers["Content-Range"] = f"bytes */{size}"
        reply.set_body(b"")
    else:
        reply.status = 206
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        reply.set_body(resource.content[start : end + 1])
    return reply
