"""``modelcask pull`` under control: limits, mirrors, Ctrl-C, and what its log tells."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import pytest

from behaviours import CutAfter, FlipByte, Gate, HoldAfter, StallAfter, Status
from origin import Origin

MODEL = os.urandom(3_000_000)
PINNED = f"#sha256={hashlib.sha256(MODEL).hexdigest()}"


def test_a_time_limit_ends_with_the_networks_exit_code(run: Any, origin: Origin) -> None:
    """What has arrived is kept, and the line says how to go on."""
    url = origin.add("/m.gguf", MODEL, behaviours=[StallAfter(2_000_000), CutAfter(1 << 40)])
    ended = run("pull", "--max-time", "2", url)
    assert (ended.code, ended.out) == (6, "")
    assert ended.err.splitlines()[-1] == (
        f"error: {url} was not there after 2 s; what has arrived is kept: pull again to go on"
    )
    [event] = run("pull", "--json", url).events
    assert 0 < event["bytes_reused"] <= 2_000_000


def test_a_rate_limit_slows_a_pull_down(run: Any, origin: Origin) -> None:
    """Three megabytes at a megabyte a second take about three seconds; the rate is in the events."""
    url = origin.add("/m.gguf", MODEL)
    lines = [json.loads(line) for line in run("pull", "--json", "--limit-rate", "1MB", url).lines]
    rates = [line["bytes_per_s"] for line in lines if line["event"] == "progress" and line["bytes_per_s"]]
    assert rates
    assert rates[-1] < 1_600_000


def test_connections_are_bounded(run: Any, origin: Origin) -> None:
    """While one answer is held, nobody else's bytes are asked for."""
    gate = Gate()
    urls = [origin.add(f"/{n}.gguf", MODEL[n:], behaviours=[HoldAfter(1000, gate)]) for n in range(3)]
    asked: list[str] = []

    def look() -> None:
        gate.wait()
        time.sleep(0.5)
        asked.extend(request.path for request in origin.requests if request.method == "GET")
        gate.open()

    thread = threading.Thread(target=look)
    thread.start()
    assert run("pull", "-q", "--connections", "1", *urls).code == 0
    thread.join()
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--max-time", "soon", "max_time_s = 'soon'"),
        ("--limit-rate", "fast", "write a size like"),
        ("--connections", "0", "it must be 1 or more"),
        ("--mirror", "mirror.example", "it must be an http or https URL"),
        ("--mirror", "https://me:hunter2@mirror.example", "nobody is logged in there"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line(run: Any, option: str, value: str, said: str) -> None:
    """Exit code 2 before anything is asked, and no secret is repeated."""
    ended = run("pull", option, value, "https://host.invalid/m.gguf")
    assert (ended.code, ended.out) == (2, "")
    [line] = ended.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert "hunter2" not in line


def test_mirrors_are_asked_first_and_a_guilty_one_is_named(run: Any, origin: Origin) -> None:
    """The bytes are right in the end, and stderr says which host was not."""
    url = origin.add("/m.gguf", MODEL) + PINNED
    with Origin() as wrong, Origin() as right:
        wrong.add("/m.gguf", MODEL, behaviours=[FlipByte(7)])
        right.add("/copy/m.gguf", MODEL)
        ended = run("pull", "--mirror", wrong.url, "--mirror", f"{right.url}/copy", url)
        assert Path(ended.lines[0]).read_bytes() == MODEL
        host = wrong.url.removeprefix("http://")
        assert f"WARNING: {host} is not asked for m.gguf any more: it has sent wrong bytes" in ended.err.splitlines()
        other = right.url.removeprefix("http://")
        assert other not in ended.err
        quiet = run("pull", "-q", "--refresh", "--mirror", right.url, url)
        assert (quiet.code, quiet.err) == (0, "")


def test_verbose_tells_what_is_done_and_more_of_it_in_detail(run: Any, origin: Origin) -> None:
    """-v: the pull, its revision, what failed and how it ended; -vv: each request too. No secret in either."""
    urls = [
        origin.add(f"/{name}.gguf", MODEL + name.encode(), behaviours=[CutAfter(1_000_000), CutAfter(1 << 40)])
        for name in ("a", "b")
    ]
    secret = "?token=hunter2"
    plain = run("pull", "-v", "-q", urls[0] + secret)
    detailed = run("-v", "pull", "-q", urls[1] + secret, "-v")
    for ended, url in ((plain, urls[0]), (detailed, urls[1])):
        assert ended.code == 0
        assert f" of {url}" in ended.err
        assert "is revision etag:" in ended.err
        assert "; trying again " in ended.err
        assert "bytes fetched, published as blake3:" in ended.err
        assert "hunter2" not in ended.err
    assert "GET" not in plain.err
    assert f"DEBUG HEAD {urls[1]} whole: 200" in detailed.err
    assert f"DEBUG GET {urls[1]} bytes=" in detailed.err


def test_a_second_ctrl_c_ends_at_once(run: Any, origin: Origin) -> None:
    """Exit 130 although tidying up has not ended; whatever was in work, the next pull makes it whole."""
    gate = Gate()
    url = origin.add("/m.gguf", MODEL, behaviours=[HoldAfter(2_000_000, gate), CutAfter(1 << 40)])
    # Tidying up is made to take for ever, so that only a second signal can end it.
    script = (
        "import asyncio, sys\n"
        "from modelcask.publishing import Publisher\n"
        "async def close(self):\n"
        "    print('tidying', file=sys.stderr, flush=True)\n"
        "    await asyncio.sleep(3600)\n"
        "Publisher.close = close\n"
        "from modelcask_cli.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, "pull", "-q", url], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            gate.wait()
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            _read_until("tidying", process.stderr)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
            gate.open()
    ended = run("pull", "-q", url)
    assert Path(ended.lines[0]).read_bytes() == MODEL


def _read_until(text: str, stream: IO[str]) -> None:
    guard = threading.Timer(60, stream.close)
    guard.start()
    for line in stream:
        if text in line:
            guard.cancel()
            return
    raise AssertionError(f"{text} never came")


def test_a_status_that_asks_for_fewer_does_not_end_a_pull(run: Any, origin: Origin) -> None:
    """429 with Retry-After is waited for, and said."""
    url = origin.add("/m.gguf", MODEL, behaviours=[Status(429, "1"), CutAfter(1 << 40)])
    ended = run("pull", url)
    assert ended.code == 0
    assert "answered 429" in ended.err
