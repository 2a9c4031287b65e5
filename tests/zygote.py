"""A warm process that forks children which a test may kill.

Importing everything costs a second, so it is done once, in a process that opens nothing and has one thread; each
child is forked from it with its modules loaded and otherwise as fresh as a new interpreter. What a child runs is a
function of a module below ``tests/``, named ``module:function``. A child that is killed leaves no result.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

_WARM = (
    "modelcask.manager",
    "modelcask.pulling",
    "modelcask.removal",
    "modelcask.verification",
    "modelcask.rebuilding",
    "modelcask.sources.file",
    "alembic.command",
    "kill_jobs",
    "store_jobs",
)
_PATIENCE_S = 60.0
_folder = Path()


class ChildFailedError(Exception):
    """The child raised; ``name`` is the class of what it raised."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        super().__init__(text)


@dataclass(slots=True)
class Child:
    """One forked process."""

    zygote: Zygote
    pid: int
    folder: Path
    _status: int | None = None

    def wait(self) -> int:
        """Return the exit code, or minus the number of the signal that ended it; kill it if it takes a minute."""
        deadline = time.monotonic() + _PATIENCE_S
        pause = 0.0005
        while self._status is None:
            self._status = self.zygote.ask("ended", self.pid)
            if self._status is None and time.monotonic() > deadline:
                self.kill()
                deadline += _PATIENCE_S
            time.sleep(pause)
            pause = min(pause * 2, 0.01)
        return self._status

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the child a signal."""
        os.kill(self.pid, number)

    def result(self) -> Any:
        """Wait and return what the function returned, or raise ChildFailedError for what it raised."""
        status = self.wait()
        path = self.folder / "result"
        if not path.exists():
            raise ChildFailedError(signal.Signals(-status).name if status < 0 else str(status), "it left no result")
        name, value = pickle.loads(path.read_bytes())
        if name is not None:
            raise ChildFailedError(name, value)
        return value

    def hears(self, word: str) -> Any:
        """Wait until the child says ``word``, and return what it said with it."""
        path = self.folder / f"said-{word}"
        deadline = time.monotonic() + _PATIENCE_S
        while not path.exists():
            if self.zygote.ask("ended", self.pid) is not None:
                self.result()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the child never said {word}")
            time.sleep(0.002)
        return pickle.loads(path.read_bytes())

    def tell(self, word: str) -> None:
        """Let the child go on that waits for ``word``."""
        (self.folder / f"told-{word}").touch()


class Zygote:
    """The warm process; children are numbered folders below a temporary one."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="zygote-")
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(pickle.dumps(("end",)))
        self._temporary.cleanup()

    def ask(self, *request: object) -> Any:
        """Send a request to the warm process and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)

    def start(self, job: str, *arguments: object) -> Child:
        """Fork a child that calls ``job`` with this process's environment."""
        self._count += 1
        folder = Path(self._temporary.name) / str(self._count)
        folder.mkdir()
        return Child(self, self.ask("fork", job, arguments, str(folder), dict(os.environ)), folder)

    def run(self, job: str, *arguments: object) -> Any:
        """Start a child, wait for it and return its result."""
        return self.start(job, *arguments).result()


@contextlib.contextmanager
def ended(*children: Child) -> Iterator[None]:
    """Kill the children when the block ends, however it ends."""
    try:
        yield
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                if child.zygote.ask("ended", child.pid) is None:
                    child.kill()
            child.wait()


# What follows runs in the children.


def say(word: str, value: object = None) -> None:
    """Tell the test something."""
    path = _folder / f".said-{word}"
    path.write_bytes(pickle.dumps(value))
    path.rename(_folder / f"said-{word}")


def wait_for(word: str) -> None:
    """Wait until the test tells ``word``."""
    while not (_folder / f"told-{word}").exists():
        time.sleep(0.002)


def _run(job: str, arguments: tuple[Any, ...], folder: str, environment: dict[str, str]) -> None:
    global _folder  # noqa: PLW0603 - one child, one folder
    _folder = Path(folder)
    # The child's own copy of this module is __main__; the jobs import it as ``zygote``.
    sys.modules["zygote"] = sys.modules["__main__"]
    os.environ.clear()
    os.environ.update(environment)
    module, _, function = job.partition(":")
    try:
        outcome: tuple[str | None, object] = None, getattr(importlib.import_module(module), function)(*arguments)
    except BaseException as error:  # noqa: BLE001 - handed to the test
        outcome = type(error).__name__, traceback.format_exc()
    atexit._run_exitfuncs()
    save_coverage()
    path = _folder / ".result"
    path.write_bytes(pickle.dumps(outcome))
    path.rename(_folder / "result")


def save_coverage() -> None:
    """Keep what was measured of a process that ends without the interpreter's own end."""
    coverage = sys.modules.get("coverage")
    measuring = None if coverage is None else coverage.Coverage.current()
    if measuring is not None:
        measuring.stop()
        measuring.save()


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    ended_children: dict[int, int] = {}
    while True:
        verb, *rest = pickle.load(requests)
        if verb == "end":
            return
        if verb == "fork":
            pid = os.fork()
            if pid == 0:
                try:
                    _run(*rest)
                finally:
                    os._exit(0)
            ended_children.pop(pid, None)  # the number was another's before
            answer: object = pid
        else:
            [pid] = rest
            if pid not in ended_children:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    ended_children[pid] = os.waitstatus_to_exitcode(status)
            answer = ended_children.get(pid)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    sys.modules["zygote"] = sys.modules["__main__"]
    for name in _WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that a collection in a child does not touch, and so copy, every page
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # whatever a child prints is not an answer
        _serve(sys.stdin.buffer, out)
