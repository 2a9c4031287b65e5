"""``--home``: whatever is wrong with the folder ends as the setting of the same name would."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelcask_cli.app import app

# Root may read everything, unless it gives that up.
AS_A_USER = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()

COMMANDS = [["ls"], ["verify"], ["path", "hf://org/repo"], ["pull", "file:///dev/null"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.skipif(bool(AS_A_USER) and shutil.which("setpriv") is None, reason="root can read any folder")
def test_a_folder_that_cannot_be_read_is_exit_ten(spawn: Any, tmp_path: Path, command: list[str]) -> None:
    """One line that names it and the step, the same for the option and the variable."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    line = f"error: {folder}: permission denied; set MODELCASK_HOME to a folder of your own\n"
    by_option = spawn("--home", folder, *command, prefix=AS_A_USER)
    by_variable = spawn(*command, prefix=AS_A_USER, env=os.environ | {"MODELCASK_HOME": str(folder)})
    for ended in (by_option, by_variable):
        assert (ended.code, ended.out, ended.err) == (10, "", line)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_file_is_no_home_and_exit_ten(run: Any, tmp_path: Path, command: list[str]) -> None:
    """Nothing could ever be held there, so it is not told to be empty."""
    (tmp_path / "file").touch()
    ended = run("--home", tmp_path / "file", *command)
    assert (ended.code, ended.out) == (10, "")
    assert ended.err == f"error: {tmp_path / 'file'} is not a folder; set MODELCASK_HOME, or --home, to one\n"


def test_an_empty_home_is_exit_two(run: Any) -> None:
    """As the setting: it names nothing."""
    ended = run("--home", "", "ls")
    assert (ended.code, ended.out) == (2, "")
    assert "home = ''" in ended.err


def test_a_shell_completes_folders_for_it() -> None:
    """That click no longer checks the value takes nothing from the shell."""
    [option] = [param for param in app.params if param.name == "home"]
    [item] = option.shell_complete(app.make_context("modelcask", [], resilient_parsing=True), "/t")
    assert (item.type, item.value) == ("dir", "/t")
