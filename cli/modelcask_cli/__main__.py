"""The entry point: run the command; whatever goes wrong is one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence

import click

import modelcask
from modelcask_cli import exits, streams
from modelcask_cli.app import PROGRAM, app
from modelcask_cli.stopping import Stopped, asked_to_stop, stop


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Never raises, except SystemExit for a shell's completion."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no failure
    if os.environ.get(f"_{PROGRAM.upper()}_COMPLETE"):
        from modelcask_cli.completion import register  # noqa: PLC0415 - only when a shell asks

        register()
    with _stoppable():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    code: object
    try:
        code = app.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except modelcask.CacheError as error:
        streams.say_error(error)
        code = error.exit_code
    except streams.OutputError as error:
        code = _give_up_stdout(error)
    except click.ClickException as error:
        code = _explain_usage(error)
    except (click.Abort, KeyboardInterrupt):
        streams.say("stopped")
        code = 128 + signal.SIGINT
    except Stopped as stopped:
        streams.say(stopped.message)
        code = stopped.exit_code
    except Exception as error:  # noqa: BLE001 - the outermost edge
        code = _report_bug(error)
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    before = {signum: signal.signal(signum, stop) for signum in asked_to_stop()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _give_up_stdout(error: streams.OutputError) -> int:
    streams.discard_stdout()
    if error.unread:
        return exits.UNREAD  # whoever went away wants no word about it
    streams.say_error(error.message)
    return error.exit_code


def _explain_usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    message = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    streams.say_error(message if context is None else f"{message}; see: {context.command_path} --help")
    return error.exit_code


def _report_bug(error: Exception) -> int:
    import traceback  # noqa: PLC0415 - never needed, it is hoped

    streams.say("".join(traceback.format_exception(error)).rstrip())
    streams.say_error(f"internal error: {type(error).__name__}: {error}; please report it with the lines above")
    return exits.INTERNAL


if __name__ == "__main__":
    sys.exit(main())
