"""A Xet storage on loopback that the real hf_xet reads from: what hf_xet uploaded into a local folder, over HTTP.

::

    stored = store(content, folder)          # by hf_xet, in a process of its own
    with XetStore(stored) as storage:
        ... storage.endpoint, stored.hash ...

It speaks ``/v1/reconstructions/{hash}`` and ranges of xorbs (https://huggingface.co/docs/xet/api), and 404 for the
rest, so that a client that asks for version 2 comes down to 1. A content of less than 64 MB is one xorb.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps
from pathlib import Path
from typing import ClassVar, Final, Self
from urllib.parse import parse_qs, urlsplit

_TERM_CHUNKS: Final = 16
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")
_UPLOAD: Final = """
import sys, hf_xet
content = sys.stdin.buffer.read()
with hf_xet.XetSession().new_upload_commit(endpoint="local://" + sys.argv[1]) as commit:
    upload = commit.start_upload_bytes(content, name="content")
print(upload.result().xet_info.hash)
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a chunk lies in its xorb, and in the content."""

    packed: range
    unpacked: range


@dataclass(frozen=True, slots=True)
class Stored:
    """One content in Xet storage."""

    hash: str
    size_bytes: int
    xorb_hash: str
    xorb: bytes
    chunks: tuple[Chunk, ...]


def store(content: bytes, folder: Path) -> Stored:
    """Upload a content into a new folder."""
    folder.mkdir()
    hf = {"HF_XET_CACHE": str(folder / "cache"), "HF_XET_LOG_DEST": os.devnull, "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _UPLOAD, str(folder)],
        input=content,
        env=os.environ | hf,
        capture_output=True,
        check=True,
    )
    [xorb] = [path for path in (folder / "xet/xorbs/xorbs").iterdir() if re.fullmatch(r"default\.\w{64}", path.name)]
    packed = xorb.read_bytes()
    chunks = tuple(_chunks(packed, len(content)))
    return Stored(done.stdout.decode().strip(), len(content), xorb.suffix[1:], packed, chunks)


def _chunks(xorb: bytes, size: int) -> Iterable[Chunk]:
    """Read the chunks' headers: version, packed length, scheme, length (https://huggingface.co/docs/xet/xorb)."""
    at = offset = 0
    while offset < size:
        end = at + 8 + int.from_bytes(xorb[at + 1 : at + 4], "little")
        length = int.from_bytes(xorb[at + 5 : at + 8], "little")
        yield Chunk(range(at, end), range(offset, offset + length))
        at, offset = end, offset + length
    assert offset == size


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    authorization: str | None


class XetStore:
    """The storage. Attributes may be set while it serves.

    Attributes:
        requests: all requests in order; ``bytes_sent`` of xorbs.
        pause_after: stop answering for xorbs once so many bytes of them are sent; ``paused`` is set then.
        expire_after: refuse the first token, and what was signed for it, once so many bytes are sent.
        damage: send a wrong byte in each range of a xorb.
    """

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.requests: list[Asked] = []
        self.bytes_sent = 0
        self.pause_after: int | None = None
        self.paused = threading.Event()
        self.expire_after: int | None = None
        self.damage = False
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"storage": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def resume(self) -> None:
        """Answer again, from now on."""
        self.pause_after = None

    def may_send(self, count: int) -> bool:
        """Count bytes of a xorb as sent; False, once the storage has ended, if it is to be silent."""
        with self._lock:
            if self.pause_after is None or self.bytes_sent + count <= self.pause_after:
                self.bytes_sent += count
                return True
        self.paused.set()
        self._ended.wait()
        return False

    def has_expired(self, token: str) -> bool:
        """Say whether a token, or what was signed for it, has run out."""
        return token == "xet-1" and self.expire_after is not None and self.bytes_sent >= self.expire_after

    def reconstruction(self, start: int, end: int, token: str) -> dict[str, object]:
        """Say of which chunks the bytes from ``start`` to ``end`` are made, and where those lie."""
        chunks = self.stored.chunks
        wanted = [n for n, it in enumerate(chunks) if it.unpacked.start < end and it.unpacked.stop > start]
        runs = [wanted[n : n + _TERM_CHUNKS] for n in range(0, len(wanted), _TERM_CHUNKS)]
        terms, places = [], []
        for run in runs:
            first, last, span = chunks[run[0]], chunks[run[-1]], {"start": run[0], "end": run[-1] + 1}
            length = last.unpacked.stop - first.unpacked.start
            terms.append({"hash": self.stored.xorb_hash, "unpacked_length": length, "range": span})
            packed = {"start": first.packed.start, "end": last.packed.stop - 1}
            url = f"{self.endpoint}/xorbs/{self.stored.xorb_hash}?X-Signature={token}-{run[0]}"
            places.append({"range": span, "url": url, "url_range": packed})
        offset = start - chunks[wanted[0]].unpacked.start
        return {"offset_into_first_range": offset, "terms": terms, "fetch_info": {self.stored.xorb_hash: places}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    storage: ClassVar[XetStore]

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        storage, stored = self.storage, self.storage.stored
        authorization = self.headers["Authorization"]
        storage.requests.append(Asked(self.command, self.path, authorization))
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        start, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, stored.size_bytes)
        url = urlsplit(self.path)
        if url.path == f"/v1/reconstructions/{stored.hash}":
            token = (authorization or "").removeprefix("Bearer ")
            if not token or storage.has_expired(token):
                return self._send(HTTPStatus.UNAUTHORIZED)
            return self._send(HTTPStatus.OK, dumps(storage.reconstruction(start, end, token)).encode())
        if url.path == f"/xorbs/{stored.xorb_hash}":
            token = parse_qs(url.query)["X-Signature"][0].rpartition("-")[0]
            if storage.has_expired(token):
                return self._send(HTTPStatus.FORBIDDEN)
            body = bytearray(stored.xorb[start:end])
            if storage.damage:
                body[-100] ^= 1
            if storage.may_send(len(body)):
                self._send(HTTPStatus.PARTIAL_CONTENT, bytes(body), f"bytes {start}-{end - 1}/{len(stored.xorb)}")
            return None
        return self._send(HTTPStatus.NOT_FOUND)

    def _send(self, status: HTTPStatus, body: bytes = b"", span: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body)
