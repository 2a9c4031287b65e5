"""A throw-away origin on loopback: plain files, a mirror that lies, and one repository of a small Hub.

It runs in a thread of its own, so that the story can be told in plain sync code, and stops with its ``with`` block.
It keeps to RFC 9110 where a download depends on it: strong ETags, ``Range``, ``If-Range``, 206 and 416. Two things
it does on command: cut a connection in the middle of a body, and send at a pace at which a bar is seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from modelcask_cli.demo.hub import HubRepo

_CHUNK_BYTES: Final = 64 * 1024
_SHUTDOWN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Body:
    name: str
    data: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Running:
    urls: list[str]
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


class Origin:
    """The server; a context manager. ``/files/NAME``, ``/mirror/NAME`` and the Hub's paths for one repository.

    Args:
        files: what ``/files/`` holds, and ``/mirror/`` with one byte in the middle flipped.
        repo: the Hub's repository.
        rate_bytes_s: how fast a body is sent; None is as fast as it goes.
    """

    def __init__(self, files: Mapping[str, bytes], repo: HubRepo, *, rate_bytes_s: float | None = None) -> None:
        self.repo = repo
        self.url = ""
        """``http://127.0.0.1:PORT``, known inside the ``with`` block."""
        self.hub_url = ""
        """The same server on a second port: modelcask reads every URL below its Hub's endpoint as the Hub's."""
        self.requests = 0
        """How many requests came in."""
        self.bytes_sent = 0
        """How many bytes of bodies of files were sent; JSON is not counted."""
        self.files = dict(files)
        self._rate_bytes_s = rate_bytes_s
        self._cuts: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="demo origin", daemon=True)
        self._started: Future[_Running] = Future()

    def cut_once(self, name: str, after_bytes: int) -> None:
        """End the connection the next time that a body of the file ``name`` goes past its byte ``after_bytes``."""
        self._cuts[name] = after_bytes

    def mirrored(self, name: str) -> bytes:
        """Return the file as ``/mirror/`` serves it: one bit in its middle is wrong."""
        data = bytearray(self.files[name])
        data[len(data) // 2] ^= 1
        return bytes(data)

    def __enter__(self) -> Self:
        self._thread.start()
        self.url, self.hub_url = self._started.result().urls
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = self._started.result()
        running.loop.call_soon_threadsafe(running.stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._watch])
        app.router.add_get("/files/{name}", self._file)
        app.router.add_get("/mirror/{name}", self._mirror)
        api = f"/api/models/{self.repo.name}"
        app.router.add_get(api, self._info)
        app.router.add_get(api + "/revision/{revision}", self._info)
        app.router.add_get(api + "/tree/{revision}", self._tree)
        app.router.add_post(api + "/paths-info/{revision}", self._paths_info)
        app.router.add_get(f"/{self.repo.name}/resolve/{{revision}}/{{path:.+}}", self._resolve)
        # A connection that is cut is what the demo shows: no access log and no line for it.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            for _ in range(2):
                await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls = [f"http://127.0.0.1:{port}" for _, port in runner.addresses]
            running = _Running(urls, asyncio.get_running_loop(), asyncio.Event())
            self._started.set_result(running)
            await running.stop.wait()
        finally:
            await runner.cleanup()

    @web.middleware
    async def _watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests += 1
        if "Authorization" in request.headers:
            # Nothing here asks for a token, so one that arrives was sent where it must not go.
            raise web.HTTPBadRequest(text="this origin never asks for a token")
        return await handler(request)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self._check_name(name)
        return await self._send(request, self._plain(name, self.files[name]))

    async def _mirror(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self._check_name(name)
        return await self._send(request, self._plain(name, self.mirrored(name)))

    async def _info(self, request: web.Request) -> web.StreamResponse:
        self._check_revision(request.match_info.get("revision", "main"))
        return web.json_response(self.repo.info())

    async def _tree(self, request: web.Request) -> web.StreamResponse:
        self._check_revision(request.match_info["revision"])
        return web.json_response(self.repo.entries())

    async def _paths_info(self, request: web.Request) -> web.StreamResponse:
        self._check_revision(request.match_info["revision"])
        form = await request.post()
        return web.json_response(self.repo.entries(str(path) for path in form.getall("paths", [])))

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        self._check_revision(request.match_info["revision"])
        commit = {"X-Repo-Commit": self.repo.commit}
        file = self.repo.files.get(request.match_info["path"])
        if file is None:
            raise web.HTTPNotFound(headers={"X-Error-Code": "EntryNotFound"} | commit)
        return await self._send(request, _Body(file.path, file.data, file.headers() | commit))

    def _check_revision(self, revision: str) -> None:
        if not self.repo.has_revision(revision):
            raise web.HTTPNotFound(headers={"X-Error-Code": "RevisionNotFound"})

    def _check_name(self, name: str) -> None:
        if name not in self.files:
            raise web.HTTPNotFound

    @staticmethod
    def _plain(name: str, data: bytes) -> _Body:
        return _Body(name, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'})

    async def _send(self, request: web.Request, body: _Body) -> web.StreamResponse:
        size = len(body.data)
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"} | body.headers
        start, end, status = 0, size, 200
        if "Range" in request.headers and request.headers.get("If-Range", headers["ETag"]) == headers["ETag"]:
            start, end, _ = request.http_range.indices(size)
            if start >= end:
                raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = end - start
        await response.prepare(request)
        if request.method != "HEAD":
            await self._write(request, response, body, start, end)
        return response

    async def _write(
        self, request: web.Request, response: web.StreamResponse, body: _Body, start: int, end: int
    ) -> None:
        """Send the bytes from ``start`` to ``end`` at the pace of the origin, up to the cut if one is ordered."""
        cut = self._cuts.get(body.name)
        cuts = cut is not None and start <= cut < end
        last = cut if cut is not None and cuts else end
        loop = asyncio.get_running_loop()
        began = loop.time()
        for offset in range(start, last, _CHUNK_BYTES):
            chunk = body.data[offset : min(offset + _CHUNK_BYTES, last)]
            self.bytes_sent += len(chunk)  # before the write: whoever has the last byte finds all of them counted
            await response.write(chunk)
            if self._rate_bytes_s is not None:
                due = began + (offset + len(chunk) - start) / self._rate_bytes_s
                await asyncio.sleep(due - loop.time())
        if cuts and request.transport is not None:
            del self._cuts[body.name]
            request.transport.close()  # sends what is buffered first, so that the cut is where it was ordered
