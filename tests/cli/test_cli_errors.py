"""Whatever goes wrong is one line on stderr and an exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import modelcask
from modelcask_cli import exits, stopping
from modelcask_cli.commands import ls

COMMAND = [sys.executable, "-m", "modelcask_cli"]


def test_every_public_error_has_an_exit_code_with_a_meaning() -> None:
    """Each code that an error ends with is in the table, under the name that the design gives it."""
    found = exits.errors_by_code()
    assert set(found) <= set(exits.MEANINGS)
    assert set(found) == {*range(1, 11), 130}
    assert found[4] == ["DigestMismatchError", "SizeMismatchError", "VerificationError"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["pull"], "error: Missing argument 'URI...'; see: modelcask pull --help"),
        (["ls", "--sort", "colour"], "error: Invalid value for '--sort': 'colour' is not one of"),
        (["path", "a", "b"], "error: Got unexpected extra argument (b); see: modelcask path --help"),
        (["fetch"], "error: No such command 'fetch'"),
        (["ls", "--no-such"], "error: No such option"),
    ],
)
def test_words_that_are_wrong_are_one_line_and_exit_two(run: Any, arguments: list[str], line: str) -> None:
    """The line says where to read on."""
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    [said] = ended.err.splitlines()
    assert said.startswith(line)
    assert "--help" in said


def test_no_command_shows_the_help(run: Any) -> None:
    """It is no success: nothing was asked for."""
    ended = run()
    assert (ended.code, ended.out) == (2, "")
    assert "Commands:" in ended.err


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_goes_to_stdout(run: Any, option: str) -> None:
    """For the whole and for a command."""
    assert run(option).out.startswith("Usage: modelcask ")
    ended = run("pull", option)
    assert ended.code == 0
    assert ended.out.startswith("Usage: modelcask pull ")


def test_the_version_is_the_packages(run: Any) -> None:
    """In one line."""
    from importlib.metadata import version  # noqa: PLC0415

    assert run("--version").out == f"modelcask {version('modelcask')}\n"


def test_a_bug_keeps_its_traceback_and_asks_to_be_reported(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, and the last line says what it is."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("one by \x1b nothing")

    monkeypatch.setattr(modelcask.ModelCache, "list_snapshots", broken)
    ended = run("ls")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Traceback")
    last = ended.err.splitlines()[-1]
    assert last.startswith("error: internal error: ZeroDivisionError: one by \\x1b nothing; please report it")


def test_messages_of_strangers_are_escaped(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second line or an escape code in a message stays in the one line, in plain text."""

    def refused(*_: object, **__: object) -> None:
        raise modelcask.PolicyError("no\nerror: all is well \x1b[2J")

    monkeypatch.setattr(modelcask.ModelCache, "list_snapshots", refused)
    ended = run("ls")
    assert (ended.code, ended.err) == (8, "error: no\\nerror: all is well \\x1b[2J\n")


def test_ctrl_c_is_one_word_and_130(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no event loop runs."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(modelcask.ModelCache, "list_snapshots", interrupted)
    ended = run("ls")
    assert (ended.code, ended.err.strip()) == (130, "stopped")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_stop_is_one_word(
    run: Any, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals, code: int
) -> None:
    """What ends services, and sessions, ends this tidily; what handled it before does so again afterwards."""
    before = signal.signal(signum, signal.SIG_DFL)
    try:
        monkeypatch.setattr(ls, "load_settings", lambda: os.kill(os.getpid(), signum))
        ended = run("ls")
        assert (ended.code, ended.err) == (code, "stopped\n")
        assert signal.getsignal(signum) is signal.SIG_DFL
    finally:
        signal.signal(signum, before)


def test_a_signal_that_was_switched_off_stays_so(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``nohup modelcask pull …`` outlives its terminal."""

    async def hang_up() -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        return "alive"

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stopping.run(hang_up()) == "alive"
        monkeypatch.setattr(
            modelcask.ModelCache, "list_snapshots", lambda *_, **__: os.kill(os.getpid(), signal.SIGHUP) or []
        )
        assert run("ls", "-q").code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


STUBBORN = """
import asyncio
from modelcask_cli import stopping

async def stubborn():
    print("begun", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("tidying", flush=True)
        await asyncio.Event().wait()

stopping.run(stubborn())
"""


def test_a_second_signal_ends_a_command_that_does_not_end() -> None:
    """The first one waits for what is tidied up; a person need not."""
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "tidying\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_a_cancellation_that_no_signal_asked_for_stays_one() -> None:
    """It is a bug of ours, and must not be told as a stop."""

    async def gives_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        stopping.run(gives_up())


def test_a_reader_that_went_away_is_no_error() -> None:
    """``modelcask config | head -1`` says nothing on stderr."""
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as pipe:
        done = subprocess.run([*COMMAND, "config"], stdout=pipe, stderr=subprocess.PIPE, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (exits.UNREAD, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_below_stdout_is_one_line() -> None:
    """Output that was lost is a failure."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, "config"], stdout=full, stderr=subprocess.PIPE, timeout=300, check=False)
    assert done.returncode == 1
    assert done.stderr == b"error: the output cannot be written: No space left on device\n"


def test_events_that_nobody_reads_do_not_stop_the_pull(model: Path, cask: Path) -> None:
    """The bytes are wanted all the same; the exit code says that the lines were lost."""
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as pipe:
        done = subprocess.run(
            [*COMMAND, "pull", "--json", model.as_uri()], stdout=pipe, stderr=subprocess.PIPE, timeout=300, check=False
        )
    assert (done.returncode, done.stderr) == (exits.UNREAD, b"")
    with modelcask.ModelCache(cask) as cache:
        assert cache.lookup(model.as_uri()) is not None


def test_verbosity_shows_the_log_of_modelcask_alone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings always, more with -v and -vv; a stranger's log never."""

    def talk(*_: object, **__: object) -> list[object]:
        for name in ("modelcask.store", "stranger"):
            log = logging.getLogger(name)
            log.debug("a detail")
            log.info("a step")
            log.warning("a \x1b warning")
        return []

    monkeypatch.setattr(modelcask.ModelCache, "list_snapshots", talk)
    assert run("ls", "-q").err == "WARNING: a \\x1b warning\n"
    assert [line.split()[2:] for line in run("-v", "ls", "-q").err.splitlines()] == [
        ["modelcask.store", "INFO", "a", "step"],
        ["modelcask.store", "WARNING", "a", "\\x1b", "warning"],
    ]
    assert len(run("-vv", "ls", "-q").err.splitlines()) == 3
