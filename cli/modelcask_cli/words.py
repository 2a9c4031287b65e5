"""Figures in words: sizes, rates, durations, ages. Pure, and the same wherever they are shown."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("kB", "MB", "GB", "TB", "PB", "EB")
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_YEAR: Final = 365 * _DAY
_COMMIT: Final = 40
_ALMOST_THOUSAND: Final = 999.95
_SHORT: Final = 12


def size(count: float | None) -> str:
    """Return bytes as ``512 B`` or ``4.2 GB`` (decimal units), ``?`` for None."""
    if count is None:
        return "?"
    if count < 1000:  # noqa: PLR2004 - the decimal unit
        return f"{count:.0f} B"
    value = count / 1000
    larger = iter(_UNITS)
    unit = next(larger)
    while value >= _ALMOST_THOUSAND and unit != _UNITS[-1]:  # it would be rounded to 1000.0
        value /= 1000
        unit = next(larger)
    return f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a length of time as ``0.4 s``, ``35 s``, ``4 min 10 s`` or ``2 h 5 min``."""
    if seconds < 10:  # noqa: PLR2004 - below that, tenths matter
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def age(at_us: int, now_us: int) -> str:
    """Return how long ago a time was, in the largest whole unit: ``now``, ``5 min``, ``3 d``. UTC microseconds."""
    seconds = max(now_us - at_us, 0) // 1_000_000
    for unit, length in (("y", _YEAR), ("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return "now"


def count(number: int, noun: str) -> str:
    """Return ``1 file`` or ``3 files``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def short_revision(revision: str) -> str:
    """Return enough of a revision to know it by: a commit's first 12 digits, else prefix and the first 12."""
    prefix, colon, rest = revision.rpartition(":")
    if len(rest) <= _SHORT or (not colon and len(rest) != _COMMIT):
        return shortened(revision, 24)
    return f"{prefix}{colon}{rest[:_SHORT]}"


def shortened(text: str, width: int) -> str:
    """Return text cut in its middle to ``width`` characters, so that both ends can be read."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"
