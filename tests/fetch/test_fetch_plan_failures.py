"""What failures lead to, and whose bytes are doubted: stories without any I/O."""

from __future__ import annotations

import pytest

from modelcask.errors import (
    AccessDeniedError,
    CacheError,
    ModelNotFoundError,
    RemoteChangedError,
    ResponseError,
    SizeMismatchError,
)
from modelcask.fetch.plan import Place
from plan_story import FAULT, LARGE, SHA256, SMALL, Story, held_of, remote, shown

pytestmark = pytest.mark.usefixtures("tiny_spans")

# Failures.


def test_tries_that_bring_nothing_are_counted() -> None:
    """Each waits longer; after the last the error goes up."""
    story = Story(remote(SMALL))
    steps = []
    for _ in range(3):
        wait = story.fail(story.ask())
        steps.append((wait, shown(story.step())))
        story.now += wait or 0

    assert steps == [(2, "wait until 2"), (4, "wait until 6"), (None, "give up: cut")]


def test_bytes_that_are_new_start_the_count_again() -> None:
    """A transfer that keeps moving is never given up."""
    story = Story(remote(SMALL))
    for _ in range(20):
        ask = story.ask()
        story.accept(ask, total=SMALL)
        story.bring(ask, 1)
        assert story.fail(ask) == 2
        story.now += 2
    assert story.ask().request.offset == 20


def test_bytes_that_were_there_before_do_not() -> None:
    """A server that starts over each time and is cut at the same place is given up."""
    story = Story(remote(SMALL, etag=None))
    waits = []
    for _ in range(3):
        ask = story.ask()
        story.accept(ask, whole=True, etag=None, total=SMALL)
        story.bring(ask, 10)
        waits.append(story.fail(ask))
        story.now += waits[-1] or 0

    assert waits == [2, 4, None]


def test_what_fails_side_by_side_fails_once() -> None:
    """Four connections that are cut at the same moment are one failure, and the place is left alone as long."""
    story = Story(remote())
    asks = [story.ask() for _ in range(4)]
    story.now = 1

    waits = [story.fail(ask) for ask in asks]

    assert waits == [2, 2, 2, 2]
    assert story.place.failures == 1
    assert shown(story.step()) == "wait until 3"


def test_a_connection_that_breaks_while_others_go_on_is_replaced_at_once() -> None:
    """It was its own fault: the place is not left alone for it."""
    story = Story(remote())
    broken, other = story.ask(), story.ask()
    for ask in (broken, other):
        story.accept(ask)
        story.bring(ask, 10)

    assert story.fail(broken) == 0

    assert shown(story.step()) == "source: 10-99 if the same"


def test_a_server_that_asks_to_wait_is_left_alone_all_the_same() -> None:
    """Retry-After holds for new requests; what runs goes on."""
    story = Story(remote())
    refused, other = story.ask(), story.ask()
    story.accept(other)
    story.bring(other, 10)

    assert story.fail(refused, ResponseError("busy", status=429, retryable=True, retry_after=7)) == 2

    assert shown(story.step()) == "wait until 2"


FOR_GOOD = [
    AccessDeniedError("no", status=403),
    ModelNotFoundError("m", "no"),
    RemoteChangedError("no"),
    SizeMismatchError("m", 1, 2),
    ResponseError("no", status=418, retryable=False),
]


@pytest.mark.parametrize("error", FOR_GOOD, ids=lambda error: type(error).__name__)
def test_what_no_repetition_helps_is_not_repeated(error: CacheError) -> None:
    """The error goes up at once, unless another place can be asked."""
    alone, mirrored = Story(remote()), Story(remote(LARGE, SHA256), mirrors=["mirror"])

    assert alone.fail(alone.ask(), error) is None
    assert mirrored.fail(mirrored.ask(), error) is None

    assert shown(alone.step()) == f"give up: {error}"
    assert shown(mirrored.step()) == "source: 0-99"


# Mirrors.


def test_a_mirror_is_asked_before_the_source() -> None:
    """Neither is asked under an ETag: each has its own, and the digest proves the joints."""
    story = Story(remote(LARGE, SHA256), mirrors=["one", "two"])
    first = story.ask()
    assert shown(first) == "one: 0-99"
    story.accept(first, etag='"one"')
    assert story.ask().request.etag is None


def test_others_are_asked_while_a_mirror_is_left_alone() -> None:
    """A wait for one place is work for the next; afterwards the first is preferred again."""
    story = Story(remote(LARGE, SHA256), mirrors=["one", "two"])
    story.fail(story.ask())
    assert shown(story.step()) == "two: 0-99"
    story.now = 2
    assert shown(story.step()) == "one: 100-199"


def test_the_source_has_the_last_word() -> None:
    """When nobody is left it is the source's own error that is told, whoever failed last."""
    story = Story(remote(LARGE, SHA256), mirrors=["one"])
    at_mirror = story.ask()
    story.fail(story.ask(), ModelNotFoundError("m", "not at the mirror"))
    story.fail(story.ask(), AccessDeniedError("not at the source", status=403))
    story.fail(at_mirror)
    assert shown(story.step()) == "give up: not at the source"


def test_what_a_suspect_has_sent_is_asked_of_the_source() -> None:
    """Of two mirrors that differ nobody knows which one is wrong; the source is asked first then."""
    story = Story(remote(LARGE, SHA256), mirrors=["one", "two"])
    asks = [story.ask() for _ in range(10)]
    for ask in asks[:9]:
        story.finish(ask)
    story.fail(asks[9])
    story.finish(story.ask())
    assert shown(story.step()) == "done"
    suspect = story.plan.suspect
    assert suspect is story.plan.places[0]

    parts = story.plan.doubt(suspect, FAULT)

    assert parts == held_of((0, 900))
    story.held.remove(0, 900)
    assert shown(story.step()).startswith("source: 0-")


def _suspected(story: Story) -> Place:
    ask = story.ask()
    story.finish(ask)
    suspect = story.plan.suspect
    assert suspect is ask.place
    for part in story.plan.doubt(suspect, FAULT):
        story.held.remove(part.start, part.end)
    again = story.ask()
    assert again.place is not suspect
    story.finish(again)
    return suspect


def test_the_guilty_one_is_not_asked_again() -> None:
    """The source sent something else: the mirror is gone, and it is why."""
    story = Story(remote(SMALL, SHA256), mirrors=["one"])
    place = _suspected(story)
    story.plan.decide(place, is_guilty=True)
    assert place.gone is FAULT
    assert story.plan.suspect is None


def test_the_innocent_one_is_kept_and_not_suspected_again() -> None:
    """The source sent the same: the doubt is gone, and now the source's own bytes are looked at."""
    story = Story(remote(SMALL, SHA256), mirrors=["one"])
    place = _suspected(story)
    story.plan.decide(place, is_guilty=False)
    assert place.gone is None
    assert story.plan.suspect is story.place


def test_innocence_does_not_revive_the_dead() -> None:
    """A mirror that had gone before it was suspected stays so."""
    story = Story(remote(LARGE, SHA256), mirrors=["one"])
    story.finish(story.ask())
    died = ModelNotFoundError("m", "gone")
    story.fail(story.ask(), died)
    mirror = story.plan.places[0]
    story.plan.doubt(mirror, FAULT)
    story.plan.decide(mirror, is_guilty=False)
    assert mirror.gone is died


def test_nobody_is_suspected_where_nobody_else_can_be_asked() -> None:
    """With all others gone the caller's own check has to say what is wrong."""
    story = Story(remote(SMALL, SHA256), mirrors=["one"])
    story.fail(story.ask(), ModelNotFoundError("m", "no"))
    story.finish(story.ask())
    assert story.plan.suspect is None


def test_fetching_again_counts_as_moving() -> None:
    """What is fetched a second time may be cut as often as the first: only standing still is counted."""
    story = Story(remote(SMALL, SHA256), mirrors=["one"], retries=1)
    ask = story.ask()
    story.accept(ask, total=SMALL)
    story.bring(ask, 90)
    story.fail(ask)
    story.now = 2
    story.finish(story.ask())
    place = story.plan.suspect
    assert place is not None
    for part in story.plan.doubt(place, FAULT):
        story.held.remove(part.start, part.end)
    for _ in range(10):
        ask = story.ask()
        story.accept(ask)
        story.bring(ask, 1)
        assert story.fail(ask) == 2
        story.now += 2
