"""What the steps of the story share: the console they speak on, the origin they trouble, the cache they use."""

from __future__ import annotations

import hashlib
import shlex
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

import modelcask
from modelcask_cli.demo.bars import Bars
from modelcask_cli.demo.origin import Origin


class DemoFailed(modelcask.CacheError):
    """Say which step did not come out as told, and how."""

    def __init__(self, step: int, difference: str) -> None:
        self.step = step
        self.difference = difference
        super().__init__(f"step {step} of the demo did not come out as told: {difference}")


@dataclass(slots=True)
class Stage:
    """One telling of the story. What the last pull cost is read from the origin, not from modelcask."""

    console: Console
    origin: Origin
    cache: modelcask.ModelCache
    home: Path
    """The root of the store."""
    steps: int
    """How many steps the story has."""
    step: int = field(default=0, init=False)
    """The step that is being told."""
    bytes_sent: int = field(default=0, init=False)
    """How many bytes of files the origin sent for the last pull."""
    lost: tuple[modelcask.Progress, ...] = field(default=(), init=False)
    """The connections that the last pull lost."""

    def begin(self, sentence: str, *command: str) -> None:
        """Start a step: say what will happen, and the command line for it."""
        self.step += 1
        self.console.print()
        self.console.print(Text.assemble((f"{self.step}/{self.steps} ", "bold cyan"), (sentence, "bold")))
        shown = shlex.join(_shortened(word) for word in command)
        self.console.print(Text(f"   $ {shown}", style="dim"), soft_wrap=True)

    def pull(self, uri: str) -> modelcask.Snapshot:
        """Pull one URI for real, and note what it cost."""
        before = self.origin.bytes_sent
        with Bars(self.console) as bars:
            try:
                [snapshot] = self.cache.pull(uri, progress=bars)
            finally:
                self.bytes_sent = self.origin.bytes_sent - before
                self.lost = tuple(bars.lost)
        return snapshot

    def tell(self, outcome: str) -> None:
        """Say what came of it, wrapped below its own first word; a path longer than the line is broken anywhere."""
        mark = "   ok " if self.console.options.ascii_only else "   ✓ "
        lines = textwrap.wrap(outcome, self.console.width - len(mark), break_on_hyphens=False)
        said = f"\n{' ' * len(mark)}".join(lines)
        self.console.print(Text.assemble((mark, "green"), said), soft_wrap=True)

    def expect(self, holds: bool, difference: str) -> None:
        """Raise DemoFailed with the difference unless it ``holds``."""
        if not holds:
            raise DemoFailed(self.step, difference)

    def expect_bytes(self, path: Path | None, data: bytes, what: str) -> None:
        """Raise DemoFailed unless the file at ``path`` is there and holds just ``data``."""
        self.expect(path is not None, f"{what} was not found")
        self.expect(path is not None and path.read_bytes() == data, f"{path} has other bytes than the origin's {what}")


def sha256(data: bytes) -> str:
    """Return the digest of ``data`` as modelcask writes digests."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _shortened(word: str) -> str:
    uri, mark, pin = word.partition("#sha256=")
    return f"{uri}{mark}{pin[:8]}..." if mark else word
