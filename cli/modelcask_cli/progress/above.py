"""Prose above what is drawn: whole lines, whoever says them and from whichever thread."""

from __future__ import annotations

from contextlib import AbstractContextManager

from rich.live import Live
from rich.text import Text

from modelcask_cli import streams


def above(live: Live) -> AbstractContextManager[None]:
    """Print above ``live`` what is said inside the ``with`` block, before it starts and after it stops too.

    rich works out under one lock how far up the drawing begins, and writes under another: a line from a thread, as
    the log's are, can come between and stand in the middle of a bar that was just added. So its drawing waits here.
    """

    def speak(text: str) -> None:
        with live._lock:  # noqa: SLF001 - rich has no public way to print and draw in turn
            live.console.print(Text(text), soft_wrap=True)  # the terminal wraps: a copied line is the line

    return streams.spoken_by(speak)
