"""``docs/cli.md`` says what the commands do, and so does each command."""

from __future__ import annotations

import ast
import typing
from pathlib import Path

import click
import pytest

from modelcask_cli import documents, reference
from modelcask_cli.app import COMMANDS, app

ROOT = Path(__file__).parents[2]


def command(name: str) -> click.Command:
    found = app.get_command(click.Context(app), name)
    assert found is not None
    return found


def test_the_page_is_what_the_commands_say() -> None:
    """If not: ``python -m modelcask_cli.reference > docs/cli.md``."""
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == reference.page()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_an_example_and_stands_in_the_page(name: str) -> None:
    """The first line is a sentence short enough for the list; each option has its own."""
    found = command(name)
    assert found.help
    first = found.help.partition("\n")[0]
    assert first.endswith(".")
    assert len(first) <= 66
    assert found.epilog is not None
    assert f"modelcask {name}" in found.epilog or "config" in found.epilog
    assert f"## modelcask {name}\n" in reference.page()
    for option in found.params:
        if isinstance(option, click.Option):
            assert option.help, option.name


def test_each_file_of_commands_is_a_command() -> None:
    """And the other way round."""
    folder = ROOT / "cli" / "modelcask_cli" / "commands"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(COMMANDS)


def test_every_command_that_prints_json_has_its_fields_in_the_page() -> None:
    """Each field has a meaning; a field's size or count says its unit."""
    with_json = {name for name in COMMANDS if any(option.name == "as_json" for option in command(name).params)}
    assert with_json == set(documents.PRINTED)
    page = reference.page()
    for value in vars(documents).values():
        if typing.is_typeddict(value):
            assert f"**{value.__name__}.**" in page
            for field in typing.get_type_hints(value):
                assert f"| `{field}` |" in page
                assert not field.endswith("size")


def test_the_command_imports_public_names_only() -> None:
    """``import modelcask``, never a module below it."""
    for path in (ROOT / "cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("modelcask.")], path
