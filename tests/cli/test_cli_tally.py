"""The sums of a pull, and the lines made of them."""

from __future__ import annotations

import pytest

import modelcask
from modelcask import Phase
from modelcask_cli.progress.lines import Lines
from modelcask_cli.progress.tally import Tally

MB = 1_000_000


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def event(
    phase: modelcask.Phase,
    done: int = 0,
    total: int | None = 100 * MB,
    *,
    path: str = "a",
    resumed: int = 0,
    why: str = "",
) -> modelcask.Progress:
    return modelcask.Progress("hf://models/o/r@main", path, phase, done, total, resumed, why)


def test_rate_and_time_left_count_only_what_came_now() -> None:
    """40 MB were here before; 20 MB in two seconds are 10 MB/s, and the other 40 MB take four more."""
    clock = Clock()
    tally = Tally(clock)
    tally.note(event(Phase.CHECKING))
    tally.note(event(Phase.DOWNLOADING, 40 * MB, resumed=40 * MB))
    clock.now += 2
    tally.note(event(Phase.DOWNLOADING, 60 * MB, resumed=40 * MB))
    assert tally.words == "0 of 1 file, 60.0 MB of 100.0 MB, 10.0 MB/s, 4.0 s left"
    file = tally.note(event(Phase.DONE, 100 * MB))
    assert (file.fetched, tally.fetched, tally.ended) == (60 * MB, 60 * MB, 1)


def test_the_rate_falls_when_nothing_comes_any_more() -> None:
    """It is asked for at each drawing, and time passes without events."""
    clock = Clock()
    tally = Tally(clock)
    tally.note(event(Phase.DOWNLOADING))
    clock.now += 1
    tally.note(event(Phase.DOWNLOADING, 10 * MB))
    assert tally.meter.rate() == 10 * MB
    clock.now += 9
    assert tally.meter.rate() == MB


def test_only_the_last_ten_seconds_make_the_rate() -> None:
    """A pull that was fast an hour ago is not fast now."""
    clock = Clock()
    tally = Tally(clock)
    for done in (0, 50, 51, 52):
        tally.note(event(Phase.DOWNLOADING, done * MB))
        clock.now += 10
    assert tally.meter.rate() == pytest.approx(MB / 20)


def test_a_file_that_begins_again_makes_no_negative_rate() -> None:
    """What arrived before is worth nothing, so it says nothing of the speed."""
    clock = Clock()
    tally = Tally(clock)
    tally.note(event(Phase.DOWNLOADING, 50 * MB))
    clock.now += 2
    tally.note(event(Phase.DOWNLOADING, 0))
    assert tally.meter.rate() is None
    assert tally.done == 0


def test_a_reused_file_is_done_and_has_cost_nothing() -> None:
    """It counts as a file and as bytes, not as speed."""
    tally = Tally(Clock())
    tally.note(event(Phase.REUSED, 100 * MB, resumed=100 * MB))
    assert (tally.ended, tally.done, tally.total, tally.fetched) == (1, 100 * MB, 100 * MB, 0)


def test_an_unknown_size_makes_the_whole_unknown_until_the_file_is_there() -> None:
    """No share and no time left are made up."""
    tally = Tally(Clock())
    tally.note(event(Phase.DOWNLOADING, 5 * MB, None))
    assert tally.words == "0 of 1 file, 5.0 MB"
    tally.note(event(Phase.DONE, 7 * MB, None))
    assert tally.words == "1 of 1 file, 7.0 MB of 7.0 MB"


@pytest.mark.parametrize(
    ("phase", "text"),
    [
        (Phase.WAITING, "waiting for another process"),
        (Phase.CHECKING, "checking what is kept"),
        (Phase.PUBLISHING, "publishing"),
        (Phase.RETRYING, "retrying: the server said \\x1b[31m"),
    ],
)
def test_phases_are_told_in_words_and_remote_words_are_escaped(phase: modelcask.Phase, text: str) -> None:
    """An error page's escape codes reach no terminal."""
    assert Tally(Clock()).note(event(phase, why="the server said \x1b[31m")).words == text


def test_every_phase_has_words() -> None:
    """A phase that is added needs words too."""
    for phase in Phase:
        assert Tally(Clock()).note(event(phase, 1)).words


def test_a_large_file_has_a_line_at_its_begin_each_quarter_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Not one for each of the many events between."""
    clock = Clock()
    lines = Lines(Tally(clock))
    lines(event(Phase.RESOLVING, path=""))
    lines(event(Phase.CHECKING))
    for done in range(0, 101, 5):
        lines(event(Phase.DOWNLOADING, done * MB))
        clock.now += 0.5
    lines(event(Phase.DONE, 100 * MB))
    assert capsys.readouterr().err.splitlines() == [
        "a: fetching 100.0 MB",
        "a: 25 %, 25.0 MB of 100.0 MB, 10.0 MB/s, 7.5 s left",
        "a: 50 %, 50.0 MB of 100.0 MB, 10.0 MB/s, 5.0 s left",
        "a: 75 %, 75.0 MB of 100.0 MB, 10.0 MB/s, 2.5 s left",
        "a: 100 %, 100.0 MB of 100.0 MB, 10.0 MB/s",
        "a: done, 100.0 MB",
    ]


def test_a_slow_file_has_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where nobody knows how large it is."""
    clock = Clock()
    lines = Lines(Tally(clock))
    for second in range(25):
        lines(event(Phase.DOWNLOADING, second * MB, None))
        clock.now += 1
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "a: fetching an unknown size",
        "a: 10.0 MB",
        "a: 20.0 MB",
    ]


def test_a_small_file_has_only_its_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand of them make a thousand lines, not five thousand."""
    lines = Lines(Tally(Clock()))
    for phase in (Phase.CHECKING, Phase.DOWNLOADING, Phase.PUBLISHING, Phase.DONE):
        lines(event(phase, 5, 5, path="c\x1b.json"))
    assert capsys.readouterr().err == "c\\x1b.json: done, 5 B\n"


def test_why_a_source_is_asked_once_more_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Else a pull that has not begun would wait in silence; of the asking itself nothing is said."""
    lines = Lines()
    uri = "hf://models/o/r@main"
    lines(modelcask.Progress(uri, "", Phase.RESOLVING))
    lines(modelcask.Progress(uri, "", Phase.RETRYING, message="host answered 503; trying again in 9 s"))
    lines(modelcask.Progress(uri, "", Phase.RETRYING, message="host \x1b[2J"))
    lines(modelcask.Progress(uri, "", Phase.REUSED, 1, 1))
    assert capsys.readouterr().err.splitlines() == [
        f"{uri}: retrying: host answered 503; trying again in 9 s",
        f"{uri}: retrying: host \\x1b[2J",
    ]


def test_waiting_is_told_once_and_each_retry_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """What was kept is told when the file goes on."""
    lines = Lines(Tally(Clock()))
    for _ in range(3):
        lines(event(Phase.WAITING))
    lines(event(Phase.DOWNLOADING, 30 * MB, resumed=30 * MB))
    lines(event(Phase.RETRYING, 30 * MB, resumed=30 * MB, why="reset"))
    lines(event(Phase.RETRYING, 30 * MB, resumed=30 * MB, why="reset again"))
    lines(event(Phase.FAILED, 30 * MB))
    assert capsys.readouterr().err.splitlines() == [
        "a: waiting for another process",
        "a: fetching 100.0 MB, 30.0 MB kept from an earlier attempt",
        "a: retrying: reset",
        "a: retrying: reset again",
        "a: failed",
    ]
