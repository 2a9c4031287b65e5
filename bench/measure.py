"""One run of one program: how long it took, and what the operating system says that it cost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run took, from its start until it was reaped; it and all its children."""

    seconds: float
    user_s: float
    system_s: float
    peak_rss_bytes: int
    """Of its largest single process. Never below ``rss_floor_bytes()``."""


class RunFailedError(Exception):
    """A run that ended otherwise than with 0, or not in time; the message is the last thing that it said."""


def measure(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, timeout_s: float) -> Usage:
    """Run a command to its end in a session of its own, with its output in ``log``.

    Raises:
        RunFailedError: it failed, or was killed after ``timeout_s``.
    """
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        late = threading.Timer(timeout_s, os.killpg, (process.pid, signal.SIGKILL))
        late.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            late.cancel()
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)  # reaped above, so that its usage could be read
    if process.returncode != 0:
        said = log.read_text(errors="replace").strip().splitlines() or ["nothing was said"]
        why = f"no end after {timeout_s:.0f} s" if seconds >= timeout_s else f"exit {process.returncode}"
        raise RunFailedError(f"{why}: {said[-1]}")
    return Usage(seconds, used.ru_utime, used.ru_stime, used.ru_maxrss * _RSS_UNIT)


def rss_floor_bytes() -> int:
    """Return the smallest peak that can be told: a child starts as a copy of this process, and that counts."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
