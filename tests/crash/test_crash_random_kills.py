"""SIGKILL at random moments of a download in many ranges, then the same pull again: how little is fetched twice.

A chain is one file: its pull is killed up to three times, each time a random number of bytes further on or after the
last one, and then left to end. ``TEST_KILLS`` in the environment says how many kills there are to be, such as 200;
``-s`` shows each of them.

The bytes that are lost are counted where they arrive, in the killed process itself, and again at the server, which
also counts what still stood in the sockets.
"""

from __future__ import annotations

import filecmp
import http.client
import os
import random
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from blake3 import blake3

from asked import asked_for, overlap
from kill_jobs import find_lies, find_litter
from modelcask.catalog.rows import Outcome
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.ranges import ByteRange, RangeSet
from modelcask.store import ingest, journal, lanes
from origin import Origin
from pull_jobs import SMALL_BLOCK_BYTES, SMALL_SEGMENT_BYTES, Meter
from system.nginx import MISSING, Nginx
from zygote import Zygote, ended


@dataclass(frozen=True, slots=True)
class Served:
    """What a server has answered to one process."""

    asked: RangeSet
    bytes_sent: int


class Server(Protocol):
    """Where the file is."""

    url: str

    def served(self) -> Served:
        """Return what was served since the last call, once nobody is connected any more."""


@dataclass(frozen=True, slots=True)
class Size:
    """The measures of a campaign."""

    file: int
    segment: int
    block: int
    small: bool

    def may_be_unclaimed(self, connections: int) -> int:
        """Return how many bytes that were handed over to be written a death may cost at most.

        One segment a connection: the one that is not whole yet. Beyond that what is on its way to the disk: the last
        block of each, and the blocks that memory holds for all connections together.
        """
        return connections * (self.segment + self.block) + lanes.BLOCKS_IN_FLIGHT * self.block


BIG = Size(512 << 20, ingest.SEGMENT_BYTES, lanes.BLOCK_BYTES, small=False)
SMALL = Size(6 << 20, SMALL_SEGMENT_BYTES, SMALL_BLOCK_BYTES, small=True)


@dataclass(frozen=True, slots=True)
class Death:
    """What one kill has cost."""

    connections: int
    arrived_bytes: int
    unclaimed_bytes: int
    """What had been handed over to be written, and is not claimed."""
    lost_bytes: int
    """The same with what had only just arrived."""
    refetched_bytes: int
    """As the server counts: with what stood in the sockets."""
    was_whole: bool
    """Whether nothing was missing any more."""


class Campaign:
    """One file on one server, pulled into one root after the other."""

    def __init__(
        self, zygote: Zygote, new_root: Path, place: Path, *, server: Server, source: Path, size: Size, seed: int
    ) -> None:
        self._zygote = zygote
        self._new = new_root
        self._root = place / "chain"
        self._meter = Meter(place / "meter")
        self._server = server
        self._source = source
        self._size = size
        self._chance = random.Random(seed)
        self._job = (self._root, server.url, self._meter, size.small)
        self.deaths: list[Death] = []

    def run(self, kills: int) -> None:
        while len(self.deaths) < kills:
            shutil.rmtree(self._root, ignore_errors=True)
            shutil.copytree(self._new, self._root)
            opened = 0
            for _ in range(self._chance.randint(1, 3)):
                if not self._pull_and_kill():
                    break
                opened += self.deaths[-1].arrived_bytes > 0 and not self.deaths[-1].was_whole
            self._pull_to_the_end()
            self._check(opened)
        shutil.rmtree(self._root)
        self._tell()

    def _held(self) -> RangeSet:
        """Return the bytes that are rightly claimed: by our own reading of what lies on the disk."""
        held = RangeSet()
        for path in Layout(self._root).partials.glob("*/journal"):
            with (path.parent / "data").open("rb") as data:
                for claim in journal.read(path):
                    data.seek(claim.offset)
                    assert blake3(data.read(claim.length)).digest()[:16] == claim.check, "a claim is false"
                    held.add(claim.offset, claim.end)
        return held

    def _pull_and_kill(self) -> bool:
        """Return False if the pull has ended before."""
        before = self._held()
        missing = self._size.file - before.size_bytes
        moment = self._chance.uniform(0, 1.1) * missing
        pause_s = self._chance.uniform(0, 0.1)
        self._meter.reset()
        child = self._zygote.start("pull_jobs:pull_metered", *self._job)
        with ended(child):
            while self._meter.arrived_bytes < min(moment, missing):
                if self._zygote.ask("ended", child.pid) is not None:
                    break
                time.sleep(0.0002)
            if moment >= missing:
                time.sleep(pause_s)  # verifying, publishing, recording: with no bytes to go by
        if child.wait() >= 0:
            child.result()  # raises what it failed with
            self._server.served()
            return False
        served = self._server.served()
        after = self._held() if self._is_unfinished() else RangeSet([ByteRange(0, self._size.file)])
        gained = after.size_bytes - before.size_bytes
        death = Death(
            self._meter.connections,
            self._meter.arrived_bytes,
            self._meter.taken_bytes - gained,
            self._meter.arrived_bytes - gained,
            served.bytes_sent - gained,
            after.size_bytes == self._size.file,
        )
        print(death)  # noqa: T201 - the figures of a campaign
        self.deaths.append(death)
        assert overlap(served.asked, before) == 0, "what was held was asked for"
        assert overlap(before, after) == before.size_bytes, "what was claimed is claimed no more"
        assert death.unclaimed_bytes <= self._size.may_be_unclaimed(death.connections), death
        return True

    def _is_unfinished(self) -> bool:
        return any(Layout(self._root).partials.iterdir()) or not any(Layout(self._root).blobs.glob("*/*"))

    def _pull_to_the_end(self) -> None:
        held = self._held() if self._is_unfinished() else RangeSet([ByteRange(0, self._size.file)])
        missing = self._size.file - held.size_bytes
        self._meter.reset()
        self._zygote.run("pull_jobs:pull_metered", *self._job)
        served = self._server.served()
        assert overlap(served.asked, held) == 0, "what was held was asked for"
        assert self._meter.arrived_bytes == missing

    def _check(self, opened: int) -> None:
        with ModelCache(self._root) as cache:
            path = cache.lookup(self._server.url)
            assert path is not None
            assert filecmp.cmp(path, self._source, shallow=False), "wrong bytes"
            outcomes = [attempt.outcome for attempt in cache.list_attempts()]
        assert outcomes[0] is Outcome.DONE
        assert outcomes.count(Outcome.INTERRUPTED) >= opened
        assert set(outcomes) <= {Outcome.DONE, Outcome.INTERRUPTED}
        assert list((self._root / "partial").iterdir()) == []
        assert find_litter(self._root) == []
        if self._size.small:
            assert find_lies(self._root) == []

    def _tell(self) -> None:
        for name in ("unclaimed_bytes", "lost_bytes", "refetched_bytes"):
            figures = [getattr(death, name) for death in self.deaths]
            segments = [max(death.connections, 1) * self._size.segment for death in self.deaths]
            shares = [figure / whole for figure, whole in zip(figures, segments, strict=True)]
            print(  # noqa: T201
                f"{len(figures)} kills, {name}: median {statistics.median(figures):,.0f}, most {max(figures):,}; "
                f"in segments a connection: median {statistics.median(shares):.2f}, most {max(shares):.2f}"
            )


def kills(default: int) -> int:
    return int(os.environ.get("TEST_KILLS") or default)


class FromOrigin:
    """A few megabytes from the origin of the tests."""

    def __init__(self, origin: Origin, content: bytes) -> None:
        self._origin = origin
        self._size = len(content)
        self.url = origin.add("/m", content)
        self._seen = self._sent = 0

    def served(self) -> Served:
        while self._origin._connections:
            time.sleep(0.001)
        new = [request.asked for request in self._origin.requests[self._seen :] if request.method == "GET"]
        self._seen = len(self._origin.requests)
        before, self._sent = self._sent, self._origin.bytes_served
        return Served(asked_for(new, self._size), self._sent - before)


def test_a_ranged_download_that_is_killed_anywhere_goes_on(
    zygote: Zygote, new_root: Path, yard: Path, tmp_path: Path, seed: int
) -> None:
    """In small segments: the bytes are right in the end, what is claimed is not asked for again, and a death costs
    no more than one segment a connection and what memory holds."""
    content = random.Random(seed).randbytes(SMALL.file)
    source = tmp_path / "source"
    source.write_bytes(content)
    with Origin() as origin:
        server = FromOrigin(origin, content)
        Campaign(zygote, new_root, yard, server=server, source=source, size=SMALL, seed=seed).run(kills(8))


class FromNginx:
    """Half a gigabyte from nginx, which says when its last reader is gone."""

    def __init__(self, nginx: Nginx, size: int) -> None:
        self._nginx = nginx
        self._size = size
        self.url = f"{nginx.url}/m"

    def served(self) -> Served:
        while self._readers() > 1:
            time.sleep(0.002)
        new = [asked for asked in self._nginx.asked() if asked.path == "/m" and asked.method == "GET"]
        return Served(asked_for([asked.range for asked in new], self._size), sum(asked.body_bytes for asked in new))

    def _readers(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._nginx.port, timeout=60)
        connection.request("GET", "/readers")
        text = connection.getresponse().read().decode()
        connection.close()
        return int(text.split()[2])


@pytest.fixture
def large_place(yard: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder for a gigabyte and a half, in memory if that has so much room."""
    place = yard if shutil.disk_usage(yard).free > 4 << 30 else tmp_path
    folder = place / "large"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_half_a_gigabyte_that_is_killed_anywhere_goes_on(
    zygote: Zygote, new_root: Path, large_place: Path, seed: int
) -> None:
    """The same with segments as they are, over up to 16 connections."""
    rules = "location = /readers { stub_status; } location = /m { limit_rate 10m; }"
    with Nginx(large_place / "nginx", rules) as nginx:
        source = nginx.files / "m"
        block = random.Random(seed).randbytes(64 << 10)
        with source.open("wb") as file:
            for number in range(BIG.file // len(block)):
                file.write(number.to_bytes(8, "little") + block[8:])
        server = FromNginx(nginx, BIG.file)
        Campaign(zygote, new_root, large_place, server=server, source=source, size=BIG, seed=seed).run(kills(4))
