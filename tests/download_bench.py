"""What tests of one download share: the content, the settings, and a download with all that can be seen of it."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from behaviours import (
    CutAfter,
    Gate,
)
from memory_sink import MemorySink
from modelcask.config import Settings
from modelcask.digest import Digest
from modelcask.fetch.download import Network, download
from modelcask.fetch.gate import Gate as Pause
from modelcask.fetch.limiter import Limiter
from modelcask.fetch.lines import Lines
from modelcask.net.client import Client
from modelcask.types import HTTPLocation, Phase, RemoteFile
from origin import Origin, Script
from reply import etag_of

CONTENT = random.Random(3).randbytes(30_000)
SIZE = len(CONTENT)
SHA256 = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())
FILE = RemoteFile("m.gguf", SIZE, (), HTTPLocation(""), etag_of(CONTENT))
DEAD = CutAfter(0)
"""A head, and no byte of the body."""
SETTINGS = Settings(home=Path("unused"), retries=3, stall_timeout_s=60.0)


@dataclass
class Bench:
    """A download of ``CONTENT`` from a scripted origin, and all that can be seen of it."""

    origin: Origin
    sink: MemorySink = field(default_factory=MemorySink)
    waits: list[float] = field(default_factory=list)
    phases: list[tuple[Phase, str]] = field(default_factory=list)
    settings: Settings = SETTINGS
    file: RemoteFile = FILE
    pause: Pause | None = None

    def serve(self, script: Script = (), *, content: bytes = CONTENT, etag: str | None = "auto") -> None:
        url = self.origin.add("/m.gguf", content, behaviours=script, etag=etag)
        self.file = replace(self.file, location=HTTPLocation(url))

    async def download(self) -> int:
        async with Client(self.settings) as client:
            network = Network(
                client, Lines(self.settings.connections), Limiter(None), self.settings.retries, self._sleep
            )
            return await download(
                self.file,
                self.sink,
                network,
                report=lambda phase, message: self.phases.append((phase, message)),
                gate=self.pause,
            )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    @property
    def ranges(self) -> list[str | None]:
        """The Range of each request so far."""
        return [request.headers.get("Range") for request in self.origin.requests]


def open_gate() -> Gate:
    """Return a gate that holds nothing."""
    gate = Gate()
    gate.open()
    return gate
