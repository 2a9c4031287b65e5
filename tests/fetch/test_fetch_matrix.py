"""Every way to misbehave, for all that a source may promise: no wrong byte in any cell of ``server_table``.

Each behaviour meets a transfer that has nothing at hand, one that goes on from a beginning, one that fills holes, and
those that fetch several ranges at a time.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from memory_sink import MemorySink
from modelcask.config import Settings
from modelcask.errors import CacheError
from modelcask.fetch.download import Network, download
from modelcask.fetch.limiter import Limiter
from modelcask.fetch.lines import Lines
from modelcask.net.client import Client
from modelcask.types import HTTPLocation, Phase, RemoteFile
from origin import TLS_MISSING, Origin
from server_table import (
    CONTENT,
    LONGER,
    MIXED,
    MODES,
    OTHER,
    PROMISES,
    RIGHT,
    SHORTER,
    TABLE,
    TINY,
    TOLD,
    UNSEEN,
    WHOLE,
    Row,
)

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Cell:
    """One promise in one mode."""

    promise: str
    mode: str

    def wanted(self, row: Row) -> list[str]:
        """Return the outcomes that its row allows it."""
        outcomes = row.expected[self.promise]
        if self.is_ranged:
            outcomes = row.ranged.get(self.promise, outcomes)
        if not isinstance(outcomes, str):
            outcomes = outcomes[min(len(MODES[self.mode]), len(outcomes) - 1)]
        return outcomes.split("|")

    @property
    def is_ranged(self) -> bool:
        return self.mode.startswith("ranged")


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if not row.ranges_only])
async def test_no_server_makes_a_wrong_file(origin: Origin, name: str) -> None:
    """Each cell ends in right bytes or in the typed error of the table; never in a mixture of two objects."""
    await _play(origin, name, ["fresh", "resumed", "holed"])


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.usefixtures("small_spans")
async def test_no_server_makes_a_wrong_file_of_many_ranges(origin: Origin, name: str) -> None:
    """The same where several connections fetch spans of the file side by side."""
    await _play(origin, name, ["ranged", "ranged, holed"])


@pytest.mark.skipif(TLS_MISSING is not None, reason=str(TLS_MISSING))
@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.host is None][::4])
@pytest.mark.usefixtures("small_spans")
async def test_tls_changes_no_outcome(tls_origin: Origin, name: str) -> None:
    """A share of the rows over TLS."""
    await _play(tls_origin, name, ["ranged", "ranged, holed"])


def test_table_is_as_large_as_promised() -> None:
    """At least forty-five behaviours, whatever is at hand and promised."""
    assert len([name for name, row in TABLE.items() if not row.ranges_only]) >= 45
    assert len(TABLE) >= 90


async def _play(origin: Origin, name: str, modes: list[str]) -> None:
    row = TABLE[name]
    settings = Settings(
        home=Path("unused"),
        retries=3,
        stall_timeout_s=0.3 if "stall" in name else 60.0,
        ca_file=origin.ca_file if origin.url.startswith("https") else None,
    )
    cells = [Cell(promise, mode) for promise in PROMISES for mode in modes]
    origin.add("/elsewhere", CONTENT)
    hurried = {"clock": lambda: time.monotonic() * 200} if "drip" in name else {}
    async with Client(settings, **hurried) as client:

        async def outcome(cell: Cell) -> str:
            path = f"/{next(_numbers)}/{cell.promise}.gguf"  # late requests of another cell do not count here
            url = origin.add(path, CONTENT, behaviours=row.script)
            url = url if row.host is None else url.replace("127.0.0.1", row.host)
            network = Network(client, Lines(16), Limiter(None), settings.retries, _no_sleep)
            file = replace(PROMISES[cell.promise], location=HTTPLocation(url))
            if cell.is_ranged:
                file = replace(file, size_bytes=len(CONTENT))
            return await _outcome(file, cell.mode, network)

        found = dict(zip(cells, await asyncio.gather(*(outcome(cell) for cell in cells)), strict=True))
    surprises = {cell: outcome for cell, outcome in found.items() if outcome not in cell.wanted(row)}

    assert not surprises
    assert MIXED not in found.values()


async def _outcome(file: RemoteFile, mode: str, network: Network) -> str:
    sink = MemorySink({one.start: CONTENT[one.start : one.end] for one in MODES[mode]})
    try:
        async with asyncio.timeout(30):
            await download(file, sink, network, report=_ignore)
    except CacheError as error:
        return type(error).__name__
    finally:
        assert not sink.open_streams
    assert sink.is_whole
    if sink.content == CONTENT:
        return RIGHT
    if file.digests:
        return TOLD  # the store hashes what came and finds out
    if sink.content in {OTHER, LONGER, SHORTER, TINY}:
        return WHOLE
    flipped = bytes(byte ^ (0xFF * (offset == 14_000)) for offset, byte in enumerate(CONTENT))
    return UNSEEN if sink.content == flipped else MIXED


def _ignore(phase: Phase, message: str) -> None: ...


async def _no_sleep(seconds: float) -> None: ...
