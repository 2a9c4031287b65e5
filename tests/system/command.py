"""The command ``modelcask`` as a process of its own, the way a shell starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = (sys.executable, "-m", "modelcask_cli")


@dataclass(frozen=True, slots=True)
class Ended:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def path(self) -> Path:
        """The one path that was printed."""
        assert self.code == 0, self.err
        [line] = self.out.splitlines()
        return Path(line)

    @property
    def error(self) -> str:
        """The one line that tells what went wrong: no traceback, no second line."""
        assert self.code != 0, self.out
        [line] = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert line == self.err.splitlines()[-1]
        assert "Traceback" not in self.err
        return line


def run(
    *arguments: str | Path,
    prefix: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    umask: int = -1,
    cwd: Path | None = None,
) -> Ended:
    """Run the command to its end.

    ``prefix`` is a program that starts it, such as setpriv; ``env`` is added to the test's own environment. A process
    under a prefix is not measured: another user may not write where coverage keeps its data.
    """
    environ = {name: value for name, value in os.environ.items() if not (prefix and name.startswith("COVERAGE_"))}
    done = subprocess.run(
        [*prefix, *PROGRAM, *map(str, arguments)],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=300,
        env=environ | dict(env or {}),
        umask=umask,
        cwd=cwd,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
