"""One pull as a person sees it: a bar for each file in a terminal, and a line for each connection that was lost."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text

import modelcask

_WORDS = {
    modelcask.Phase.RETRYING: "connection lost",
    modelcask.Phase.DONE: "fetched",
    modelcask.Phase.REUSED: "already held",
    modelcask.Phase.FAILED: "refused",
}


class Bars:
    """A progress callback that draws; a context manager. Without a terminal it draws no bars.

    It is called from modelcask's own threads; rich's drawing is safe there, and an event only adds or sets.
    """

    def __init__(self, console: Console) -> None:
        self.lost: list[modelcask.Progress] = []
        """The events of lost connections, in order: where each was, and why."""
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("   {task.description:<24}", style="cyan"),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TextColumn("{task.fields[word]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
        )

    def __call__(self, event: modelcask.Progress) -> None:
        """Show one event."""
        if event.phase is modelcask.Phase.RETRYING:
            self.lost.append(event)
            reason = event.message.partition(f"{event.path}: ")[2] or event.message
            said = f"   lost at byte {event.bytes_done:,}: {reason}"
            self._console.print(Text(said, style="yellow"), soft_wrap=True)
        if not event.path:
            return
        if event.path not in self._tasks:
            self._tasks[event.path] = self._bars.add_task(event.path, total=event.bytes_total, word="")
        # What is refused is thrown away; the bar stays where it was, so that one sees how far it came.
        refused = event.phase is modelcask.Phase.FAILED
        self._bars.update(
            self._tasks[event.path],
            completed=None if refused else event.bytes_done,
            total=event.bytes_total,
            word=_WORDS.get(event.phase, ""),
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
