"""What of one file is still to be asked for, and by whom: pure bookkeeping, checked against a plain set of offsets.

Spans are handed out lowest first, so that the hash, which needs the bytes in order, trails close behind. When nothing
is left to hand out, whoever is idle takes over the far half of what somebody else has in front of him: the last
seconds of a file belong to its slowest connection otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelcask.ranges import ByteRange, RangeSet

ALIGNMENT_BYTES: Final = 1 << 20


@dataclass(slots=True, eq=False)
class Span:
    """Consecutive bytes that one request is to bring. ``end`` may come nearer while it runs."""

    start: int
    end: int
    position: int
    """The offset behind what has come."""

    @property
    def left(self) -> int:
        """How many bytes are still to come."""
        return self.end - self.position


class Work:
    """The missing bytes of a file of known size: each one is waiting, in exactly one span, or there."""

    def __init__(self, missing: RangeSet) -> None:
        self._waiting = missing.copy()
        self.spans: list[Span] = []
        """Those that are being fetched."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is missing and nobody is fetching."""
        return not self._waiting and not self.spans

    @property
    def missing_bytes(self) -> int:
        """How many bytes have not come yet."""
        return self._waiting.size_bytes + sum(span.left for span in self.spans)

    def take(self, size: int) -> Span | None:
        """Hand out the lowest waiting bytes, about ``size`` of them; None if none is waiting."""
        first = next(iter(self._waiting), None)
        if first is None:
            return None
        # Ends at whole blocks, and leaves no crumb behind that would cost a request of its own.
        end = max((first.start + size) // ALIGNMENT_BYTES * ALIGNMENT_BYTES, first.start + ALIGNMENT_BYTES)
        if end + size // 4 >= first.end:
            end = first.end
        return self._hand_out(first.start, end)

    def steal(self, least: int) -> Span | None:
        """Hand out the far half of the longest span of which both halves hold ``least`` bytes; None if none does."""
        longest = max(self.spans, key=lambda span: span.left, default=None)
        if longest is None or longest.left < 2 * least:
            return None
        middle = longest.position + longest.left // 2
        middle = max(middle // ALIGNMENT_BYTES * ALIGNMENT_BYTES, longest.position + least)
        end, longest.end = longest.end, middle
        self._waiting.add(middle, end)
        return self._hand_out(middle, end)

    def _hand_out(self, start: int, end: int) -> Span:
        self._waiting.remove(start, end)
        span = Span(start, end, start)
        self.spans.append(span)
        return span

    def put_back(self, span: Span) -> None:
        """Take a span back: what has come of it is there, the rest waits again. One that is void stays so."""
        if span in self.spans:
            self.spans.remove(span)
            self._waiting.add(span.position, span.end)

    def start_over(self, end: int) -> Span:
        """Void everything and hand out the whole file."""
        self._waiting = RangeSet()
        self.spans = [Span(0, end, 0)]
        return self.spans[0]

    def limit(self, end: int) -> None:
        """Say that the file ends at ``end``."""
        for span in self.spans:
            span.end = max(min(span.end, end), span.position)
        self._waiting = RangeSet(ByteRange(one.start, min(one.end, end)) for one in self._waiting)

    def miss(self, parts: RangeSet) -> None:
        """Say that bytes that were there have to come again."""
        for part in parts:
            self._waiting.add(part.start, part.end)
