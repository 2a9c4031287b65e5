"""What is asked for often is cheap: the heavy parts are not imported for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("aiohttp", "alembic", "huggingface_hub", "rich", "sqlalchemy")
PROGRAM = f"""
import json, sys
from modelcask_cli.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
json.dump([code, sorted(set(sys.modules) & set({HEAVY!r}))], sys.stderr)
"""


def run_alone(arguments: list[str], **environment: str) -> list[Any]:
    """Return exit code and heavy modules of one command in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | environment,
        capture_output=True,
        timeout=300,
        check=True,
    )
    found: list[Any] = json.loads(done.stderr.splitlines()[-1])
    return found


def test_the_test_would_see_heavy_modules(model: Path) -> None:
    """A pull needs them: so the list is spelled right, and this is no test that cannot fail."""
    code, heavy = run_alone(["pull", "-q", model.as_uri()])
    assert code == 0
    assert "sqlalchemy" in heavy


@pytest.mark.parametrize(
    "arguments", [["--help"], ["pull", "--help"], ["--version"], ["config"], ["completion", "bash"]]
)
def test_help_and_settings_import_nothing_heavy(arguments: list[str]) -> None:
    """Nor does any command's module at its top, since the help shows them all."""
    assert run_alone(arguments) == [0, []]


def test_path_imports_nothing_heavy(run: Any, model: Path) -> None:
    """Found or not: a program may call it a hundred times."""
    run("pull", model.as_uri())
    assert run_alone(["path", model.as_uri()]) == [0, []]


@pytest.mark.parametrize("words", ["modelcask p", "modelcask pull --", "modelcask ls --sort "])
def test_completion_of_words_imports_nothing_heavy(words: str) -> None:
    """A shell asks at each press of the key."""
    environment = {"_MODELCASK_COMPLETE": "bash_complete", "_MODELCASK_LINE": words, "_MODELCASK_BREAKS": ":"}
    assert run_alone([], **environment) == [0, []]
