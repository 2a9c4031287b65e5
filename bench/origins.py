"""The origin of one case: nginx and the Hub behind it, on the line that the case wants."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lossy_link

HERE = Path(__file__).parent
THROTTLE_BYTES_S = 50_000_000


@dataclass(frozen=True, slots=True)
class Origin:
    """A running origin."""

    url: str
    inside: list[str] = field(default_factory=list)
    """What a peer's command has to begin with so that it runs at the near end of the line."""


@contextlib.contextmanager
def serve(served: Path, prefix: Path, *, line: str) -> Iterator[Origin]:
    """Serve ``served`` while the ``with`` block lasts, with nginx's own files in ``prefix``.

    ``line`` is ``loopback``, ``throttled`` or ``lossy``.
    """
    with contextlib.ExitStack() as running:
        address, near, far = "127.0.0.1", list[str](), list[str]()
        if line == "lossy":
            link = running.enter_context(lossy_link.Link())
            address, near, far = lossy_link.ADDRESS, link.near, link.far
        rate = THROTTLE_BYTES_S if line == "throttled" else 0
        prefix.mkdir()
        python = [*far, sys.executable]
        hub = _start(running, [*python, str(HERE / "serve_hub.py"), str(served)])
        hub_port = _line_of(hub)
        words = [str(prefix), str(served), address, str(rate), hub_port]
        nginx = _start(running, [*python, str(HERE / "serve_nginx.py"), *words])
        url, cdn = (f"http://{address}:{_line_of(nginx)}" for _ in range(2))
        assert hub.stdin is not None  # noqa: S101 - it was asked for
        hub.stdin.write(f"{url} {cdn}\n")
        hub.stdin.flush()
        _line_of(hub)
        yield Origin(url, near)


def _start(running: contextlib.ExitStack, command: list[str]) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(HERE.parent / "tests")}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True
    )
    running.callback(process.wait)
    running.callback(process.terminate)
    return process


def _line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that it prints."""
    assert process.stdout is not None  # noqa: S101 - it was asked for
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError("a part of the origin ended early; what it said stands above")
    return line
