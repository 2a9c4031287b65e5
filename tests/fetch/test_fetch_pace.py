"""Who is ended because others would be faster, and who is tried: in stories without any I/O, and over the network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from behaviours import Drip, StallAfter
from download_bench import CONTENT, Bench
from download_bench import SHA256 as CONTENT_SHA256
from modelcask.fetch import pace
from modelcask.fetch.plan import Ask, Drop, Wait
from modelcask.types import HTTPLocation
from origin import Origin
from plan_story import SHA256, Story, remote, shown

HUGE = 100_000


def _story(mirrors: tuple[str, ...] = (), *, is_patient: bool = False) -> Story:
    return Story(remote(HUGE, SHA256), mirrors=mirrors, is_patient=is_patient)


def _begin(story: Story, count: int) -> list[Ask]:
    asks = [story.ask() for _ in range(count)]
    for ask in asks:
        story.accept(ask, total=story.file.size_bytes)
    return asks


def _pass(story: Story, brings: dict[int, int], asks: list[Ask], seconds: float = 5) -> None:
    story.now += seconds
    for number, count in brings.items():
        story.bring(asks[number], count)


@pytest.mark.usefixtures("tiny_spans")
class TestInStories:
    """Spans of a hundred bytes and more; windows of five seconds."""

    def test_a_stuck_connection_is_made_anew(self) -> None:
        """What it has not brought is asked for again, at the same place."""
        story = _story()
        asks = _begin(story, 3)
        _pass(story, {0: 50, 1: 50, 2: 1}, asks)
        assert story.step() == Drop(asks[2])
        story.plan.ended(asks[2], story.now)
        assert shown(story.step()) == "source: 201-299"

    def test_one_that_is_a_little_slower_goes_on(self) -> None:
        """A tenth is the least that is asked of a connection."""
        story = _story()
        asks = _begin(story, 3)
        _pass(story, {0: 50, 1: 50, 2: 6}, asks)
        assert not isinstance(story.step(), Drop)

    def test_a_late_first_byte_is_waited_for(self) -> None:
        """Nobody else could be asked, and what has not begun may begin."""
        story = _story()
        asks = _begin(story, 2)
        _pass(story, {0: 50}, asks)
        assert not isinstance(story.step(), Drop)

    def test_a_line_that_gets_slow_costs_few_connections(self) -> None:
        """What is slow then is the place, and not each of its connections in turn for ever."""
        story = _story()
        asks = _begin(story, 16)
        _pass(story, dict.fromkeys(range(16), 60), asks)
        dropped = 0
        for _ in range(10):
            _pass(story, dict.fromkeys(range(len(asks)), 1), asks)
            while isinstance(step := story.step(), Drop):
                dropped += 1
                story.plan.ended(step.ask, story.now)
                asks.remove(step.ask)
            asks += _begin(story, 16 - len(asks))
        assert 1 <= dropped <= 6

    def test_a_slow_mirror_loses_the_job(self) -> None:
        """After one window the next place is tried with one connection, and preferred once it is known to be faster."""
        story = _story(("mirror",))
        asks = _begin(story, 2)
        _pass(story, {0: 1, 1: 1}, asks)
        dropped = story.step()
        assert isinstance(dropped, Drop)
        story.plan.ended(dropped.ask, story.now)
        tried = story.ask()
        assert tried.place.host == "source"
        story.accept(tried)
        assert story.ask().place.host == "mirror"  # one is enough to try with
        _pass(story, {}, asks)
        story.bring(tried, 80)
        while isinstance(step := story.step(), Drop):
            assert step.ask.place.host == "mirror"
            story.plan.ended(step.ask, story.now)
        assert isinstance(step, Ask)
        assert step.place.host == "source"

    def test_a_mirror_that_never_answers_loses_the_job(self) -> None:
        """Here somebody else can be asked, so its first byte is not waited for."""
        story = _story(("mirror",))
        asks = _begin(story, 1)
        _pass(story, {}, asks)
        assert story.step() == Drop(asks[0])
        story.plan.ended(asks[0], story.now)
        assert shown(story.step()) == "source: 0-99"

    def test_a_mirror_that_is_fast_enough_keeps_it(self) -> None:
        """Where little time is left, nobody is tried."""
        story = Story(remote(500, SHA256), mirrors=["mirror"])
        asks = _begin(story, 2)
        _pass(story, {0: 90, 1: 90}, asks)
        assert story.ask().place.host == "mirror"

    def test_all_are_slow(self) -> None:
        """Each was tried, none is far better: the first is asked, and nobody is ended."""
        story = _story(("one", "two"))
        first = _begin(story, 1)[0]
        hosts = []
        for _ in range(6):
            story.now += 5
            story.bring(first, 1)
            if isinstance(step := story.step(), Drop):
                story.plan.ended(step.ask, story.now)
                first = _begin(story, 1)[0]
                hosts.append(first.place.host)
        assert hosts == ["two", "source"]

    def test_nobody_is_slow_where_the_user_set_the_rate(self) -> None:
        """The bytes wait for their turn here, not there."""
        story = _story(("mirror",), is_patient=True)
        asks = _begin(story, 2)
        _pass(story, {0: 50}, asks, seconds=100)
        assert isinstance(story.step(), Ask | Wait)

    def test_what_cannot_be_joined_is_not_ended(self) -> None:
        """It would begin at zero."""
        story = Story(remote(HUGE, etag=None))
        asks = [story.ask()]
        story.accept(asks[0], etag=None, total=HUGE)
        _pass(story, {0: 50}, asks)
        story.step()
        _pass(story, {}, asks)
        assert shown(story.step()) == "wait"


@pytest.mark.usefixtures("small_spans")
class TestOverTheNetwork:
    """Windows of half a second."""

    @pytest.fixture(autouse=True)
    def _short_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pace, "WINDOW_S", 0.5)

    async def test_a_connection_that_gets_stuck_does_not_hold_up_the_file(self, bench: Bench) -> None:
        """One stands still in the middle; it is made anew long before it would time out."""
        bench.serve([StallAfter(1_000), Drip(400, 0.05)])
        bench.file = replace(bench.file, digests=(CONTENT_SHA256,))

        await bench.download()

        assert bench.sink.content == CONTENT

    async def test_a_mirror_that_drips_does_not_hold_up_the_file(self, bench: Bench, origin: Origin) -> None:
        """It would take minutes; the source brings the file."""
        bench.serve()
        bench.file = replace(
            bench.file,
            digests=(CONTENT_SHA256,),
            mirrors=(HTTPLocation(origin.add("/drips", CONTENT, behaviours=[Drip(1, 0.1)])),),
        )

        await bench.download()

        assert bench.sink.content == CONTENT
