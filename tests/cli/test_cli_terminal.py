"""What is drawn where a terminal is, and what is not where there is none."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from behaviours import CutAfter, Gate, HoldAfter
from origin import Origin

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(*arguments: str, stream: str, **environment: str) -> tuple[str, str]:
    """Run a command with stdout or stderr on a terminal; return what came there, and what on the other stream."""
    master, slave = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(master, 1 << 16):
                shown.extend(chunk)
        except OSError:
            return  # Linux tells so that the last writer has closed the terminal

    reader = threading.Thread(target=read)
    other = "stderr" if stream == "stdout" else "stdout"
    with subprocess.Popen(
        [sys.executable, "-m", "modelcask_cli", *arguments],
        stdin=subprocess.DEVNULL,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"} | environment,
        text=True,
        **{stream: slave, other: subprocess.PIPE},  # type: ignore[call-overload] # two of three streams
    ) as process:
        os.close(slave)
        reader.start()
        out, err = process.communicate(timeout=300)
        reader.join()
    os.close(master)
    assert process.returncode == 0, (shown, out, err)
    return shown.decode(), err if stream == "stdout" else out


def test_bars_go_to_the_terminal_and_the_path_to_the_pipe() -> None:
    """``path=$(modelcask pull …)`` draws while it pulls, and gets the path and nothing else."""
    with Origin() as origin:
        url = origin.add("/m.gguf", os.urandom(100_000))
        shown, out = on_terminal("pull", url, stream="stderr")
    [path] = out.splitlines()
    assert Path(path).is_file()
    assert "━" in shown
    assert "asking the source" in shown
    assert path not in shown
    assert _CODES.sub("", shown).splitlines()[-1].startswith("1 file, 100.0 kB: 100.0 kB fetched")


# The terminal is the process's own, as a shell's is: so its end is a signal.
OWNING_TERMINAL = """
import os, sys
os.login_tty(int(sys.argv[1]))
os.execv(sys.executable, [sys.executable, "-m", "modelcask_cli", *sys.argv[2:]])
"""


def _read_until(gate: Gate, master: int) -> None:
    """Keep the terminal from filling up until an answer stands at the gate. No thread may still read what is closed."""
    os.set_blocking(master, False)
    for _ in range(1200):
        with contextlib.suppress(BlockingIOError):
            os.read(master, 1 << 16)
        if gate.reached.wait(0.05):
            return
    gate.wait(0)


def test_a_terminal_that_is_closed_stops_the_pull_tidily(run: Any) -> None:
    """Exit 129 although nothing can be written any more; the next pull goes on from what had come."""
    model = os.urandom(4_000_000)
    gate = Gate()
    with Origin() as origin:
        url = origin.add("/m.gguf", model, behaviours=[HoldAfter(2_000_000, gate), CutAfter(1 << 40)])
        master, slave = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", OWNING_TERMINAL, str(slave), "pull", url],
            env=os.environ | {"TERM": "xterm-256color"},
            pass_fds=[slave],
        ) as process:
            os.close(slave)
            try:
                _read_until(gate, master)
                os.close(master)
                assert process.wait(60) == 129
            finally:
                process.kill()
                gate.open()
        served = origin.bytes_served
        assert Path(run("pull", "-q", url).lines[0]).read_bytes() == model
        assert origin.bytes_served - served < len(model)


def test_a_terminal_that_can_draw_nothing_gets_lines() -> None:
    """``TERM=dumb``, as in an editor's shell."""
    with Origin() as origin:
        url = origin.add("/m.gguf", os.urandom(100_000))
        shown, _ = on_terminal("pull", url, stream="stderr", TERM="dumb")
    assert shown.splitlines()[0] == "m.gguf: done, 100.0 kB"
    assert "\x1b" not in shown


def test_a_table_on_a_terminal_has_heads_that_stand_out(run: Any, model: Path) -> None:
    """The same words as in a pipe, with the terminal's own styles."""
    run("pull", model.as_uri())
    plain = run("ls").lines
    shown, _ = on_terminal("ls", stream="stdout", COLUMNS="300")
    assert "\x1b[1m" in shown
    assert [line.split() for line in _CODES.sub("", shown).splitlines()] == [line.split() for line in plain]


@pytest.mark.parametrize("command", ["verify", "rebuild"])
def test_long_work_shows_a_living_line_that_vanishes(run: Any, model: Path, command: str) -> None:
    """What stays is the result."""
    run("pull", model.as_uri())
    shown, out = on_terminal(command, stream="stderr")
    assert "hashed" in shown
    assert "\x1b[2K" in shown
    assert out == ("" if command == "verify" else "1 blob, 2.0 MB; 1 revision, 1 file\n")
