"""How many connections to one host are worth having: pure, driven by a clock that is handed in.

It begins low and doubles while that pays: as long as all connections are busy and twice as many bring clearly more.
When more of them do not bring more, the line or the server is full: it goes back to what was enough, and then tries
one more and one fewer in turn, for lines change. One more stands if it brings half of a connection's share, and still
more are tried; one fewer if it costs less than that: so a rate that varies by itself leads down as often as up.

A server that says "too many" (429, 503) halves the limit, a connection that broke takes one away; what was taken
comes back the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

FIRST: Final = 4
_WINDOW_S: Final = 0.15
"""Long enough to see a rate, short enough that the doublings are over before a second has passed."""
_CALM_S: Final = 1.0
"""How long a window is once the doublings have ended: as long as the spans that are still under way at a change."""
_GAIN: Final = 0.15
"""What a change has to bring, however large it is."""


@dataclass(slots=True)
class Governor:
    """The limit of one host. Times are seconds of any steady clock."""

    most: int
    """The user's limit."""
    limit: int = field(init=False)
    shrunk: int = field(default=0, init=False)
    """How often the limit was taken down because something failed."""
    _since: float | None = field(default=None, init=False)
    _received: int = field(default=0, init=False)
    _starved: int = field(default=0, init=False)
    """Of ``_received``, how much came while somebody waited for a connection."""
    _before: tuple[int, float] | None = field(default=None, init=False)
    """The limit and the bytes a second that the present limit is compared with."""
    _doubling: bool = field(default=True, init=False)
    _step: int = field(default=1, init=False)
    _settling: bool = field(default=False, init=False)
    """Whether this window still has connections of the former limit in it."""

    def __post_init__(self) -> None:
        self.limit = min(FIRST, self.most)

    def received(self, count: int, now: float, *, starved: bool) -> bool:
        """Count bytes; say whether the limit has changed.

        Args:
            count: of bytes that have just come.
            now: the time.
            starved: whether somebody waits for a connection that the limit forbids.
        """
        if self._since is None:
            self._since = now
            return False
        self._received += count
        self._starved += count * starved
        elapsed = now - self._since
        if elapsed < (_WINDOW_S if self._doubling else _CALM_S):
            return False
        rate, was_starved = self._received / elapsed, 2 * self._starved > self._received
        self._since, self._received, self._starved = now, 0, 0
        if self._settling:
            self._settling = False
            return False
        return was_starved and self._judge(rate)

    def _judge(self, rate: float) -> bool:
        limit = self.limit
        if self._before is not None:
            base, its_rate = self._before
            more, fewer = (rate, its_rate) if limit > base else (its_rate, rate)
            share = abs(limit - base) / min(limit, base)
            pays = more >= fewer * (1 + min(share / 2, _GAIN))
            if pays != (limit > base):
                self._before, self._doubling, self._step = None, False, -1 if self._step > 0 else 1
                self._change(base)
                return True
            self._step = max(self._step * 2, -1)
        self._before = (limit, rate)
        if self._doubling:
            self._change(limit * 2)
        else:
            self._step = self._step if limit > FIRST else max(self._step, 1)
            self._change(max(limit + self._step, min(limit, FIRST)))
        return self.limit != limit

    def _change(self, limit: int) -> None:
        limit = min(limit, self.most)
        if limit == self.limit:
            self._before = None
        self.limit, self._settling = limit, not self._doubling

    def rest(self) -> None:
        """Say that no connection is left: what comes later is measured anew."""
        self._since, self._received, self._starved = None, 0, 0

    def too_many(self) -> None:
        """Say that the server asked for fewer."""
        self._shrink(self.limit // 2)

    def broke(self) -> None:
        """Say that a connection could not be had, or broke."""
        self._shrink(self.limit - 1)

    def _shrink(self, limit: int) -> None:
        self.limit, self._before, self._doubling, self._step = max(limit, 1), None, False, 1
        self.shrunk += 1
        self.rest()
