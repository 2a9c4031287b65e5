"""How many connections are worth having, on lines that are simulated: no socket, no clock."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from modelcask.fetch.governor import FIRST, Governor

MB = 1_000_000
_TICK_S = 0.01

Line = Callable[[int], float]
"""Bytes a second that so many connections bring together."""


def by_connection(bytes_per_s: float) -> Line:
    """A server that holds each connection to a rate."""
    return lambda connections: connections * bytes_per_s


def in_all(bytes_per_s: float, each: float = float("inf")) -> Line:
    """A line that holds all connections together to a rate, and perhaps each of them to another."""
    return lambda connections: min(connections * each, bytes_per_s)


def crowded(best: int) -> Line:
    """A server that does less the more it is asked beyond ``best``."""
    return lambda connections: MB * (connections if connections <= best else max(best - (connections - best), 1))


def run(
    governor: Governor, line: Line, seconds: float, *, noise: float = 0.0, seed: int = 1, since: float = 0.0
) -> list[int]:
    """Let bytes come, always with somebody who waits for a connection; return the limits at each tick."""
    dice, limits = random.Random(seed), []
    for tick in range(1, round(seconds / _TICK_S) + 1):
        rate = line(governor.limit) * max(dice.gauss(1, noise), 0)
        governor.received(round(rate * _TICK_S), since + tick * _TICK_S, starved=True)
        limits.append(governor.limit)
    return limits


def share(limits: list[int], line: Line, most: int) -> float:
    """Return what of the best rate these limits bring on average."""
    best = max(line(limit) for limit in range(1, most + 1))
    return sum(line(limit) for limit in limits) / len(limits) / best


LINES = {
    "each connection is slow": (by_connection(MB), 16, 16, 16),
    "each connection is slow, and many are allowed": (by_connection(MB), 64, 64, 64),
    "one connection fills the line": (in_all(100 * MB), 16, 1, FIRST + 2),
    "a few connections fill the line": (in_all(60 * MB, 10 * MB), 16, 5, 9),
    "some connections fill the line, and many are allowed": (in_all(100 * MB, 10 * MB), 64, 8, 14),
    "a fast line": (in_all(1000 * MB, 500 * MB), 16, 1, FIRST + 2),
    "too many are slower than some": (crowded(8), 16, 6, 10),
}
ROWS = [(line, most, least, end, noise) for line, most, least, end in LINES.values() for noise in (0.0, 0.3)]
IDS = [f"{name}{', with noise' * (noise > 0)}" for name in LINES for noise in (0.0, 0.3)]


@pytest.mark.parametrize(("line", "most", "least", "end", "noise"), ROWS, ids=IDS)
def test_the_line_is_filled_with_no_more_than_it_takes(
    *, line: Line, most: int, least: int, end: int, noise: float
) -> None:
    """Near the best rate within ten seconds, there for minutes, and with about as many connections as that needs."""
    for seed in range(5):
        governor = Governor(most)
        start = run(governor, line, 10.0, noise=noise, seed=seed)
        rest = run(governor, line, 120.0, noise=noise, seed=seed, since=10.0)

        assert share(start[-400:], line, most) >= 0.85
        assert share(rest, line, most) >= 0.85
        assert least <= sum(rest[-6000:]) / 6000 <= end


@pytest.mark.parametrize("most", [16, 64])
def test_a_server_that_holds_each_connection_to_a_rate_is_soon_asked_by_many(most: int) -> None:
    """The doublings are over before a second has passed, for then they pay most."""
    assert run(Governor(most), by_connection(MB), 1.0)[-1] == most


def test_it_begins_low() -> None:
    """A server is not met with everything at once, and never with more than the user allows."""
    assert Governor(16).limit == FIRST
    assert Governor(2).limit == 2
    assert max(run(Governor(2), by_connection(MB), 30)) == 2


def test_a_line_that_widens_is_noticed() -> None:
    """What was enough once may be too few later: attempts go on, and grow while they pay."""
    governor = Governor(16)
    run(governor, in_all(4 * MB, MB), 20)
    assert governor.limit <= FIRST + 1

    limits = run(governor, by_connection(MB), 40, since=20)

    assert limits[-1] == 16


def test_a_line_that_narrows_is_noticed() -> None:
    """Connections that have ceased to bring anything are given back."""
    governor = Governor(64)
    run(governor, in_all(30 * MB, MB), 30)
    assert governor.limit >= 16

    limits = run(governor, in_all(5 * MB, MB), 120, since=30)

    assert sum(limits[-2000:]) / 2000 <= 16


def test_nothing_is_learned_while_nobody_waits() -> None:
    """Few files in front of it say nothing about how many connections a host could carry."""
    governor = Governor(16)

    for tick in range(1000):
        assert not governor.received(MB, tick * _TICK_S, starved=False)

    assert governor.limit == FIRST


def test_a_pause_is_no_slow_line() -> None:
    """The time without any connection counts for nothing."""
    governor = Governor(16)
    run(governor, by_connection(MB), 0.2)
    assert governor.limit == 8

    governor.rest()
    run(governor, by_connection(MB), 0.3, since=60)

    assert governor.limit == 16


def test_too_many_halves_and_a_break_takes_one_away() -> None:
    """Down to a single connection, and no further."""
    governor = Governor(16)
    run(governor, by_connection(MB), 1)
    limits = []
    for fail in [governor.too_many, governor.broke, governor.too_many, *[governor.broke] * 4, governor.too_many]:
        fail()
        limits.append(governor.limit)

    assert limits == [8, 7, 3, 2, 1, 1, 1, 1]


def test_what_was_taken_comes_back() -> None:
    """After a bad moment the limit grows again where that pays, and stays where it does not."""
    for line, least, most in [(by_connection(MB), 16, 16), (in_all(3 * MB, MB), 2, FIRST + 1)]:
        governor = Governor(16)
        run(governor, line, 1)
        for _ in range(5):
            governor.too_many()

        limits = run(governor, line, 60, since=1)

        assert least <= limits[-1] <= most


def test_the_limit_stays_within_its_bounds() -> None:
    """Whatever comes, at least one connection, and at most as many as the user allows."""
    for seed in range(20):
        dice = random.Random(seed)
        most = dice.choice([1, 2, 3, 5, 16])
        governor, now = Governor(most), 0.0
        for _ in range(2000):
            now += dice.expovariate(20)
            match dice.randrange(50):
                case 0:
                    governor.too_many()
                case 1:
                    governor.broke()
                case 2:
                    governor.rest()
                case _:
                    governor.received(dice.randrange(MB), now, starved=dice.random() < 0.7)
            assert 1 <= governor.limit <= most
