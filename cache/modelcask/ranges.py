"""Which bytes of a file: half-open ranges and sets of them. Pure, and small enough to be checked against ``set``."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """The bytes from ``start`` up to, not including, ``end``; never empty."""

    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        """How many bytes it holds."""
        return self.end - self.start


class RangeSet:
    """A set of byte offsets, kept as its sorted ranges, which neither overlap nor touch. Not safe for threads."""

    __slots__ = ("_ends", "_starts", "size_bytes")

    def __init__(self, ranges: Iterable[ByteRange] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.size_bytes = 0
        """How many bytes are in it."""
        for one in ranges:
            self.add(one.start, one.end)

    def __iter__(self) -> Iterator[ByteRange]:
        return map(ByteRange, self._starts, self._ends)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] # it changes

    def __repr__(self) -> str:
        return f"RangeSet({[f'{one.start}-{one.end}' for one in self]})"

    def copy(self) -> Self:
        """Return a set of its own with the same bytes."""
        return type(self)(self)

    def add(self, start: int, end: int) -> None:
        """Put bytes in, whether or not they are there."""
        if start >= end:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if last == first + 1 and self._ends[first] == start:
            self._ends[first] = end  # what follows a run: by far the most frequent
            self.size_bytes += end - start
            return
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._splice(first, last, [(start, end)])

    def remove(self, start: int, end: int) -> None:
        """Take bytes out, whether or not they are there."""
        if start >= end:
            return
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if first < last:
            left, right = (self._starts[first], start), (end, self._ends[last - 1])
            self._splice(first, last, [part for part in (left, right) if part[0] < part[1]])

    def _splice(self, first: int, last: int, parts: list[tuple[int, int]]) -> None:
        gone = sum(self._ends[first:last]) - sum(self._starts[first:last])
        self._starts[first:last] = [start for start, _ in parts]
        self._ends[first:last] = [end for _, end in parts]
        self.size_bytes += sum(end - start for start, end in parts) - gone

    def end_of_run(self, offset: int) -> int:
        """Return where the bytes that follow ``offset`` without a gap end; ``offset`` itself if it is not in."""
        at = bisect_right(self._starts, offset) - 1
        return max(offset, self._ends[at]) if at >= 0 else offset

    def gaps(self, end: int) -> Self:
        """Return the bytes from 0 to ``end`` that are not in it."""
        rest = type(self)([ByteRange(0, end)] if end > 0 else ())
        for one in self:
            rest.remove(one.start, one.end)
        return rest
