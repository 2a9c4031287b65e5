"""The log of modelcask on stderr, with -v and -vv."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
import threading
from typing import Any

import pytest

import modelcask
from origin import Origin

_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} modelcask\.\w+ (INFO|DEBUG) ")

# Bars that come and go while four threads log: what a pull with -vv does, without the luck of a network.
_TALK = """
import logging, threading
from rich.console import Console
import modelcask
from modelcask_cli.progress.bars import Bars
from modelcask_cli.verbosity import show_log

show_log(2)
log = logging.getLogger("modelcask.pull")

def talk(number):
    for turn in range(50):
        log.info("talker %d, turn %d.", number, turn)

with Bars(Console(stderr=True)) as bars:
    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(300):
        for path in ("a", "b", "c"):
            phase = modelcask.Phase.DONE if turn % 3 == 2 else modelcask.Phase.DOWNLOADING
            bars(modelcask.Progress("hf://models/o/r@main", path, phase, turn, 1000))
        bars._progress.refresh()
    for thread in threads:
        thread.join()
"""


def shown_on_terminal(script: str) -> str:
    master, slave = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(master, 1 << 16):
                shown.extend(chunk)
        except OSError:
            return  # Linux tells so that the last writer has closed the terminal

    reader = threading.Thread(target=read)
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen([sys.executable, "-c", script], stderr=slave, env=environment) as process:
        os.close(slave)
        reader.start()
        process.wait(timeout=300)
        reader.join()
    os.close(master)
    assert process.returncode == 0, shown.decode()
    return shown.decode()


def screen_after(shown: str) -> list[str]:
    """Return what stands on a terminal of any height in the end; it knows what rich and the log write, no more."""
    lines, row, column = [""], 0, 0
    for code, text in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|([\r\n]|[^\x1b\r\n]+)", shown):
        if code == "2K":
            lines[row] = ""
        elif code.endswith("A"):
            row -= int(code[:-1] or 1)
            assert row >= 0
        elif text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
            column += len(text)
        else:
            assert code.endswith(("m", "h", "l")), code
    return [line.rstrip() for line in lines]


def test_lines_and_bars_do_not_tear_each_other() -> None:
    """Each line that is logged stands whole, once, on a line of its own when the bars are gone."""
    shown = shown_on_terminal(_TALK)
    told = [line for line in screen_after(shown) if line]
    assert [_LINE.sub("", line) for line in told if not _LINE.match(line)] == []
    assert sorted(_LINE.sub("", line) for line in told) == sorted(
        f"talker {number}, turn {turn}." for number in range(4) for turn in range(50)
    )
    assert "━" in shown


def test_one_event_is_one_line_that_cannot_move_the_cursor(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a remote name or a traceback holds."""

    def talk(*_: object, **__: object) -> list[object]:
        log = logging.getLogger("modelcask.pull")
        log.info("name \x1b[2J\u202e with\nERROR forged line")
        log.warning("failed", exc_info=ValueError("two\nlines"))
        return []

    monkeypatch.setattr(modelcask.ModelCache, "list_snapshots", talk)
    first, second = run("-v", "ls", "-q").err.splitlines()
    assert first.isascii()
    assert first.isprintable()
    assert first.endswith("name \\x1b[2J\\u202e with\\nERROR forged line")
    assert "ValueError" in second


def test_no_secret_of_a_url_is_logged(run: Any) -> None:
    """Neither in what is done nor in the details, whether the pull succeeds or not."""
    with Origin() as origin:
        url = origin.add("/m.gguf", b"GGUF" * 100)
        for name in (url, url.replace("m.gguf", "none.gguf")):
            ended = run("-vv", "pull", f"{name}?X-Amz-Signature=f00d&token=hunter2")
            assert "modelcask.pull" in ended.err or ended.code
            assert "f00d" not in ended.err
            assert "hunter2" not in ended.err


def test_a_program_hears_nothing_that_it_did_not_ask_for() -> None:
    """The library configures no handler but the one that keeps Python from printing warnings by itself."""
    script = (
        "import logging, modelcask; modelcask.ModelCache\n"
        "logging.getLogger('modelcask.store').error('not for everybody')\n"
        "assert logging.getLogger().handlers == []\n"
        "[only] = logging.getLogger('modelcask').handlers\n"
        "assert type(only) is logging.NullHandler and logging.getLogger('modelcask').level == logging.NOTSET\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=300)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_lines_that_nobody_can_read_are_no_failure() -> None:
    """stderr may be closed, or its reader gone."""
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "modelcask_cli", "-vv", "config"],
            stdout=subprocess.PIPE,
            stderr=pipe,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0
    assert b"home" in done.stdout
