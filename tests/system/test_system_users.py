"""Two users on one machine: a root is its owner's alone, whatever the umask."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelcask
from system.command import PROGRAM, Ended, run

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
CONTENT = b"GGUF" * 5000


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that every user can reach, with the home of another one inside, and a model."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("acting as a second user takes root and setpriv")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "model.gguf").write_bytes(CONTENT)
        (folder / "home").mkdir()
        os.chown(folder / "home", NOBODY, NOBODY)
        done = subprocess.run([*AS_NOBODY, *PROGRAM, "--version"], capture_output=True, cwd="/", check=False)
        if done.returncode:
            pytest.skip(f"another user cannot run {PROGRAM[0]}: {done.stderr.decode()[-200:]}")
        yield folder


def run_as_nobody(outside: Path, *arguments: str, root: Path | None = None) -> Ended:
    """Run the command as the other user, who has a home and no settings, on the root in his cache folder."""
    home = outside / "home"
    env = {"HOME": str(home), "MODELCASK_CONFIG": str(home / "config.toml"), "MODELCASK_HOME": str(root or "")}
    env |= {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
    return run(*arguments, prefix=AS_NOBODY, env=env, cwd=outside)


@pytest.mark.parametrize("command", ["path", "pull", "verify", "rm"])
def test_another_users_root_is_one_line(outside: Path, command: str) -> None:
    """Nothing of it is told or changed: exit 10, and the line names the root."""
    theirs = outside / "cask"
    uri = (outside / "model.gguf").as_uri()
    with modelcask.ModelCache(theirs) as cache:
        cache.pull(uri)
    before = listing(theirs)
    ended = run_as_nobody(outside, command, *([uri] if command in {"path", "pull", "rm"} else []), root=theirs)

    assert (ended.code, ended.out) == (10, "")
    assert str(theirs) in ended.error
    assert "ermission" in ended.error
    assert ended.err.count("\n") == 1
    assert listing(theirs) == before


def test_another_users_root_is_a_finding_of_doctor(outside: Path) -> None:
    """Of the store it tells that one failure and nothing else."""
    theirs = outside / "cask"
    with modelcask.ModelCache(theirs) as cache:
        cache.pull((outside / "model.gguf").as_uri())
    ended = run_as_nobody(outside, "doctor", root=theirs)

    assert ended.code == 1, ended.err
    [failure] = [line for line in ended.out.splitlines() if line.startswith("failure")]
    assert str(theirs) in failure
    assert "permission denied" in failure


def test_a_second_user_has_a_root_of_his_own(outside: Path) -> None:
    """By default in his cache folder, every file in it his."""
    uri = (outside / "model.gguf").as_uri()
    pulled = run_as_nobody(outside, "pull", "-q", uri)

    assert pulled.path.read_bytes() == CONTENT
    assert run_as_nobody(outside, "path", uri).out == pulled.out
    assert run_as_nobody(outside, "verify").code == 0
    made = list((outside / "home").rglob("*"))
    assert outside / "home" / "cache" / "modelcask" / "FORMAT" in made
    assert {path.lstat().st_uid for path in made} == {NOBODY}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids="{:03o}".format)
def test_no_umask_opens_or_closes_a_root(cask: Path, tmp_path: Path, umask: int) -> None:
    """Folders 0700, blobs 0444, and nothing else that others could read or write if they came so far."""
    model = tmp_path / "model.gguf"
    model.write_bytes(CONTENT)
    path = run("pull", "-q", model.as_uri(), umask=umask).path

    assert run("path", model.as_uri(), umask=umask).path == path
    modes = {name: mode for name, (mode, _) in listing(cask).items()}
    folders = {stat.S_IMODE(mode) for mode in modes.values() if stat.S_ISDIR(mode)}
    assert folders == {0o700}
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    files = {name: stat.S_IMODE(mode) for name, mode in modes.items() if stat.S_ISREG(mode)}
    assert {name: oct(mode) for name, mode in files.items() if mode & 0o077 and not name.startswith("blobs/")} == {}


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Return the mode and the time of change of the root and of everything in it."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        found[path.relative_to(root).as_posix()] = (status.st_mode, status.st_ctime_ns)
    return found
