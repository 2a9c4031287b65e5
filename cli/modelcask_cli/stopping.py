"""Stopping: SIGINT, SIGTERM and SIGHUP end a command tidily, with 128 and their number; a second one at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, NoReturn, TypeVar

from modelcask_cli import streams

_T = TypeVar("_T")


class Stopped(SystemExit):
    """Say which signal stopped the command. A SystemExit, because an event loop lets such a one through at once."""

    def __init__(self, signum: int, message: str = "stopped") -> None:
        self.exit_code = 128 + signum
        self.message = message
        super().__init__(self.exit_code)


def asked_to_stop() -> list[signal.Signals]:
    """Return the signals, beside that of Ctrl-C, that ask this process to stop.

    Not those that whoever started it has switched off: ``nohup`` does so with SIGHUP.
    """
    return [signum for signum in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(signum) is not signal.SIG_IGN]


def stop(signum: int, _frame: FrameType | None = None) -> NoReturn:
    """Raise Stopped: the signal handler for code that runs without an event loop."""
    streams.leave_dead_terminal()
    raise Stopped(signum)


def run(work: Coroutine[Any, Any, _T], *, message: str = "stopped") -> _T:
    """Run ``work`` in an event loop and return what it comes to.

    Raises:
        Stopped: a signal came; ``work`` was cancelled and has tidied up.
    """
    import asyncio  # noqa: PLC0415 - a third of what `modelcask --help` may take

    caught: list[int] = []

    async def watched() -> _T:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)

        def cancel(signum: int) -> None:
            streams.leave_dead_terminal()
            if caught:
                os._exit(128 + signum)  # safe: whatever was killed at any step, the next run heals
            caught.append(signum)
            task.cancel()

        for signum in (signal.SIGINT, *asked_to_stop()):
            loop.add_signal_handler(signum, cancel, signum)
        return await task

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        if not caught:
            raise
        raise Stopped(caught[0], message) from None
