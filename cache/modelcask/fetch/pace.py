"""Who is too slow, and whom to ask instead: pure, from bytes and times that are handed in.

A place's speed is that of one connection to it. What a connection brings is looked at in windows; one that brings far
less than its place's others, or than another place would, is ended, so that its bytes are asked for anew: a stuck
connection or a mirror that drips would hold up the whole file otherwise. As long as a transfer has long to go, each
place that nobody has tried yet is tried with one connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

WINDOW_S: Final = 5.0
_FAR: Final = 10
"""A connection that is so many times slower than another would be is ended."""
_BETTER: Final = 3
"""A place that is so many times faster than the preferred one is preferred to it."""
_LONG_S: Final = 30.0


class Measured(Protocol):
    """A place, with its speed in bytes a second of one connection; None: not tried yet."""

    speed: float | None


_P = TypeVar("_P", bound=Measured)


@dataclass(slots=True)
class Watch:
    """One connection's window."""

    since: float
    position: int

    def measure(self, position: int, now: float) -> float | None:
        """Return the bytes a second of a window that has ended, and begin the next one; None while it is open."""
        elapsed = now - self.since
        if elapsed < WINDOW_S:
            return None
        rate = (position - self.position) / elapsed
        self.since, self.position = now, position
        return rate


def take_note(place: Measured, rate: float) -> None:
    """Let what a connection has brought count for its place: half of it, for places change."""
    place.speed = rate if place.speed is None else (place.speed + rate) / 2


def is_far_behind(rate: float, places: Sequence[Measured]) -> bool:
    """Say whether a connection would do far better if it were made anew, to any of the places."""
    return rate * _FAR < max((place.speed or 0.0 for place in places), default=0.0)


def to_try(preferred: Measured, places: Sequence[_P], *, missing_bytes: int, connections: int) -> _P | None:
    """Return a place that is worth a try, because the preferred one would still take long; None if none is."""
    if preferred.speed is None or missing_bytes < preferred.speed * connections * _LONG_S:
        return None
    return next((place for place in places if place.speed is None), None)


def preferred(places: Sequence[_P]) -> _P:
    """Return the first of the places, unless another one is known to be far faster."""
    first = places[0]
    best = max(places, key=lambda place: place.speed or 0.0)
    return best if first.speed is not None and (best.speed or 0.0) > _BETTER * first.speed else first
