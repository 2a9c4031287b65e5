"""Figures in words."""

from __future__ import annotations

import pytest

from modelcask_cli import words

DAY_US = 86_400 * 1_000_000


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (4_200_000_000, "4.2 GB"),
        (5 * 10**24, "5000000.0 EB"),
    ],
)
def test_a_size_is_decimal_and_never_rounds_to_a_thousand(count: int | None, text: str) -> None:
    """One digit after the point, in the unit that keeps it below a thousand; the last unit takes all the rest."""
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.4, "9.4 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")],
)
def test_a_duration_has_the_two_units_that_matter(seconds: float, text: str) -> None:
    """Tenths below ten seconds, then whole seconds, minutes and hours."""
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("passed_us", "text"),
    [
        (-5, "now"),
        (59_999_999, "now"),
        (60_000_000, "1 min"),
        (3_600_000_000, "1 h"),
        (3 * DAY_US, "3 d"),
        (364 * DAY_US, "364 d"),
        (730 * DAY_US, "2 y"),
    ],
)
def test_an_age_is_the_largest_whole_unit(passed_us: int, text: str) -> None:
    """A clock that was set back makes nothing younger than now."""
    assert words.age(10**15, 10**15 + passed_us) == text


@pytest.mark.parametrize(
    ("revision", "text"),
    [
        ("0123456789abcdef0123456789abcdef01234567", "0123456789ab"),
        ("sha256:0123456789abcdef0123", "sha256:0123456789ab"),
        ("stat:12", "stat:12"),
        ("v1", "v1"),
        ("a-tag-that-is-longer-than-the-column", "a-tag-that-i…-the-column"),
    ],
)
def test_a_short_revision_can_still_be_known(revision: str, text: str) -> None:
    """A commit's or digest's first twelve digits; of anything else both ends."""
    assert words.short_revision(revision) == text


def test_one_is_not_a_plural() -> None:
    """Numbers agree with their nouns."""
    assert (words.count(1, "file"), words.count(1200, "file")) == ("1 file", "1,200 files")
