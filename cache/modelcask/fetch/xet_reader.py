"""Reading from Xet storage: by hf_xet, in a process of its own.

hf_xet (1.6 to 1.8) offers no other way to hold to what modelcask promises:

* a read that waits for the network cannot be cancelled from outside: ``cancel`` raises "Already borrowed";
* a read that failed may end as if it were complete, and damaged content is not noticed: its bytes are counted by the
  caller, and held to the promised digests;
* importing it opens a log in the user's cache, and which certificates it trusts is told by the environment alone. Here
  both belong to a process that ends after the read.

A process holds up to half a GB: hf_xet reads ahead, in runs of up to 64 MB. So there is one at a time, which fills the
line by itself. What it does on the way is its own: it asks the storage, and the servers that the storage names, and
which addresses those may have is not judged by ``net.policy``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from modelcask.config import Settings
from modelcask.errors import ConnectionInterruptedError
from modelcask.printable import display
from modelcask.ranges import ByteRange

_CHILD: Final = Path(__file__).with_name("xet_child.py")
_CHUNK_BYTES: Final = 1 << 20
_READ_AHEAD: Final = "64mb"
_MOST_TOLD: Final = 300
_QUERY: Final = re.compile(r"\?[^\s\"')]*")


@dataclass(frozen=True, slots=True)
class Access:
    """What a Hub gives to read one repository's files from the storage, for a while."""

    endpoint: str
    token: str = field(repr=False)
    expires_at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes of which file."""

    name: str
    """For messages."""
    hash: str
    size_bytes: int
    """Of the whole file."""
    span: ByteRange


class XetReader:
    """Reads parts of files, one at a time. Used on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = asyncio.Semaphore(1)

    @property
    def is_installed(self) -> bool:
        """Whether there is an hf_xet, and a Python to run it."""
        return importlib.util.find_spec("hf_xet") is not None and bool(sys.executable)

    @asynccontextmanager
    async def read(self, part: Part, access: Access) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the chunks of a part, in order; not more than asked for. Its process ends with the block.

        Whoever takes them slowly is read for slowly: only hf_xet's buffer runs ahead.

        Raises:
            ConnectionInterruptedError: from the iterator, or at once: hf_xet failed, or ended before the last byte.
        """
        async with self._turn:
            process = await self._start(part, access)
            try:
                yield _chunks(part, process)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.communicate()

    async def _start(self, part: Part, access: Access) -> asyncio.subprocess.Process:
        job = {
            "import_from": sys.path,
            "endpoint": access.endpoint,
            "token": access.token,
            "expires_at": access.expires_at,
            "hash": part.hash,
            "size": part.size_bytes,
            "start": part.span.start,
            "end": part.span.end,
        }
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # else the modules beside the script would hide those of the same name
                str(_CHILD),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_CHUNK_BYTES,
                env=environment(self._settings, os.environ),
                start_new_session=True,  # a Ctrl-C is ours to act upon
            )
        except OSError as error:
            raise ConnectionInterruptedError(
                f"{display(part.name)}: no process for hf_xet can be started ({error.strerror}); try again later"
            ) from error
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        process.stdin.write(json.dumps(job).encode() + b"\n")
        return process


async def _chunks(part: Part, process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    assert process.stderr is not None  # noqa: S101 - as above
    left = part.span.size_bytes
    while left and (chunk := await process.stdout.read(min(left, _CHUNK_BYTES))):
        left -= len(chunk)
        yield chunk
    if left:
        lines = (await process.stderr.read()).decode(errors="replace").splitlines()
        # Signed URLs may stand in what it says.
        why = display(_QUERY.sub("", lines[-1])[:_MOST_TOLD]) if lines else "without saying why"
        raise ConnectionInterruptedError(
            f"{display(part.name)}: hf_xet ended {left:,} bytes early ({why}); pull again to go on from there"
        )


def environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of hf_xet: proxies and its own settings as the user has them, and no token of ours."""
    limits = {
        "HF_XET_CLIENT_CONNECT_TIMEOUT": f"{settings.connect_timeout_s * 1000:.0f}ms",
        "HF_XET_CLIENT_READ_TIMEOUT": f"{settings.stall_timeout_s * 1000:.0f}ms",
        "HF_XET_CLIENT_RETRY_BASE_DELAY": "1s",
        "HF_XET_CLIENT_AC_INITIAL_DOWNLOAD_CONCURRENCY": str(min(settings.connections, 4)),
        "HF_XET_CLIENT_AC_MAX_DOWNLOAD_CONCURRENCY": str(settings.connections),
        "HF_XET_RECONSTRUCTION_DOWNLOAD_BUFFER_SIZE": _READ_AHEAD,
        "HF_XET_RECONSTRUCTION_DOWNLOAD_BUFFER_PERFILE_SIZE": _READ_AHEAD,
        "HF_XET_RECONSTRUCTION_DOWNLOAD_BUFFER_LIMIT": _READ_AHEAD,
    }
    users = {name: value for name, value in inherited.items() if "TOKEN" not in name}
    fixed = {
        "HF_XET_TELEMETRY_ENABLED": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_XET_CHUNK_CACHE_SIZE_BYTES": "0",  # the store is the cache
        "HF_XET_LOG_DEST": os.devnull,
    }
    if settings.ca_file is not None:
        fixed |= {"SSL_CERT_FILE": str(settings.ca_file), "SSL_CERT_DIR": os.devnull}
    # No proxy can reach what listens on this machine's loopback.
    for name in ("NO_PROXY", "no_proxy"):
        fixed[name] = ",".join(filter(None, [users.get(name), "localhost", "127.0.0.1", "::1"]))
    return limits | users | fixed
