"""What is asked for next, as a table and in stories without any I/O."""

from __future__ import annotations

import pytest

from modelcask.errors import ResponseError
from modelcask.ranges import RangeSet
from modelcask.types import RemoteFile
from plan_story import GIT_SHA1, LARGE, SHA256, SMALL, Story, held_of, remote, shown

pytestmark = pytest.mark.usefixtures("tiny_spans")


FIRST_STEPS = [
    ("a small file", remote(SMALL), held_of(), ["source: everything", "wait"]),
    ("a small file, begun", remote(SMALL), held_of((0, 40)), ["source: 40- if the same", "wait"]),
    ("a small file with a hole", remote(SMALL), held_of((0, 40), (60, 100)), ["source: 40-59 if the same"]),
    ("a small file with two holes", remote(SMALL), held_of((40, 60)), ["source: 0-39 if the same", "wait"]),
    ("a small file, all there", remote(SMALL), held_of((0, 100)), ["done"]),
    ("an empty file", remote(0), held_of(), ["source: everything", "wait"]),
    ("a file of unknown size", remote(None), held_of(), ["source: everything", "wait"]),
    ("a file of unknown size, begun", remote(None), held_of((0, 40)), ["source: 40- if the same", "wait"]),
    ("a file of unknown size with a hole", remote(None), held_of((0, 4), (6, 9)), ["source: 4-5 if the same", "wait"]),
    (
        "a large file",
        remote(),
        held_of(),
        ["source: 0-99 if the same", "source: 100-199 if the same", "source: 200-299 if the same"],
    ),
    (
        "a large file, begun",
        remote(),
        held_of((0, 45), (500, 800)),
        ["source: 45-139 if the same", "source: 140-239 if the same"],
    ),
    (
        "a large file, nearly there",
        remote(),
        held_of((0, 890)),
        ["source: 890- if the same", "source: 940- if the same", "wait"],
    ),
    ("a large file, all there", remote(), held_of((0, LARGE)), ["done"]),
    ("a digest alone", remote(LARGE, SHA256, etag=None), held_of((0, 50)), ["source: 50-149", "source: 150-249"]),
    ("a git SHA-1 is no proof", remote(LARGE, GIT_SHA1, etag=None), held_of(), ["source: everything", "wait"]),
    ("no proof, begun", remote(LARGE, etag=None), held_of((0, 50)), ["source: everything, anew", "wait"]),
    ("a weak ETag, begun", remote(SMALL, etag='W/"a"'), held_of((0, 50)), ["source: everything, anew", "wait"]),
]


@pytest.mark.parametrize(
    ("file", "held", "steps"), [row[1:] for row in FIRST_STEPS], ids=[row[0] for row in FIRST_STEPS]
)
def test_the_first_steps_are_as_in_the_table(file: RemoteFile, held: RangeSet, steps: list[str]) -> None:
    """Small files in one piece, large ones in spans, from the lowest missing byte, and nothing without proof."""
    story = Story(file, held)
    assert [shown(story.step()) for _ in steps] == steps


def test_the_last_bytes_are_shared() -> None:
    """When nothing is left to hand out, the longest span is halved, and its owner stops there."""
    story = Story(remote())
    asks = [story.ask() for _ in range(10)]
    for ask in asks[:-1]:
        story.accept(ask)
    story.finish(asks[0])
    story.finish(asks[1])

    thief = story.ask()

    assert shown(thief) == "source: 250-299 if the same"
    assert (asks[2].span.start, asks[2].span.end) == (200, 250)
    assert story.plan.end_of(asks[2]) == 300


def test_nobody_is_asked_twice_for_a_file_of_which_nothing_is_known() -> None:
    """An answer that announces the size does not make a request under way several ones."""
    story = Story(remote(None, etag=None))
    ask = story.ask()
    assert story.accept(ask, whole=True) is True
    assert story.plan.is_bounded
    assert (ask.span.start, ask.span.end) == (0, LARGE)


def test_an_empty_file_is_not_there_before_somebody_has_said_so() -> None:
    """A failure is none: zero bytes are all there only once an answer was accepted."""
    story = Story(remote(0))
    assert story.fail(story.ask()) == 2
    assert shown(story.step()) == "wait until 2"
    story.now = 2
    ask = story.ask()
    story.accept(ask, whole=True, total=0)
    story.plan.ended(ask, 2)
    assert shown(story.step()) == "done"


def test_spans_are_as_long_as_a_second() -> None:
    """A connection that is quick gets more at a time, up to a limit and to a share of what is missing."""
    for rate, missing, expected in [
        (100, 1_000_000, 100),
        (300, 1_000_000, 300),
        (9999, 1_000_000, 400),
        (300, 1000, 100),
    ]:
        story = Story(remote(missing))
        ask = story.ask()
        story.now = 100 / rate
        story.finish(ask)
        assert story.ask().span.left == expected


# One answer for all.


def test_a_whole_answer_makes_all_others_void() -> None:
    """A server that does not do ranges is asked for the file in one piece from then on."""
    story = Story(remote())
    others = [story.ask(), story.ask()]
    ask = story.ask()
    story.accept(others[0])
    story.bring(others[0], 30)

    assert story.accept(ask, whole=True) is True

    assert (ask.span.start, ask.span.end, story.plan.end_of(ask)) == (0, LARGE, LARGE)
    assert shown(story.step()) == "wait"
    story.bring(ask, 400)
    story.fail(ask)
    story.now = 2
    assert [shown(story.step()) for _ in range(2)] == ["source: 400- if the same", "wait"]


def test_a_whole_answer_brings_its_own_size() -> None:
    """Where nobody had promised one, the size is that of the answer which is written, not that of an earlier one."""
    story = Story(remote(None, etag=None))
    ask = story.ask()
    story.accept(ask, whole=True, etag=None, total=1000)
    story.bring(ask, 50)
    story.fail(ask)
    story.now = 2
    again = story.ask()
    assert again.restart
    story.accept(again, whole=True, etag=None, total=60)
    assert again.span.left == 60
    story.fail(again)
    story.now = 20
    unsized = story.ask()
    story.accept(unsized, whole=True, etag=None, total=None)
    assert not story.plan.is_bounded


def test_two_refused_answers_lead_to_a_whole_one() -> None:
    """One may be a broken proxy; after the second the bytes are given up, since only a whole answer can end."""
    story = Story(remote(), held_of((0, 300)))
    for _ in range(2):
        ask = story.ask()
        assert shown(ask) == "source: 300-399 if the same"
        story.plan.refused(ask)
        story.fail(ask, ResponseError("refused", status=206, retryable=True))
        story.now += 10

    assert shown(story.step()) == "source: everything, anew"


def test_a_good_answer_forgives_a_refused_one() -> None:
    """Two refusals count only in a row."""
    story = Story(remote(), held_of((0, 300)))
    for _ in range(4):
        ask = story.ask()
        story.plan.refused(ask)
        story.fail(ask, ResponseError("refused", status=206, retryable=True))
        story.now += 10
        good = story.ask()
        story.accept(good)
        story.bring(good, 1)
        story.plan.ended(good, story.now)
    assert story.ask().request.offset == 304
