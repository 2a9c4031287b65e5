"""The command line, run in the test's own process or in another."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelcask_cli.__main__ import main


@dataclass(frozen=True, slots=True)
class Ended:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def events(self) -> list[Any]:
        """The lines of ``pull --json``, those about progress left out."""
        return [event for event in map(json.loads, self.lines) if event["event"] != "progress"]


Run = Callable[..., Ended]


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run the command in this process."""

    def run(*arguments: str | Path) -> Ended:
        capsysbinary.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return Ended(code, out.decode(errors="surrogateescape"), err.decode())

    return run


@pytest.fixture
def spawn() -> Run:
    """Run the command in a process of its own."""

    def spawn(*arguments: str | Path, prefix: Sequence[str] = (), **options: Any) -> Ended:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "modelcask_cli", *map(str, arguments)],
            check=False,
            **{"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": 300} | options,
        )
        return Ended(done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode())

    return spawn


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file of two megabytes to pull."""
    path = tmp_path / "models" / "a.gguf"
    path.parent.mkdir()
    path.write_bytes(b"GGUF" + bytes(range(256)) * 8000)
    return path
