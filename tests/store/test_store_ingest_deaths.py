"""Whatever the order, the interruptions and the damage: what is held is right, and so is the file in the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from ingests import KEY, check, identity, opened
from modelcask.layout import Layout
from modelcask.ranges import ByteRange, RangeSet
from modelcask.store import journal
from modelcask.store.ingest import Ingest
from modelcask.store.sealed import discard_partial
from modelcask.types import Stream

pytestmark = pytest.mark.usefixtures("_clean", "_small")


@dataclass
class Attempt:
    """One process at work on the file: streams that come and go as ``chance`` has it."""

    sink: Ingest
    content: bytes
    chance: random.Random
    streams: list[tuple[Stream, int]] = field(default_factory=list)
    """With the end of each."""

    def _free(self) -> list[ByteRange]:
        """Return the ranges that nobody has brought or is about to bring."""
        taken = self.sink.held.copy()
        for stream, end in self.streams:
            taken.add(stream.position, end)
        return list(taken.gaps(len(self.content)))

    def _begin(self) -> None:
        free = self._free()
        if free:
            one = self.chance.choice(free)
            start = self.chance.choice([one.start, self.chance.randrange(one.start, one.end)])
            end = self.chance.choice([one.end, self.chance.randint(start + 1, one.end)])
            self.streams.append((self.sink.stream(start), end))

    async def _write(self) -> None:
        stream, end = self.chance.choice(self.streams)
        size = self.chance.choice([1, 10, 64, 100, 300])
        await stream.write(self.content[stream.position : min(stream.position + size, end)])
        if stream.position == end or self.chance.random() < 0.1:
            self._close(stream, end)

    def _close(self, stream: Stream, end: int) -> None:
        stream.close()
        self.streams.remove((stream, end))

    async def _take_back(self) -> None:
        for stream, end in list(self.streams):
            self._close(stream, end)
        if self.chance.random() < 0.3:
            await self.sink.restart()
            assert not self.sink.held
        elif self.sink.held:
            one = self.chance.choice(list(self.sink.held))
            start = self.chance.randrange(one.start, one.end)
            gone = ByteRange(start, self.chance.randint(start + 1, one.end))
            before = self.sink.held.copy()
            await self.sink.forget([gone])
            before.remove(gone.start, gone.end)
            assert self.sink.held == before

    async def work(self, steps: int) -> None:
        for _ in range(steps):
            dice = self.chance.random()
            if dice < 0.02:
                await self._take_back()
            elif dice < 0.2 or not self.streams:
                self._begin()
            else:
                await self._write()

    async def complete(self) -> None:
        while self.streams or self._free():
            await self.work(1)

    async def check_held(self) -> None:
        """Assert that each byte that is held is the right one."""
        folder = self.sink._partial._folder
        data = (folder / "data").read_bytes()
        for one in self.sink.held:
            assert data[one.start : one.end] == self.content[one.start : one.end]


def copy_as_killed(folder: Path, aside: Path) -> None:
    """Copy what a kill at this moment would leave; in this order, for a claim comes after what it is a claim of."""
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for name in ("journal", "meta", "data"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(folder / name, aside / name)


def spoil(folder: Path, chance: random.Random) -> None:
    """Do to what a killed process has left what a power cut may do."""
    log, data = folder / "journal", folder / "data"
    records, content = bytearray(log.read_bytes() if log.exists() else b""), bytearray(data.read_bytes())
    if chance.random() < 0.3:
        start = chance.randint(0, len(content))
        content[start:] = bytes(len(content) - start)
    for claim in journal.read(log):
        if chance.random() < 0.1:
            content[claim.offset + chance.randrange(claim.length)] ^= 1
    data.write_bytes(content)
    if records and chance.random() < 0.3:
        at = chance.randrange(0, len(records), 32)
        records[at : at + 32] = bytes(32)
    if chance.random() < 0.3:
        del records[chance.randint(0, len(records)) :]
    if log.exists():
        log.write_bytes(records)


def claimed(folder: Path) -> RangeSet:
    """Return what is claimed and true."""
    content = (folder / "data").read_bytes()
    return RangeSet(
        ByteRange(claim.offset, claim.end)
        for claim in journal.read(folder / "journal")
        if blake3(content[claim.offset : claim.end]).digest()[:16] == claim.check
    )


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    size=st.sampled_from([0, 1, 255, 256, 257]) | st.integers(0, 3000),
    ends=st.lists(st.sampled_from(["left", "killed", "spoiled"]), max_size=5),
    reserve=st.booleans(),
)
def test_the_file_is_right_whatever_became_of_its_attempts(  # noqa: PLR0917 - drawn
    layout: Layout, tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, ends: list[str], reserve: bool
) -> None:
    """Streams at random, left, killed or spoiled: what was claimed and not spoiled is held, and all of it is right."""
    chance = random.Random(seed)
    content = chance.randbytes(size)
    of = identity(content, "sha256", "md5")
    folder, aside = layout.partial(KEY), tmp_path_factory.mktemp("killed") / "partial"
    expected = RangeSet()

    async def attempt(end: str) -> None:
        nonlocal expected
        async with opened(layout, of, reserve=reserve) as sink:
            for one in expected:
                assert sink.held.end_of_run(one.start) >= one.end
            now = Attempt(sink, content, chance)
            await now.check_held()
            await now.work(chance.randint(0, 60))
            if end == "left":
                expected = sink.held.copy()
                return
            if chance.random() < 0.5:
                await sink.digest_of(ByteRange(0, 0))  # else what is in flight gets lost or not
            await asyncio.to_thread(copy_as_killed, folder, aside)
            await sink.drop()
        shutil.copytree(aside, folder)
        if end == "spoiled":
            spoil(folder, chance)
        expected = claimed(folder)

    async def finish() -> None:
        async with opened(layout, of, reserve=reserve) as sink:
            now = Attempt(sink, content, chance)
            await now.check_held()
            await now.complete()
            check(await sink.finish(), content)

    for end in ends:
        asyncio.run(attempt(end))
    asyncio.run(finish())
    discard_partial(folder)
