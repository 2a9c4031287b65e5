"""The reference of the command line: ``python -m modelcask_cli.reference > docs/cli.md``.

Made of what the commands themselves say, so that it cannot drift: their help, the exit codes of the errors, the
JSON documents, the settings. A test holds the page equal to what this prints.
"""

from __future__ import annotations

import os
import sys
import types
import typing
from collections.abc import Iterator

import click

import modelcask
from modelcask_cli import documents, exits
from modelcask_cli.app import COMMANDS, PROGRAM, app

_WIDTH = 100


def page() -> str:
    """Return the whole page, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# The command line"
    yield ""
    yield "<!-- Made by `python -m modelcask_cli.reference > docs/cli.md`; change the commands, not this page. -->"
    yield ""
    yield "Results go to stdout; progress, prose and errors go to stderr, an error on one line. `-q` leaves results"
    yield "and errors. Nothing asks when stdin is not a terminal. Bars are drawn where stderr is a terminal; elsewhere"
    yield "`pull` prints a line now and then. `--json` prints one JSON document, for `pull` one JSON object a line: the"
    yield "fields that are listed here keep their names and meanings, and new ones may come. Sizes are in bytes, times"
    yield "in UTC."
    yield ""
    yield from _help(click.Context(app, info_name=PROGRAM, **_wide()))
    yield from _exit_codes()
    yield from _settings()
    for name in COMMANDS:
        command = app.get_command(click.Context(app), name)
        assert command is not None  # noqa: S101 - a test imports every command
        yield ""
        yield f"## {PROGRAM} {name}"
        yield ""
        parent = click.Context(app, info_name=PROGRAM)
        context = click.Context(command, parent=parent, info_name=name, **_wide())
        yield from _help(context)
        for below, verb in command.commands.items() if isinstance(command, click.Group) else ():
            yield ""
            yield from _help(click.Context(verb, parent=context, info_name=below, **_wide()))
        yield from _documents(name)


def _wide() -> dict[str, typing.Any]:
    return {"terminal_width": _WIDTH, "max_content_width": _WIDTH, "help_option_names": ["-h", "--help"]}


def _help(context: click.Context) -> Iterator[str]:
    yield "```text"
    yield context.get_help().rstrip()
    yield "```"


def _exit_codes() -> Iterator[str]:
    errors = exits.errors_by_code()
    yield ""
    yield "## Exit codes"
    yield ""
    yield "| code | meaning | errors |"
    yield "|---:|---|---|"
    for code, meaning in exits.MEANINGS.items():
        names = ", ".join(f"`{name}`" for name in errors.get(code, ()))
        yield f"| {code} | {meaning} | {names} |"


def _settings() -> Iterator[str]:
    yield ""
    yield "## Settings"
    yield ""
    yield "An argument beats the environment, the environment beats the config file, that beats the default. The config"
    yield "file is TOML, `config.toml` in the user's config folder; `MODELCASK_CONFIG` names another."
    yield f"`{PROGRAM} config` shows what is in force, and from where."
    yield ""
    yield "| setting | variable | default |"
    yield "|---|---|---|"
    for setting in modelcask.explain_settings({"MODELCASK_CONFIG": os.devnull}):
        default = "`modelcask` in the user's cache folder" if setting.name == "home" else _default(setting.value)
        yield f"| `{setting.name}` | `{setting.variable}` | {default} |"


def _default(value: object) -> str:
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _documents(name: str) -> Iterator[str]:
    seen: list[type] = []
    waiting = list(documents.PRINTED.get(name, ()))
    while waiting:
        document = waiting.pop(0)
        seen.append(document)
        yield ""
        yield f"**{document.__name__}.** {_first_line(document)}"
        yield ""
        yield "| field | type | meaning |"
        yield "|---|---|---|"
        for field, hint in typing.get_type_hints(document, include_extras=True).items():
            meaning = hint.__metadata__[0] if typing.get_origin(hint) is typing.Annotated else ""
            bare = hint.__origin__ if meaning else hint
            yield f"| `{field}` | {_type_name(bare)} | {meaning} |"
            inner = [part for part in typing.get_args(bare) if typing.is_typeddict(part)]
            inner += [
                part for arg in typing.get_args(bare) for part in typing.get_args(arg) if typing.is_typeddict(part)
            ]
            waiting += [part for part in inner if part not in seen and part not in waiting]


def _first_line(document: type) -> str:
    return (document.__doc__ or "").strip().partition("\n")[0]


def _type_name(hint: typing.Any) -> str:
    """Return a type in JSON's words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(f'`"{value}"`' for value in arguments)
    if origin in {types.UnionType, typing.Union}:
        return " or ".join(map(_type_name, arguments))
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"{_type_name(arguments[1])} for each name"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", types.NoneType: "null"}
    return names.get(hint) or str(hint.__name__)


if __name__ == "__main__":
    sys.stdout.write(page())
