"""Plain lines about a pull, for a stderr that is no terminal: few enough for a log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.progress.tally import File, Tally, asking, figures

_EVERY_S: Final = 10.0
_EVERY_PART: Final = 0.25
_SMALL_BYTES: Final = 1_000_000
"""Smaller files come in an instant: only their end is told."""

Phase = modelcask.Phase
_WORTH_A_LINE: Final = frozenset({Phase.WAITING, Phase.DONE, Phase.REUSED, Phase.FAILED})


@dataclass(slots=True)
class _Told:
    """What was last said of a file."""

    phase: modelcask.Phase | None = None
    begun: bool = False
    done: int = 0
    at: float = 0.0


@dataclass(slots=True)
class Lines:
    """A progress callback that prints a line when a file begins, now and then, and when it is there.

    Also whenever the source has to be asked once more what a URI means: else nobody would know why nothing comes.
    """

    tally: Tally = field(default_factory=Tally)
    _told: dict[tuple[str, str], _Told] = field(default_factory=dict)

    def __call__(self, event: modelcask.Progress) -> None:
        """Say what is worth a line."""
        if not event.path:
            if event.phase is Phase.RETRYING:
                streams.say(f"{event.uri}: {asking(event)}")
            return
        file = self.tally.note(event)
        told = self._told.setdefault((event.uri, event.path), _Told())
        line = self._line(file, told)
        if line is not None:
            streams.say(f"{modelcask.display(event.path)}: {line}")
            told.done, told.at = file.done, self.tally.clock()
        told.phase = file.phase

    def _line(self, file: File, told: _Told) -> str | None:
        if file.phase is Phase.DOWNLOADING:
            return self._step(file, told)
        if file.phase is Phase.RETRYING or (file.phase is not told.phase and file.phase in _WORTH_A_LINE):
            here = file.phase in {Phase.DONE, Phase.REUSED}
            return f"{file.words}, {words.size(file.done)}" if here else file.words
        return None

    def _step(self, file: File, told: _Told) -> str | None:
        if file.total is not None and file.total < _SMALL_BYTES:
            return None
        if not told.begun:
            told.begun = True
            return _beginning(file)
        quarter = file.total is not None and file.done - told.done >= file.total * _EVERY_PART
        if not quarter and self.tally.clock() - told.at < _EVERY_S:
            return None
        part = f"{100 * file.done // file.total} %, " if file.total else ""
        return part + figures(file.done, file.total, file.meter.rate())


def _beginning(file: File) -> str:
    kept = f", {words.size(file.resumed)} kept from an earlier attempt" if file.resumed else ""
    return f"fetching {words.size(file.total) if file.total is not None else 'an unknown size'}{kept}"
