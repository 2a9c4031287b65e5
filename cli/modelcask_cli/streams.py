"""The two streams: results on stdout, prose and errors on stderr."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

import modelcask

_LONGEST_MESSAGE = 2000

_speakers: list[Callable[[str], None]] = []


class OutputError(click.ClickException):
    """Say that stdout cannot be written, or (``unread``) that nobody reads it any more.

    Not an OSError: click would take a broken pipe for the end of the command, in silence and with exit code 1.
    """

    def __init__(self, error: OSError) -> None:
        self.unread = isinstance(error, BrokenPipeError)
        super().__init__(f"the output cannot be written: {error.strerror}")


def tell(text: str | bytes) -> None:
    """Print one result.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        click.echo(text)
    except OSError as error:
        raise OutputError(error) from error


def tell_path(path: Path) -> None:
    """Print a path as the system writes it, byte for byte."""
    tell(os.fsencode(path))


def tell_json(document: Mapping[str, Any], *, one_line: bool = False) -> None:
    """Print one JSON document, in ASCII, so that nothing in it can move a terminal's cursor."""
    import json  # noqa: PLC0415 - most commands print none

    tell(json.dumps(document, indent=None if one_line else 2))


def say(text: str) -> None:
    """Print prose. That nobody can read it is no failure."""
    with contextlib.suppress(OSError):
        if _speakers:
            _speakers[-1](text)
        else:
            click.echo(text, err=True)


@contextlib.contextmanager
def spoken_by(speak: Callable[[str], None]) -> Iterator[None]:
    """Let ``speak`` print what is said inside the ``with`` block: something is drawn on stderr meanwhile."""
    _speakers.append(speak)
    try:
        yield
    finally:
        _speakers.remove(speak)


def say_error(error: Exception | str) -> None:
    """Print what went wrong, on one line."""
    say(f"error: {modelcask.display(str(error), _LONGEST_MESSAGE)}")


def draws(*, err: bool) -> bool:
    """Say whether stdout, or with ``err`` stderr, is a terminal that bars and colours can be drawn on."""
    stream = sys.stderr if err else sys.stdout
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def discard_stdout() -> None:
    """Send what is still to be flushed nowhere, so that the interpreter's end does not complain a second time."""
    try:
        _send_nowhere(sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return  # stdout has no descriptor: then nothing is flushed to one


def leave_dead_terminal() -> None:
    """Send nowhere what would still go to a terminal that was closed: each such write would be a failure of its own."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            # A closed terminal is no terminal any more, but still a device.
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                _send_nowhere(descriptor)


def _send_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
