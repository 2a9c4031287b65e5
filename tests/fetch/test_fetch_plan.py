"""What is asked for next, and what a failure leads to: tables and stories without any I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from modelcask.digest import Digest
from modelcask.errors import (
    AccessDeniedError,
    CacheError,
    ConnectionInterruptedError,
    DigestMismatchError,
    ModelNotFoundError,
    RemoteChangedError,
    ResponseError,
    SizeMismatchError,
)
from modelcask.fetch import plan as plan_module
from modelcask.fetch import work
from modelcask.fetch.plan import Ask, Done, GiveUp, Place, Plan, Wait
from modelcask.fetch.transfer import Accept, Held
from modelcask.ranges import ByteRange, RangeSet
from modelcask.types import HTTPLocation, RemoteFile

SHA256 = Digest("sha256", "0" * 64)
GIT_SHA1 = Digest("git-sha1", "0" * 40)
ETAG = '"a"'
SMALL, LARGE = 100, 1000
"""Below and above what is split."""
FAULT = DigestMismatchError("m", "a", "b")


@pytest.fixture(autouse=True)
def _small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "SPLIT_BYTES", 500)
    monkeypatch.setattr(plan_module, "SPAN_BYTES", (100, 400))
    monkeypatch.setattr(work, "ALIGNMENT_BYTES", 10)


def remote(size: int | None = LARGE, *digests: Digest, etag: str | None = ETAG) -> RemoteFile:
    return RemoteFile("m.gguf", size, digests, HTTPLocation("https://source/m?s3cret"), etag)


def held_of(*parts: tuple[int, int]) -> RangeSet:
    return RangeSet(ByteRange(*part) for part in parts)


@dataclass
class Story:
    """A plan, the bytes that it has, and a clock."""

    file: RemoteFile
    held: RangeSet = field(default_factory=RangeSet)
    mirrors: Sequence[str] = ()
    retries: int = 2
    now: float = 0.0

    def __post_init__(self) -> None:
        locations = [HTTPLocation(f"https://{name}/m") for name in self.mirrors] + [self.file.location]  # type: ignore[list-item] # never a local file here
        self.plan = Plan(self.file, locations, lambda: self.held, retries=self.retries, backoff=lambda n, _: 2.0**n)

    def step(self) -> Ask | Wait | Done | GiveUp:
        return self.plan.next(self.now)

    def ask(self) -> Ask:
        step = self.step()
        assert isinstance(step, Ask), step
        step.began = self.now
        return step

    def accept(self, ask: Ask, *, whole: bool = False, etag: str | None = ETAG, total: int | None = LARGE) -> bool:
        is_void = self.plan.accepted(ask, Accept(Held(total, etag), whole=whole))
        if is_void:
            self.held = RangeSet()
        return is_void

    def bring(self, ask: Ask, count: int) -> None:
        start = ask.span.position
        self.plan.arrived(ask, start, count)
        self.held.add(start, start + count)

    def finish(self, ask: Ask) -> None:
        self.accept(ask)
        self.bring(ask, ask.span.left)
        self.plan.ended(ask, self.now)

    def fail(self, ask: Ask, error: CacheError | None = None) -> float | None:
        return self.plan.failed(ask, error or ConnectionInterruptedError("cut"), self.now)

    @property
    def place(self) -> Place:
        return self.plan.places[-1]


def shown(step: Ask | Wait | Done | GiveUp) -> str:
    """Return a step in one line."""
    match step:
        case Ask(place, _, request, _, restart):
            wanted = request.headers.get("Range", "everything").removeprefix("bytes=")
            joined = " if the same" * (request.etag is not None and not request.is_whole)
            return f"{place.host}: {wanted}{joined}{', anew' * restart}"
        case Wait(until):
            return "wait" if until is None else f"wait until {until:g}"
        case GiveUp(error):
            return f"give up: {error}"
        case Done():
            return "done"


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
    assert shown(mirrored.step()) == "source: 0-99 if the same"


# Mirrors.


def test_a_mirror_is_asked_before_the_source() -> None:
    """Its ETag is its own: what the source promised of one guards nothing there."""
    story = Story(remote(LARGE, SHA256), mirrors=["one", "two"])
    first = story.ask()
    assert shown(first) == "one: 0-99"
    story.accept(first, etag='"one"')
    assert story.ask().request.etag == '"one"'


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
