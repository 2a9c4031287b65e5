"""Bars on a terminal: one for the whole pull, one for each file that is on its way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

import modelcask
from modelcask_cli import words
from modelcask_cli.progress.above import above
from modelcask_cli.progress.tally import ENDED, File, Tally, asking

_MOST_BARS: Final = 10
_NAME_WIDTH: Final = 28
_BAR_WIDTH: Final = 20


class Bars:
    """A progress callback that draws on stderr until its ``with`` block ends; then the bars vanish."""

    def __init__(self, console: Console, tally: Tally | None = None) -> None:
        self._tally = tally or Tally()
        self._shown: dict[int, TaskID] = {}
        self._asking: dict[str, TaskID] = {}
        # stdout is left alone: it may be a pipe, and rich would send what is printed there to the terminal.
        self._progress = Progress(
            _Words("name", style="cyan"),
            BarColumn(bar_width=_BAR_WIDTH),
            _Words("state"),
            console=console,
            transient=True,
            redirect_stdout=False,
        )
        self._whole = self._progress.add_task("", total=None, name=lambda: "all", state=lambda: self._tally.words)

    def __call__(self, event: modelcask.Progress) -> None:
        """Show one event."""
        self._draw_asking(event)
        if not event.path:
            return
        file = self._tally.note(event)
        self._draw(file)
        tally = self._tally
        # One file needs one bar, its own.
        alone = len(tally.files) == 1 and bool(self._shown)
        total = None if tally.unsized else tally.total
        self._progress.update(self._whole, completed=tally.done, total=total, visible=not alone)

    def _draw_asking(self, event: modelcask.Progress) -> None:
        """Draw a URI whose source has to be asked once more, until it has answered; else the whole bar says enough."""
        bar = self._asking.pop(event.uri, None)
        if bar is not None:
            self._progress.remove_task(bar)
        if not event.path and event.phase is modelcask.Phase.RETRYING:
            name, state = words.shortened(event.uri, _NAME_WIDTH), asking(event)
            self._asking[event.uri] = self._progress.add_task("", total=None, name=lambda: name, state=lambda: state)

    def _draw(self, file: File) -> None:
        bar = self._shown.get(id(file))
        if file.phase in ENDED or file.phase is modelcask.Phase.RESOLVING:
            if bar is not None:
                del self._shown[id(file)]
                self._progress.remove_task(bar)
            return
        if bar is None:
            if len(self._shown) == _MOST_BARS:
                return  # it is part of the whole bar all the same
            name = words.shortened(modelcask.display(file.path), _NAME_WIDTH)
            bar = self._progress.add_task("", total=None, name=lambda: name, state=lambda: file.words)
            self._shown[id(file)] = bar
        self._progress.update(bar, completed=file.done, total=file.total)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as begun:
            begun.enter_context(above(self._progress.live))
            begun.enter_context(self._progress)
            self._drawing = begun.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawing.close()


class _Words(ProgressColumn):
    """A column of text that is asked for at each drawing, so that a rate falls when nothing comes any more.

    The text is a remote name or message: never read as markup.
    """

    def __init__(self, field: str, style: str = "") -> None:
        self._field = field
        self._style = style
        super().__init__(table_column=Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        ask: Callable[[], str] = task.fields[self._field]
        return Text(ask(), style=self._style, overflow="ellipsis")
