"""What of a file is still to be asked for, held against a plain set of offsets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcask.fetch import work
from modelcask.fetch.work import Span, Work
from modelcask.ranges import ByteRange, RangeSet

SIZE = 60


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "ALIGNMENT_BYTES", 4)


def whole(size: int = SIZE) -> Work:
    return Work(RangeSet([ByteRange(0, size)]))


def ends(*spans: Span | None) -> list[tuple[int, int] | None]:
    return [None if span is None else (span.start, span.end) for span in spans]


def test_the_lowest_bytes_are_handed_out_first() -> None:
    """Span after span from the start, ended at whole blocks, the last one without a crumb behind it."""
    one = whole(42)

    assert ends(*(one.take(16) for _ in range(4))) == [(0, 16), (16, 32), (32, 42), None]


def test_holes_are_filled_from_the_lowest_on() -> None:
    """What is there already is in no span, and no span reaches over it."""
    one = Work(RangeSet([ByteRange(3, 5), ByteRange(20, 60)]))

    assert ends(one.take(8), one.take(8), one.take(100)) == [(3, 5), (20, 28), (28, 60)]


def test_what_was_put_back_comes_next() -> None:
    """The rest of a span that failed is lower than whatever waits, and is handed out before it."""
    one = whole()
    first = one.take(16)
    one.take(16)
    assert first is not None
    first.position = 5

    one.put_back(first)

    assert ends(one.take(100)) == [(5, 16)]


def test_the_far_half_of_the_longest_span_is_taken_over() -> None:
    """Who is idle takes from whoever has most in front of him, and that one stops there."""
    one = whole(40)
    slow, quick = one.take(16), one.take(24)
    assert slow is not None
    assert quick is not None
    quick.position = 38

    taken = one.steal(4)

    assert ends(slow, taken) == [(0, 8), (8, 16)]


def test_a_span_that_is_nearly_done_is_left_alone() -> None:
    """Nothing is taken over unless both halves are worth a request."""
    one = whole(16)
    span = one.take(16)
    assert span is not None
    span.position = 9

    assert one.steal(4) is None


def test_nobody_is_robbed_of_what_he_is_receiving() -> None:
    """The part that is taken over begins ``least`` bytes in front of its owner, blocks or not."""
    one = whole(20)
    span = one.take(20)
    assert span is not None
    span.position = 9

    taken = one.steal(5)

    assert taken is not None
    assert taken.start == span.end == 14


def test_a_void_span_stays_void() -> None:
    """After starting over, what an earlier request still puts back does not wait a second time."""
    one = whole()
    early = one.take(16)
    assert early is not None
    everything = one.start_over(50)

    one.put_back(early)

    assert one.spans == [everything]
    assert one.take(10) is None
    assert one.missing_bytes == 50


def test_a_size_that_is_learned_ends_everything_behind_it() -> None:
    """Spans and waiting bytes behind the end of the file are gone; what has come is not."""
    one = whole(1000)
    span = one.take(16)
    assert span is not None
    span.position = 10

    one.limit(8)

    assert (span.end, span.left, one.missing_bytes) == (10, 0, 0)
    one.put_back(span)
    assert one.is_done


_STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "steal", "arrive", "put back", "miss"]), st.integers(0, 40), st.integers(1, 30)),
    max_size=30,
)
_HELD = st.sets(st.integers(0, SIZE - 1))


@given(held=_HELD, steps=_STEPS)
def test_every_byte_waits_or_is_in_one_span_or_is_there(held: set[int], steps: list[tuple[str, int, int]]) -> None:
    """Whatever happens in whatever order, nothing is lost, nothing is asked for twice, and the lowest comes first."""
    there, waiting = set(held), set(range(SIZE)) - held
    one = Work(RangeSet(ByteRange(offset, offset + 1) for offset in waiting))
    for step, which, size in steps:
        span = one.spans[which % len(one.spans)] if one.spans else None
        if step == "take":
            taken = one.take(size)
            assert (taken is None) is (not waiting)
            if taken is not None:
                assert taken.start == min(waiting)
                assert taken.left > 0
                waiting -= set(range(taken.start, taken.end))
        elif step == "steal":
            longest = max((one.left for one in one.spans), default=0)
            taken = one.steal(size)
            assert (taken is None) is (longest < 2 * size)
            assert taken is None or taken.left >= size or taken.left >= longest // 2
        elif step == "arrive" and span is not None:
            came = min(size, span.left)
            there |= set(range(span.position, span.position + came))
            span.position += came
        elif step == "put back" and span is not None:
            waiting |= set(range(span.position, span.end))
            one.put_back(span)
        elif step == "miss":
            gone = {offset for offset in range(which, which + size) if offset in there}
            there -= gone
            waiting |= gone
            one.miss(RangeSet(ByteRange(offset, offset + 1) for offset in gone))
        fetched = [offset for span in one.spans for offset in range(span.position, span.end)]
        assert len(fetched) == len(set(fetched))
        assert waiting.isdisjoint(fetched)
        assert waiting | set(fetched) == set(range(SIZE)) - there
        assert one.missing_bytes == SIZE - len(there)
        assert one.is_done is (not waiting and not one.spans)
