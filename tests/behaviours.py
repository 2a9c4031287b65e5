"""What an ``Origin`` can be told to do wrong: one class for each thing, combined by the script.

Offsets and sizes count the body bytes of one answer, unless they say that they are of the file.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import threading
from dataclasses import dataclass, replace

from reply import BEFORE_HEAD, Behaviour, Reply, Turn, etag_of, hang_up, reset


@dataclass(frozen=True, slots=True)
class Normal(Behaviour):
    """Be a good server."""


class Gate:
    """A place where the origin holds an answer until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait(self, timeout_s: float = 60.0) -> None:
        """Return when an answer stands at the gate; every byte before it has been given to the kernel."""
        assert self.reached.wait(timeout_s), "no answer came to the gate"

    def open(self) -> None:
        """Let this answer, and every later one, go on."""
        self.opened.set()


# --- what the origin holds, or hears -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ETag(Behaviour):
    """Hold the content under another ETag, or under none."""

    value: str | None

    def before(self, turn: Turn) -> None:
        turn.resource = replace(turn.resource, etag=self.value)


@dataclass(frozen=True, slots=True)
class WeakETag(Behaviour):
    """Promise no more than equivalence."""

    def before(self, turn: Turn) -> None:
        turn.resource = replace(turn.resource, etag=f"W/{turn.resource.etag}")


@dataclass(frozen=True, slots=True)
class ChangingETag(Behaviour):
    """Give each request an ETag of its own, as a pool of servers without a common clock does."""

    def before(self, turn: Turn) -> None:
        turn.resource = replace(turn.resource, etag=f'"v{turn.request.number}"')


@dataclass(frozen=True, slots=True)
class Replaced(Behaviour):
    """Hold other content since a day later, and so under another ETag."""

    content: bytes

    def before(self, turn: Turn) -> None:
        turn.resource = replace(
            turn.resource,
            content=self.content,
            etag=etag_of(self.content),
            last_modified="Sun, 02 Nov 2025 08:00:00 GMT",
        )


@dataclass(frozen=True, slots=True)
class FlipByte(Behaviour):
    """Hold one wrong byte, at an offset of the file, under the right size and ETag."""

    offset: int

    def before(self, turn: Turn) -> None:
        content = bytearray(turn.resource.content)
        content[self.offset] ^= 0xFF
        turn.resource = replace(turn.resource, content=bytes(content))


@dataclass(frozen=True, slots=True)
class IgnoreRange(Behaviour):
    """Answer a Range with 200 and everything."""

    def before(self, turn: Turn) -> None:
        turn.request.headers.pop("Range", None)


@dataclass(frozen=True, slots=True)
class IgnoreIfRange(Behaviour):
    """Answer a Range with 206 whatever the validator says."""

    def before(self, turn: Turn) -> None:
        turn.request.headers.pop("If-Range", None)


# --- ranges ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RangeAs200(Behaviour):
    """Answer a Range with its part and its Content-Range, but call it 200."""

    def answer(self, reply: Reply) -> None:
        if reply.status == 206:
            reply.status = 200


@dataclass(frozen=True, slots=True)
class Unasked206(Behaviour):
    """Answer a plain request with 206 and the first ``size`` bytes, all by default."""

    size: int | None = None

    def answer(self, reply: Reply) -> None:
        if "Range" not in reply.request.headers:
            total = len(reply.body)
            reply.set_body(reply.body[: self.size])
            reply.status = 206
            reply.headers["Content-Range"] = f"bytes 0-{len(reply.body) - 1}/{total}"


@dataclass(frozen=True, slots=True)
class ContentRange(Behaviour):
    """Shift the figures of a 206's Content-Range, or write another line altogether."""

    start: int = 0
    end: int = 0
    total: int = 0
    line: str | None = None

    def answer(self, reply: Reply) -> None:
        if reply.status == 206:
            start, end, total = (int(figure) for figure in re.findall(r"\d+", reply.headers["Content-Range"]))
            shifted = f"bytes {start + self.start}-{end + self.end}/{total + self.total}"
            reply.headers["Content-Range"] = shifted if self.line is None else self.line


@dataclass(frozen=True, slots=True)
class Multipart(Behaviour):
    """Wrap the part that was asked for into multipart/byteranges."""

    def answer(self, reply: Reply) -> None:
        if reply.status == 206:
            line = reply.headers.pop("Content-Range")
            part = b"--frontier\r\nContent-Range: %b\r\n\r\n%b\r\n--frontier--\r\n" % (line.encode(), reply.body)
            reply.set_body(part, "multipart/byteranges; boundary=frontier")


@dataclass(frozen=True, slots=True)
class NotSatisfiable(Behaviour):
    """Answer a Range with 416, naming ``total`` as the size, or nothing."""

    total: int | None = None

    def answer(self, reply: Reply) -> None:
        if "Range" in reply.request.headers:
            reply.status = 416
            reply.set_body(b"")
            reply.headers.pop("Content-Range", None)
            if self.total is not None:
                reply.headers["Content-Range"] = f"bytes */{self.total}"


# --- something else than the file --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status(Behaviour):
    """Answer with a status, a few words that must never be written, and perhaps Retry-After."""

    code: int
    retry_after: str | None = None

    def answer(self, reply: Reply) -> None:
        reply.status = self.code
        reply.headers.pop("Content-Range", None)
        reply.set_body(b"the origin is not well", "text/plain")
        if self.retry_after is not None:
            reply.headers["Retry-After"] = self.retry_after


@dataclass(frozen=True, slots=True)
class LoginPage(Behaviour):
    """Answer 200 and a web page, as captive portals and expired sessions do."""

    def answer(self, reply: Reply) -> None:
        reply.status = 200
        for name in ("ETag", "Last-Modified", "Content-Range"):
            reply.headers.pop(name, None)
        reply.set_body(b"<!doctype html><title>Sign in</title>", "text/html; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Redirect(Behaviour):
    """Lead elsewhere; ``to`` None leaves the Location out."""

    to: str | None
    code: int = 302

    def answer(self, reply: Reply) -> None:
        reply.status = self.code
        reply.headers.pop("Content-Range", None)
        reply.set_body(b"")
        if self.to is not None:
            reply.headers["Location"] = self.to


@dataclass(frozen=True, slots=True)
class HeaderFlood(Behaviour):
    """Send ``count`` headers of ``size`` bytes before the body."""

    count: int = 2000
    size: int = 4096

    def answer(self, reply: Reply) -> None:
        for number in range(self.count):
            reply.headers.add(f"X-Flood-{number}", "x" * self.size)


# --- framing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContentLength(Behaviour):
    """Announce ``change`` bytes more, or fewer, than are sent."""

    change: int

    def answer(self, reply: Reply) -> None:
        reply.headers["Content-Length"] = str(len(reply.body) + self.change)


@dataclass(frozen=True, slots=True)
class Gzip(Behaviour):
    """Compress the body although nobody allowed it."""

    def answer(self, reply: Reply) -> None:
        reply.set_body(gzip.compress(reply.body))
        reply.headers["Content-Encoding"] = "gzip"


@dataclass(frozen=True, slots=True)
class Chunked(Behaviour):
    """Frame the body in chunks, with no length."""

    def answer(self, reply: Reply) -> None:
        del reply.headers["Content-Length"]
        reply.headers["Transfer-Encoding"] = "chunked"
        reply.chunked = True


@dataclass(frozen=True, slots=True)
class CloseFramed(Behaviour):
    """Speak HTTP/1.0: the end of the connection is the end of the body."""

    def answer(self, reply: Reply) -> None:
        del reply.headers["Content-Length"]
        reply.version = "HTTP/1.0"


# --- time and death ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CutAfter(Behaviour):
    """End the connection after ``size`` bytes of the body, with FIN or with RST."""

    size: int
    reset: bool = False

    def answer(self, reply: Reply) -> None:
        reply.stop_at(self.size, reset if self.reset else hang_up)


@dataclass(frozen=True, slots=True)
class StallAfter(Behaviour):
    """Send nothing more after ``size`` bytes of the body, and keep the connection."""

    size: int

    def answer(self, reply: Reply) -> None:
        async def stall(_: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        reply.stop_at(self.size, stall)


def never_answer() -> StallAfter:
    """Return a stall before the first header."""
    return StallAfter(BEFORE_HEAD)


def hang_up_at_once() -> CutAfter:
    """Return a cut before the first header."""
    return CutAfter(BEFORE_HEAD)


@dataclass(frozen=True, slots=True)
class HoldAfter(Behaviour):
    """Hold the body after ``size`` bytes until the gate opens."""

    size: int
    gate: Gate

    def answer(self, reply: Reply) -> None:
        async def hold(_: asyncio.StreamWriter) -> None:
            self.gate.reached.set()
            while not self.gate.opened.is_set():  # noqa: ASYNC110 - the event belongs to another thread
                await asyncio.sleep(0.002)

        reply.stop_at(self.size, hold)


@dataclass(frozen=True, slots=True)
class Drip(Behaviour):
    """Send ``size`` bytes at a time, with a pause after each."""

    size: int
    pause_s: float

    def answer(self, reply: Reply) -> None:
        reply.piece_bytes, reply.pause_s = self.size, self.pause_s


def throttle(bytes_per_s: int) -> Drip:
    """Return a Drip that sends about so fast."""
    return Drip(max(bytes_per_s // 100, 1), 0.01)
