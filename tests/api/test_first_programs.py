"""The first programs that somebody writes who has read nothing but the docstrings: each runs as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from behaviours import StallAfter, throttle
from origin import Origin

MODELS = {name: os.urandom(2_000_000) for name in ("a.gguf", "b.gguf")}


@pytest.fixture
def urls() -> Iterator[list[str]]:
    with Origin() as origin:
        yield [
            origin.add(f"/{name}", content, behaviours=[throttle(10_000_000)]) for name, content in MODELS.items()
        ] + [origin.add("/never.gguf", MODELS["a.gguf"], behaviours=[StallAfter(500_000)])]


def run(program: str, *arguments: str) -> list[str]:
    """Run a program in a process of its own, warnings being errors; return what it printed."""
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_one_model_with_its_progress(urls: list[str]) -> None:
    """Three lines: a callback, a call, a path."""
    *shown, path = run(
        """
import sys, modelcask
def show(event):
    print(event.path, event.phase, event.bytes_done, event.bytes_total)
print(modelcask.get(sys.argv[1], progress=show))
""",
        urls[0],
    )
    assert Path(path).read_bytes() == MODELS["a.gguf"]
    assert shown[-1] == "a.gguf done 2000000 2000000"
    assert len(shown) > 3


def test_a_pull_that_a_thread_cancels(urls: list[str]) -> None:
    """A token, a timer, and an error that says how to go on."""
    [line] = run(
        """
import sys, threading, modelcask
token = modelcask.CancelToken()
def show(event):
    if event.bytes_done:
        threading.Thread(target=token.cancel).start()
try:
    modelcask.pull(sys.argv[1], progress=show, cancel=token)
except modelcask.PullCancelledError as error:
    print(error)
""",
        urls[2],
    )
    assert line == f"{urls[2]} was cancelled; what has arrived is kept: pull again to go on"


def test_many_models_as_one_of_which_one_is_given_up(urls: list[str]) -> None:
    """The others come, with one progress for all."""
    *shown, paths = run(
        """
import asyncio, sys, modelcask
def show(job):
    print(job.downloaded_size, job.total_size)
async def main():
    downloaders = [modelcask.create_model_downloader(url) for url in sys.argv[1:]]
    job = modelcask.combine_model_downloaders(downloaders, on_progress=show)
    for downloader in downloaders:
        await downloader.prepare()
    task = asyncio.create_task(job.download())
    while not downloaders[2].downloaded_size:
        await asyncio.sleep(0.01)
    downloaders[2].cancel()
    print(*await task)
asyncio.run(main())
""",
        *urls,
    )
    first, second, third = paths.split()
    assert Path(first).read_bytes() == MODELS["a.gguf"]
    assert Path(second).read_bytes() == MODELS["b.gguf"]
    assert third == "None"
    assert {line.split()[1] for line in shown} == {"6000000"}
