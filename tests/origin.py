"""A real HTTP origin on loopback that misbehaves on command, down to the single byte.

::

    with Origin() as origin:
        url = origin.add("/model.gguf", content, behaviours=[CutAfter(1000), Normal()])

Unscripted it is a good server: HEAD, Range, If-Range, ETag, Last-Modified, 416, keep-alive. ``behaviours`` is a
script with one item for each request of the path, the last of which stays in force; an item is one behaviour or
a tuple of them, applied in order: ``(Chunked(), CutAfter(1000))``. GET and HEAD each count for themselves.
Adding a path again replaces it and begins its script anew.

The behaviours are in ``behaviours.py``, and so is ``Gate``, which holds a body at an offset until the test opens it,
so that no test needs to guess how long things take. A behaviour has two hooks: ``before`` changes what the origin
hears of the request or what it holds, and the honest rules then work on that; ``answer`` changes the honest answer.

The server runs in a thread of its own, on port 0, and ends with the ``with`` block; a bug in it fails the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

from multidict import CIMultiDict

from reply import BEFORE_HEAD, Behaviour, HangUp, Reply, Request, Reset, Resource, Turn, etag_of, honest

TLS_MISSING: Final = None if shutil.which("openssl") else "the openssl command, which makes the certificate, is missing"
"""Why ``Origin(tls=True)`` cannot work here, for ``skipif``; None where it can."""

_AUTO: Final = "auto"

Script = Sequence[Behaviour | tuple[Behaviour, ...]]
"""What to do at each request of a path."""


class Origin:
    """The server; see the head of this file. ``Origin(tls=True)`` speaks https, trusted through ``ca_file``."""

    def __init__(self, *, tls: bool = False) -> None:
        self.requests: list[Request] = []
        """Every request so far, of all paths."""
        self.bytes_served = 0
        """Body bytes sent so far; a reset may have thrown some of them away."""
        self.port = 0
        self._resources: dict[str, tuple[Resource, list[tuple[Behaviour, ...]]]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._tls = tls
        self._folder = contextlib.ExitStack()
        self._bugs: list[Exception] = []
        self._ready = threading.Event()
        self._connections: set[asyncio.Task[None]] = set()

    def add(
        self,
        path: str,
        content: bytes,
        *,
        behaviours: Script = (),
        etag: str | None = _AUTO,
        media_type: str = "application/octet-stream",
    ) -> str:
        """Serve ``content`` at ``path`` and return the URL; the ETag is a strong one unless given."""
        resource = Resource(content, etag_of(content) if etag == _AUTO else etag, media_type=media_type)
        script = [item if isinstance(item, tuple) else (item,) for item in behaviours]
        self._resources[path] = resource, script or [()]
        for method in ("GET", "HEAD"):
            self._counts[method, path] = 0
        return self.url + path

    @property
    def url(self) -> str:
        """``scheme://host:port``."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        folder = Path(self._folder.enter_context(tempfile.TemporaryDirectory()))
        self.ca_file = folder / "ca.pem"
        self._context = _certify(folder) if self._tls else None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="origin")
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._folder.close()
        if self._bugs:
            raise self._bugs[0]

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        await _turns()  # of connections that are being accepted: a closed server would lose their sockets
        server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await _turns()  # of transports that are being aborted

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._connections.add(task)
        # Not by the task itself: cancelled before it ever ran, it does nothing.
        task.add_done_callback(lambda _: writer.transport.abort())
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # So that drained bytes are in the kernel. TLS pauses at the limit, sockets above it: with 0 it never resumes.
        writer.transport.set_write_buffer_limits(high=1 if self._tls else 0)
        try:
            while await self._serve_one(reader, writer):
                pass
            writer.close()
            async with asyncio.timeout(1):
                await writer.wait_closed()
        except (OSError, EOFError, Reset, TimeoutError, asyncio.CancelledError):
            pass  # the peer is gone, or the origin is closing
        except Exception as error:  # noqa: BLE001 - raised where the test sees it
            self._bugs.append(error)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether another may follow on this connection."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = CIMultiDict((name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:-2]))
        path, _, query = target.partition("?")
        request = Request(method, path, query, headers, self._counts[method, path], headers.get("Range", ""))
        self._counts[method, path] += 1
        self.requests.append(request)
        reply = self._reply(replace(request, headers=headers.copy()))
        try:
            await self._send(writer, reply, with_body=method != "HEAD")
        except HangUp:
            return False
        finally:
            for call in reply.at_end:
                call()
        return not reply.ends_connection

    def _reply(self, request: Request) -> Reply:
        if request.path not in self._resources:
            return Reply(request, 404, CIMultiDict({"Content-Length": "0"}), b"")
        resource, script = self._resources[request.path]
        behaviours = script[min(request.number, len(script) - 1)]
        turn = Turn(request, resource)
        for behaviour in behaviours:
            behaviour.before(turn)
        reply = honest(turn)
        for behaviour in behaviours:
            behaviour.answer(reply)
        return reply

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply, *, with_body: bool) -> None:
        async def write(wire: bytes) -> None:
            writer.write(wire)
            await writer.drain()

        stops = sorted(reply.stops, key=lambda at: at[0])
        while stops and stops[0][0] == BEFORE_HEAD:
            await stops.pop(0)[1](writer)
        phrase = HTTPStatus(reply.status).phrase
        fields = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        await write(f"{reply.version} {reply.status} {phrase}\r\n{fields}\r\n".encode("latin-1"))
        if not with_body:
            return
        sent, size = 0, len(reply.body)
        for offset, stop in [*(at for at in stops if at[0] <= size), (size, _go_on)]:
            while sent < offset:
                piece = reply.body[sent : min(sent + reply.piece_bytes, offset)]
                sent += len(piece)
                self.bytes_served += len(piece)  # before the write: whoever has the last byte finds all counted
                await write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.chunked else piece)
                await asyncio.sleep(reply.pause_s)
            await stop(writer)
        if reply.chunked:
            await write(b"0\r\n\r\n")


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _go_on(_: asyncio.StreamWriter) -> None:
    """Stop at nothing: the end of a body."""


def _certify(folder: Path) -> ssl.SSLContext:
    """Make a key and a self-signed certificate for 127.0.0.1 and localhost, which is its own authority."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=origin"
    command += " -addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout key.pem -out ca.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context
