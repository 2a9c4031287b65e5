"""Completion, as the shells really ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelcask_cli.__main__ import main

BASH = shutil.which("bash")

# Bash splits the line as readline does, then calls the function that the script has registered.
ASK = """
source "$SCRIPT"
COMP_LINE=$1
COMP_POINT=${#1}
_modelcask_completion modelcask "" ""
printf '%s\\n' "${COMPREPLY[@]}"
complete -p modelcask
"""


@pytest.fixture
def script(run: Any, tmp_path: Path) -> Path:
    """The script for bash, with a ``modelcask`` on the PATH."""
    path = tmp_path / "completion.bash"
    path.write_text(run("completion", "bash").out)
    program = tmp_path / "bin" / "modelcask"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m modelcask_cli "$@"\n')
    program.chmod(0o755)
    return path


def ask(script: Path, line: str) -> list[str]:
    """Return what bash is offered for a line with the cursor at its end."""
    assert BASH is not None
    done = subprocess.run(
        [BASH, "--norc", "-c", ASK, "bash", line],
        env=os.environ | {"SCRIPT": str(script), "PATH": f"{script.parent / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        timeout=300,
        check=True,
        text=True,
    )
    assert done.stderr == ""
    *offered, registered = done.stdout.splitlines()
    assert registered.startswith("complete ")
    return [word for word in offered if word]


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_bash_completes_commands_and_cached_uris(script: Path, run: Any, model: Path) -> None:
    """A URI holds colons, at which readline breaks words: what stands before the last one is not offered again."""
    run("pull", model.as_uri())
    assert ask(script, "modelcask p") == ["pull", "path", "partials"]
    assert ask(script, f"modelcask path {model.as_uri()[:12]}") == [model.as_uri().removeprefix("file:")]
    assert ask(script, f"modelcask path {model.as_uri()} ") == []


def complete(
    line: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, breaks: str = ""
) -> list[str]:
    """Return what is offered for a line, asked as the script asks."""
    monkeypatch.setenv("_MODELCASK_COMPLETE", "bash_complete")
    monkeypatch.setenv("_MODELCASK_LINE", line)
    monkeypatch.setenv("_MODELCASK_BREAKS", breaks)
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    return capfd.readouterr().out.split()


def test_what_a_shell_offers(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    """Options, choices, URIs; a URI that was given is not offered twice, and not where none belongs."""
    main(["pull", "-q", model.as_uri()])
    uri = f"plain,{model.as_uri()}"

    def offered(line: str, breaks: str = "") -> list[str]:
        return complete(line, capfd, monkeypatch, breaks)

    assert "plain,--refresh" in offered("modelcask pull --")
    assert offered("modelcask completion ") == ["plain,bash", "plain,zsh", "plain,fish"]
    assert offered("modelcask --home ") == ["dir,"]
    assert offered("modelcask rm f") == [uri]
    assert offered("modelcask show 'file:/", ":") == [uri.replace("file:", "")]
    assert offered(f"modelcask rm {model.as_uri()} ") == []
    assert offered("modelcask config f") == []
    assert offered(f"modelcask --home {model.parent} rm f") == []


def test_a_uri_that_a_shell_would_split_is_not_offered_to_bash(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bash puts it on the line as it is, and ``&`` ends a command."""
    from origin import Origin  # noqa: PLC0415

    with Origin() as origin:
        url = origin.add("/m.gguf", b"GGUF")
        assert main(["pull", "-q", f"{url}?a=1&b=2"]) == 0
    assert complete("modelcask path http", capfd, monkeypatch) == []


def test_nothing_is_offered_and_nothing_said_where_the_store_cannot_be_read(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cask: Path
) -> None:
    """A shell that completes never shows an error."""
    cask.mkdir()
    (cask / "FORMAT").write_text("nonsense")
    assert complete("modelcask path f", capfd, monkeypatch) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_it_can_read(run: Any, shell: str, tmp_path: Path) -> None:
    """No shell is started to make it; where the shell is installed it finds no fault with it."""
    ended = run("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    assert f"_MODELCASK_COMPLETE={shell}_complete" in ended.out
    path = tmp_path / "script"
    path.write_text(ended.out)
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([program, "-n", str(path)], check=True, timeout=60)
