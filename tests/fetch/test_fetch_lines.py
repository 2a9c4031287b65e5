"""Who gets a connection, and when: permits that are bounded, ordered and never lost; the rate limit; the pause."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcask.fetch.gate import Gate
from modelcask.fetch.governor import FIRST
from modelcask.fetch.limiter import Limiter
from modelcask.fetch.lines import HOSTS_AT_ONCE, Line, Lines


class Users:
    """Tasks that hold connections until they are told to let go."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.running: list[str] = []
        self.most = 0
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def start(self, name: str, host: str = "host", order: int = 0) -> None:
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._use(name, host, order))
        await settle()

    async def _use(self, name: str, host: str, order: int) -> None:
        async with self.lines.line(host, order):
            self.running.append(name)
            self.most = max(self.most, len(self.running))
            try:
                await self._ends[name].wait()
            finally:
                self.running.remove(name)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settle()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


@contextlib.asynccontextmanager
async def users(most: int = 16) -> AsyncIterator[Users]:
    some = Users(Lines(most))
    try:
        yield some
    finally:
        await some.close()


async def settle() -> None:
    """Let everybody do what he can do now."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_host_has_so_many_connections() -> None:
    """As many as its governor allows run; the next one waits until one is free."""
    async with users() as some:
        for number in range(FIRST + 1):
            await some.start(str(number))
        assert some.running == [str(number) for number in range(FIRST)]

        await some.end("1")

        assert some.running[-1] == str(FIRST)


async def test_the_users_limit_holds() -> None:
    """One connection allowed is one connection."""
    async with users(1) as some:
        await some.start("a")
        await some.start("b")
        assert some.running == ["a"]


async def test_another_host_has_its_own() -> None:
    """A host that is busy holds up nobody else."""
    async with users() as some:
        for number in range(FIRST + 1):
            await some.start(str(number))

        await some.start("other", "elsewhere")

        assert "other" in some.running


async def test_all_hosts_together_are_bounded() -> None:
    """However many hosts there are, connections do not run out."""
    async with users(1) as some:
        for number in range(HOSTS_AT_ONCE + 2):
            await some.start(str(number), f"host {number}")
        assert len(some.running) == HOSTS_AT_ONCE

        await some.end("0")

        assert len(some.running) == HOSTS_AT_ONCE


async def test_the_earliest_file_comes_first() -> None:
    """Whoever waits is served by the order of the files, and among equals by that of their coming."""
    async with users(1) as some:
        await some.start("first")
        for name, order in [("c", 3), ("a", 1), ("b", 2), ("a again", 1)]:
            await some.start(name, order=order)
        served = []
        for _ in range(4):
            await some.end(some.running[0])
            served += some.running

        assert served == ["a", "a again", "b", "c"]


async def test_cancelling_a_wait_frees_the_place() -> None:
    """Who does not wait any more is passed over."""
    async with users(1) as some:
        await some.start("first")
        await some.start("cancelled")
        await some.start("last")
        await some.cancel("cancelled")

        await some.end("first")

        assert some.running == ["last"]


async def test_cancelling_at_the_moment_of_getting_it_loses_no_permit() -> None:
    """The permit is given, the task has not run yet, and is cancelled: the next one has it."""
    async with users(1) as some:
        async with some.lines.line("host", 0):
            await some.start("cancelled")
            await some.start("last")
        assert not some.tasks["cancelled"].done()

        await some.cancel("cancelled")  # nothing has run since the permit was given

        assert some.running == ["last"]


async def test_what_fails_side_by_side_fails_once() -> None:
    """Four connections that a server drops at the same moment are one sign, not four."""
    lines = Lines(16)
    async with contextlib.AsyncExitStack() as stack:
        held: list[Line] = [await stack.enter_async_context(lines.line("host", 0)) for _ in range(FIRST)]
        governor = lines._hosts["host"].governor
        for line in held:
            line.too_many()
        assert governor.limit == FIRST // 2
        for line in held:
            line.broke()
        assert governor.limit == FIRST // 2


async def test_more_are_given_away_when_more_are_worth_having() -> None:
    """Bytes that come raise the limit, and whoever waits has his connection at once."""
    now = 0.0
    lines = Lines(16, clock=lambda: now)
    some = Users(lines)
    async with lines.line("host", 0) as line:
        for number in range(FIRST):
            await some.start(str(number))
        assert len(some.running) == FIRST - 1
        for _ in range(3):
            now += 0.2
            line.received(1_000_000)
        await settle()
        assert len(some.running) == FIRST
    await some.close()


_STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "start", "end", "cancel"]), st.integers(0, 9), st.sampled_from("abcdef")),
    max_size=40,
)


@given(most=st.integers(1, 5), steps=_STEPS)
async def test_no_permit_is_lost_or_made(most: int, steps: list[tuple[str, int, str]]) -> None:
    """Whatever is started, ended and cancelled: nobody waits while a place is free, and no bound is broken."""
    async with users(most) as some:
        host_of: dict[str, str] = {}
        for number, (step, which, host) in enumerate(steps):
            if step == "start":
                host_of[str(number)] = host
                await some.start(str(number), host, which)
            elif host_of:
                name = list(host_of)[which % len(host_of)]
                del host_of[name]
                await (some.end(name) if step == "end" else some.cancel(name))
            running = {name for name in some.running if name in host_of}
            a_host = min(most, FIRST)
            by_host = {host: sum(host_of[name] == host for name in running) for host in host_of.values()}
            assert all(count <= a_host for count in by_host.values())
            assert len(running) <= most * HOSTS_AT_ONCE
            if len(running) < most * HOSTS_AT_ONCE:
                waiting = set(host_of) - running
                assert all(by_host[host_of[name]] == a_host for name in waiting)


class Clock:
    """Time that passes only by sleeping, or by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def read(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.mark.parametrize("chunk", [1, 1000, 64_000, 2_000_000])
async def test_all_transfers_together_keep_the_rate(chunk: int) -> None:
    """A second's worth of bytes takes a second, whatever their pieces, but for a tenth of it at the start."""
    clock = Clock()
    limiter = Limiter(1_000_000, clock=clock.read, sleep=clock.sleep)
    count = max(3_000_000 // chunk, 2) if chunk > 1 else 300_000

    for _ in range(count):
        await limiter.take(chunk)

    assert clock.now - 100 == pytest.approx(count * chunk / 1_000_000 - 0.1, abs=0.01)


async def test_time_that_nobody_used_is_not_saved_up() -> None:
    """After an hour of silence there is a tenth of a second's worth at once, and no more."""
    clock = Clock()
    limiter = Limiter(1000, clock=clock.read, sleep=clock.sleep)
    await limiter.take(100)
    assert clock.now == 100
    clock.now += 3600

    await limiter.take(1100)

    assert clock.now == pytest.approx(3701)


async def test_the_debt_is_common() -> None:
    """Who comes while another one still waits for his bytes waits for both."""
    clock = Clock()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    limiter = Limiter(1000, clock=clock.read, sleep=sleep)

    for _ in range(3):
        await limiter.take(1000)

    assert waits == pytest.approx([0.9, 1.9, 2.9])
    assert all(later > earlier for earlier, later in pairwise(waits))


async def test_no_limit_holds_nobody() -> None:
    """Without a limit nothing is counted, and nobody sleeps."""
    clock = Clock()
    limiter = Limiter(None, clock=clock.read, sleep=clock.sleep)

    await limiter.take(1 << 40)

    assert clock.now == 100


async def test_a_gate_holds_everybody_until_it_opens() -> None:
    """Open at first; shut, it is passed by nobody; opened, by all who wait."""
    gate = Gate()
    await gate.passed()
    gate.shut()
    assert gate.is_shut
    passing = [asyncio.create_task(gate.passed()) for _ in range(3)]
    await settle()
    assert not any(task.done() for task in passing)

    gate.open()
    await asyncio.gather(*passing)

    assert not gate.is_shut
