"""Which bytes of a file a server was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable

from modelcask.ranges import RangeSet

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def asked_for(fields: Iterable[str], size: int) -> RangeSet:
    """Return the bytes that requests with these Range fields ask for, of a file of ``size`` bytes; all if empty."""
    asked = RangeSet()
    for field in fields:
        match = _RANGE.fullmatch(field)
        asked.add(int(match[1]) if match else 0, int(match[2]) + 1 if match and match[2] else size)
    return asked


def overlap(some: RangeSet, others: RangeSet) -> int:
    """Return how many bytes are in both."""
    rest = some.copy()
    for one in others:
        rest.remove(one.start, one.end)
    return some.size_bytes - rest.size_bytes
