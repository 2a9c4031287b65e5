"""A set of ranges is the set of its offsets: whatever is done to it, a plain ``set`` says the same."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcask.ranges import ByteRange, RangeSet

END = 24
offsets = st.integers(0, END)
pairs = st.tuples(offsets, offsets)
changes = st.lists(st.tuples(st.sampled_from(["add", "remove"]), offsets, offsets), max_size=12)


def both(steps: list[tuple[str, int, int]]) -> tuple[RangeSet, set[int]]:
    """Do the same to a set of ranges and to a plain set."""
    ranges, plain = RangeSet(), set[int]()
    for verb, start, end in steps:
        if verb == "add":
            ranges.add(start, end)
            plain |= set(range(start, end))
        else:
            ranges.remove(start, end)
            plain -= set(range(start, end))
    return ranges, plain


def offsets_of(ranges: RangeSet) -> set[int]:
    return {offset for one in ranges for offset in range(one.start, one.end)}


@given(changes)
def test_it_holds_what_a_plain_set_holds(steps: list[tuple[str, int, int]]) -> None:
    """Sorted, not empty, neither overlapping nor touching; its size is the number of offsets."""
    ranges, plain = both(steps)
    assert offsets_of(ranges) == plain
    assert ranges.size_bytes == len(plain) == sum(one.size_bytes for one in ranges)
    assert bool(ranges) is bool(plain)
    found = list(ranges)
    assert all(one.start < one.end for one in found)
    assert all(before.end < after.start for before, after in itertools.pairwise(found))


@given(changes, offsets)
def test_the_end_of_a_run_is_the_first_offset_that_is_missing(steps: list[tuple[str, int, int]], start: int) -> None:
    """From any offset on, in it or not."""
    ranges, plain = both(steps)
    expected = start
    while expected in plain:
        expected += 1
    assert ranges.end_of_run(start) == expected


@given(changes, offsets)
def test_gaps_are_what_is_missing(steps: list[tuple[str, int, int]], end: int) -> None:
    """Up to an end before, inside or behind it; the set itself stays as it is."""
    ranges, plain = both(steps)
    assert offsets_of(ranges.gaps(end)) == set(range(end)) - plain
    assert offsets_of(ranges) == plain


@given(changes, changes)
def test_equal_sets_are_equal_however_they_came_about(
    one: list[tuple[str, int, int]], other: list[tuple[str, int, int]]
) -> None:
    """By their offsets only."""
    (first, plain_first), (second, plain_second) = both(one), both(other)
    assert (first == second) is (plain_first == plain_second)
    assert RangeSet(first) == first
    assert first != plain_first


@given(changes, pairs)
def test_a_copy_is_one_of_its_own(steps: list[tuple[str, int, int]], more: tuple[int, int]) -> None:
    """What is put into it does not come to the first, nor goes out of it."""
    ranges, plain = both(steps)
    copy = ranges.copy()
    assert copy == ranges
    copy.add(*more)
    copy.remove(0, END // 2)
    assert offsets_of(ranges) == plain


def test_it_can_be_read_and_is_no_key() -> None:
    """It says its ranges, and has no hash, since it changes."""
    ranges = RangeSet([ByteRange(0, 3), ByteRange(5, 7)])
    assert repr(ranges) == "RangeSet(['0-3', '5-7'])"
    with pytest.raises(TypeError):
        hash(ranges)
