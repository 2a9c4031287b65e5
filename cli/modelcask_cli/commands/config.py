"""``modelcask config``."""

from __future__ import annotations

from pathlib import Path

import click

import modelcask
from modelcask_cli import streams
from modelcask_cli.app import examples, given_home
from modelcask_cli.options import json_option


@click.command(epilog=examples("modelcask config", "modelcask --home /data/models config --json"))
@json_option
def command(as_json: bool) -> None:
    """Show each setting, where it comes from, and what sets it.

    An argument beats the environment, the environment the config file, and that the default.
    """
    file = modelcask.config_file()
    settings = modelcask.explain_settings(home=given_home(click.get_current_context()))
    if as_json:
        from modelcask_cli.documents import ConfigDocument  # noqa: PLC0415

        document: ConfigDocument = {
            "config_file": str(file),
            "config_file_exists": file.exists(),
            "settings": [
                {
                    "name": setting.name,
                    "value": _shown(setting.value),
                    "origin": setting.origin,
                    "variable": setting.variable,
                }
                for setting in settings
            ],
        }
        streams.tell_json(document)
        return
    from modelcask_cli.table import tell_table  # noqa: PLC0415

    tell_table(
        ("SETTING", "VALUE", "FROM", "VARIABLE"),
        [
            (setting.name, _written(setting.value), modelcask.display(setting.origin, 4096), setting.variable)
            for setting in settings
        ],
    )
    streams.tell("")
    streams.tell(f"config file: {file}{'' if file.exists() else ' (not there)'}")


def _shown(value: object) -> str | int | float | bool | None:
    if isinstance(value, str):
        return modelcask.SafeURL(value)  # the one text among the settings is a URL, and may hold a password
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):  # the mirrors
        bases = [(prefix, base) for prefix, found in value for base in found]
        return " ".join(f"{modelcask.SafeURL(prefix)}={modelcask.SafeURL(base)}" for prefix, base in bases)
    return value if isinstance(value, int | float) else None


def _written(value: object) -> str:
    shown = _shown(value)
    if isinstance(shown, bool):
        return str(shown).lower()  # as TOML has it
    return "" if shown is None else modelcask.display(str(shown), 4096)
