"""The group of commands, and what all of them share. A command's module is imported when the command is named."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

import modelcask
from modelcask_cli.options import complete_folder

PROGRAM: Final = "modelcask"

COMMANDS: Final = (
    "demo",
    "pull",
    "path",
    "ls",
    "show",
    "rm",
    "explain",
    "log",
    "stats",
    "partials",
    "verify",
    "rebuild",
    "config",
    "doctor",
    "completion",
)


def _show_more(ctx: click.Context, _param: click.Parameter, value: int) -> None:
    if value:
        _show_log(value + ctx.find_root().params.get("verbose", 0))


verbose_option: Final = click.Option(
    ["-v", "--verbose"],
    count=True,
    expose_value=False,
    callback=_show_more,
    help="Log to stderr what is done; -vv in detail.",
)
"""After the command as well, where people type it."""


class Commands(click.Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command, None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"modelcask_cli.commands.{cmd_name}").command
        if verbose_option not in command.params:
            command.params.append(verbose_option)
        return command


def examples(*lines: str) -> str:
    """Return what stands below a command's help: its examples, each on its own line."""
    return "\n".join(["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])


def load_settings(**arguments: object) -> modelcask.Settings:
    """Return the settings in force for the command that runs; an argument that is None counts as not given.

    Raises:
        ConfigError: a setting cannot be read.
    """
    return modelcask.load_settings(None, home=given_home(click.get_current_context()), **arguments)


def given_home(ctx: click.Context) -> str | None:
    """Return what ``--home`` says, None if it was not given."""
    home: str | None = ctx.find_root().params.get("home")
    return home


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "modelcask pull hf://org/repo/model.gguf",
        "modelcask path hf://org/repo/model.gguf",
        "modelcask pull https://host/model.gguf#sha256=...",
    ),
)
@click.version_option(package_name="modelcask", message="%(prog)s %(version)s")
@click.option(
    "--home",
    metavar="DIR",
    shell_complete=complete_folder,
    help="The root of the store, in place of the setting home (MODELCASK_HOME).",
)
@click.option("-v", "--verbose", count=True, help="Log to stderr what is done; -vv in detail.")
def app(home: str | None, verbose: int) -> None:  # noqa: ARG001 - home is read by load_settings
    """Keep every model file on this machine once, proved correct, and found by its URI.

    Results go to stdout, progress and prose to stderr. Exit codes are listed in docs/cli.md.
    """
    _show_log(verbose)


def _show_log(verbose: int) -> None:
    from modelcask_cli.verbosity import show_log  # noqa: PLC0415 - logging costs as much as click

    show_log(verbose)
