"""Bars on a terminal."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

import modelcask
from modelcask import Phase
from modelcask_cli.progress.bars import Bars


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None, _environ={})


def event(path: str, phase: modelcask.Phase, done: int = 0, why: str = "") -> modelcask.Progress:
    return modelcask.Progress("hf://models/o/r@main", path, phase, done, 1000, 0, why)


def drawn(bars: Bars) -> list[str]:
    """Return what stands on the terminal now."""
    paper = terminal()
    paper.print(bars._progress.get_renderable())
    assert isinstance(paper.file, io.StringIO)
    return [line.rstrip() for line in paper.file.getvalue().splitlines() if line.strip()]


def test_one_file_has_one_bar_and_several_have_one_for_the_whole() -> None:
    """Before any file is known the whole bar says what is going on."""
    with Bars(terminal()) as bars:
        assert drawn(bars)[0].endswith("asking the source")
        bars(event("a", Phase.DOWNLOADING, 500))
        [only] = drawn(bars)
        assert only.startswith("a ")
        assert only.endswith("500 B of 1.0 kB")
        bars(event("b", Phase.DOWNLOADING, 250))
        whole, first, second = drawn(bars)
        assert whole.endswith("0 of 2 files, 750 B of 2.0 kB")
        assert (first[0], second[0]) == ("a", "b")
        bars(event("a", Phase.DONE, 1000))
        whole, second = drawn(bars)
        assert whole.endswith("1 of 2 files, 1.2 kB of 2.0 kB")


def test_at_most_ten_bars_are_shown_and_the_rest_counts_in_the_whole() -> None:
    """A place that becomes free is taken by the next file that moves."""
    with Bars(terminal()) as bars:
        for number in range(30):
            bars(event(f"file-{number}", Phase.DOWNLOADING, 1))
        assert len(drawn(bars)) == 11
        assert "0 of 30 files, 30 B of 30.0 kB" in drawn(bars)[0]
        bars(event("file-3", Phase.DONE, 1000))
        bars(event("file-20", Phase.DOWNLOADING, 2))
        assert any(line.startswith("file-20") for line in drawn(bars))


def test_remote_names_and_messages_are_neither_markup_nor_escape_codes() -> None:
    """They are shown as they are, with what could move a cursor escaped."""
    with Bars(terminal()) as bars:
        bars(event("[red]\x1b[2J.gguf", Phase.RETRYING, 1, why="[bold]no\x07"))
        [line] = drawn(bars)
    assert line.startswith("[red]\\x1b[2J.gguf")
    assert line.endswith("retrying: [bold]no\\x07")


def test_why_a_source_is_asked_once_more_is_drawn_until_it_answers() -> None:
    """Each URI has a bar of its own for that: while it waits, nothing else would move."""
    with Bars(terminal()) as bars:
        bars(event("", Phase.RESOLVING))
        [line] = drawn(bars)
        assert line.endswith("asking the source")
        bars(event("", Phase.RETRYING, why="host answered 503; trying again in 9 s"))
        whole, line = drawn(bars)
        assert whole.endswith("asking the source")
        assert line.startswith("hf://models/o/r@main")
        assert line.endswith("retrying: host answered 503; trying again in 9 s")
        bars(event("", Phase.RETRYING, why="host answered \x1b[2J"))
        _, line = drawn(bars)
        assert line.endswith("retrying: host answered \\x1b[2J")
        bars(modelcask.Progress("https://host/b", "b", Phase.DOWNLOADING, 1, 2))
        assert any(line.endswith("retrying: host answered \\x1b[2J") for line in drawn(bars))
        bars(event("a", Phase.RESOLVING))
        assert not any("retrying" in line for line in drawn(bars))


def test_stdout_is_left_alone_while_bars_are_drawn() -> None:
    """A path that is printed to a pipe must not end on the terminal."""
    before = sys.stdout
    with Bars(terminal()):
        assert sys.stdout is before


def test_bars_vanish_at_the_end() -> None:
    """The last thing that is written takes them off the terminal, and shows the cursor again."""
    console = terminal()
    assert isinstance(console.file, io.StringIO)
    file = console.file
    with Bars(console) as bars:
        bars(event("a", Phase.DOWNLOADING, 500))
    assert file.getvalue().endswith("\x1b[2K")
    assert "\x1b[?25h" in file.getvalue()


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.REUSED, Phase.FAILED, Phase.RESOLVING])
def test_a_file_that_is_not_on_its_way_has_no_bar(phase: modelcask.Phase) -> None:
    """A repository of a thousand files that are here already draws nothing but the whole."""
    with Bars(terminal()) as bars:
        bars(event("a", phase, 1000))
        [line] = drawn(bars)
    assert line.startswith("all")
