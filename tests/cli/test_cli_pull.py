"""``modelcask pull``: paths on stdout, everything else on stderr, each URI with its own end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from behaviours import CutAfter, FlipByte, Gate, HoldAfter, Status
from origin import Origin

MODEL = os.urandom(3_000_000)


def test_a_pull_prints_the_path_and_tells_the_rest_on_stderr(run: Any, model: Path) -> None:
    """One path, that of the same bytes under the same name; the summary says what it cost."""
    ended = run("pull", model.as_uri())
    assert ended.code == 0
    [path] = ended.lines
    assert Path(path).name == "a.gguf"
    assert Path(path).read_bytes() == model.read_bytes()
    *lines, summary = ended.err.splitlines()
    assert lines == ["a.gguf: fetching 2.0 MB", "a.gguf: done, 2.0 MB"]
    assert summary.startswith("1 file, 2.0 MB: 2.0 MB fetched, 0 B already here, ")


def test_quiet_leaves_the_path_alone(run: Any, model: Path) -> None:
    """With -q a script sees results and errors only."""
    ended = run("pull", "-q", model.as_uri())
    assert (ended.code, len(ended.lines), ended.err) == (0, 1, "")


def test_a_second_pull_fetches_nothing(run: Any) -> None:
    """The summary says that it was here, and the server is not asked again."""
    with Origin() as origin:
        url = origin.add("/m.gguf", MODEL)
        first = run("pull", url)
        asked = len(origin.requests)
        second = run("pull", url)
        assert len(origin.requests) == asked
    assert (second.code, second.out) == (0, first.out)
    assert "1 file, 3.0 MB: 0 B fetched, 3.0 MB already here" in second.err


def test_paths_come_in_the_order_of_the_uris_and_one_failure_stops_nobody(run: Any) -> None:
    """Four URIs, two of them wrong: two paths in order, two error lines, the exit code of the first that failed."""
    with Origin() as origin:
        good = [origin.add(f"/{name}.gguf", os.urandom(1000)) for name in "ab"]
        wrong = origin.add("/wrong.gguf", MODEL)
        ended = run("pull", "-q", good[0], f"{wrong}#sha256={'0' * 64}", "no uri", good[1])
    assert ended.code == 4
    assert [Path(line).name for line in ended.lines] == ["a.gguf", "b.gguf"]
    mismatch, unreadable = ended.err.splitlines()
    assert mismatch.startswith("error: ")
    assert "wrong bytes" in mismatch
    assert unreadable.startswith("error: cannot read 'no uri'")


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [(Status(404), 3), (Status(401), 7), (FlipByte(5), 4)],
)
def test_the_exit_code_is_the_errors_own(run: Any, behaviour: Any, code: int) -> None:
    """A script can tell a missing model from a missing token and from wrong bytes, and no traceback is shown."""
    with Origin() as origin:
        url = origin.add("/m.gguf", MODEL, behaviours=[behaviour])
        ended = run("pull", f"{url}#sha256={hashlib.sha256(MODEL).hexdigest()}")
    assert (ended.code, ended.out) == (code, "")
    assert "Traceback" not in ended.err
    assert ended.err.splitlines()[-1].startswith("error: ")


def test_a_cut_connection_is_told_and_taken_up_again(run: Any) -> None:
    """The reason stands in the line, and the bytes are right in the end."""
    with Origin() as origin:
        url = origin.add("/m.gguf", MODEL, behaviours=[CutAfter(1_000_000)] * 2 + [CutAfter(1 << 40)])
        ended = run("pull", url)
    assert ended.code == 0
    assert Path(ended.lines[0]).read_bytes() == MODEL
    assert "m.gguf: retrying: " in ended.err


def test_a_source_that_is_busy_is_told_before_anything_comes(run: Any) -> None:
    """The line says why nothing moves; in JSON it is an event without a path."""
    with Origin() as origin:
        url = origin.add("/m.gguf", MODEL, behaviours=[Status(503), CutAfter(1 << 40)])
        ended = run("pull", url)
        other = origin.add("/n.gguf", MODEL, behaviours=[Status(503), CutAfter(1 << 40)])
        events = [json.loads(line) for line in run("pull", "--json", other).lines]
    assert ended.code == 0
    assert ended.err.startswith(f"{url}: retrying: {url} answered 503; trying again ")
    [retry] = [event for event in events if event["event"] == "progress" and event["phase"] == "retrying"]
    assert (retry["uri"], retry["path"]) == (other, "")
    assert "answered 503" in retry["message"]


def test_offline_refuses_what_is_not_cached(run: Any) -> None:
    """Exit code 6, nothing asked; what is cached still answers."""
    with Origin() as origin:
        url = origin.add("/m.gguf", MODEL)
        refused = run("pull", "--offline", url)
        assert origin.requests == []
        run("pull", url)
        asked = len(origin.requests)
        assert run("pull", "--offline", url).code == 0
        assert len(origin.requests) == asked
    assert (refused.code, refused.out) == (6, "")


def test_refresh_asks_again_but_fetches_nothing_that_is_the_same(run: Any) -> None:
    """Unchanged bytes are not sent twice."""
    with Origin() as origin:
        url = origin.add("/m.gguf", MODEL)
        run("pull", url)
        asked, served = len(origin.requests), origin.bytes_served
        assert run("pull", "--refresh", url).code == 0
        assert len(origin.requests) > asked
        assert origin.bytes_served - served < len(MODEL)


def test_plain_http_to_others_needs_the_flag(run: Any) -> None:
    """Without it nothing is tried; the error says which rule refused it."""
    ended = run("pull", "http://models.invalid/m.gguf")
    assert (ended.code, ended.out) == (8, "")
    allowed = run("pull", "--allow-http", "--offline", "http://models.invalid/m.gguf")
    assert allowed.code == 6


def test_json_has_a_line_for_all_that_happens_and_one_end_for_each_uri(run: Any, model: Path) -> None:
    """Each line is an object; each URI ends in one result or error, whatever the order; stdout holds nothing else."""
    ended = run("pull", "--json", model.as_uri(), "hf://", model.as_uri() + "x")
    assert ended.code == 2
    assert sorted((event["index"], event["event"]) for event in ended.events) == [
        (0, "result"),
        (1, "error"),
        (2, "error"),
    ]
    result, unread, absent = sorted(ended.events, key=lambda event: event["index"])
    assert result["uri"] == model.as_uri()
    assert Path(result["path"]).read_bytes() == model.read_bytes()
    assert (result["size_bytes"], result["bytes_fetched"], result["bytes_reused"]) == (2_048_004, 2_048_004, 0)
    [file] = result["files"]
    assert (file["path"], file["size_bytes"], file["trust"]) == ("a.gguf", 2_048_004, "first-use")
    assert file["blob"].startswith("blake3:")
    assert (unread["error"], unread["exit_code"], unread["retryable"]) == ("InvalidURIError", 2, False)
    assert (absent["error"], absent["exit_code"]) == ("ModelNotFoundError", 3)
    phases = [event["phase"] for event in map(json.loads, ended.lines) if event["event"] == "progress"]
    assert phases[0] == "resolving"
    assert "done" in phases


def test_json_with_quiet_has_only_ends(run: Any, model: Path) -> None:
    """No line about progress is printed."""
    ended = run("pull", "--json", "-q", model.as_uri())
    assert [event["event"] for event in map(json.loads, ended.lines)] == ["result"]


def test_a_uri_that_cannot_be_read_is_shown_without_its_secrets(run: Any) -> None:
    """Neither a password nor a signed query is repeated, on stderr or in JSON."""
    ended = run("pull", "--json", "https://user:hunter2@[broken/m.gguf?token=s3cret")
    assert ended.code == 2
    assert "hunter2" not in ended.out + ended.err
    assert "s3cret" not in ended.out + ended.err


def test_a_store_that_cannot_be_opened_ends_every_uri(run: Any, model: Path, cask: Path) -> None:
    """One line for a person, with the storage's exit code; in JSON an error for each URI."""
    cask.mkdir()
    (cask / "something").write_text("else")
    ended = run("pull", model.as_uri(), model.as_uri())
    assert (ended.code, ended.out) == (10, "")
    assert len(ended.err.splitlines()) == 1
    ended = run("pull", "--json", model.as_uri(), model.as_uri())
    assert ended.code == 10
    assert [(event["index"], event["exit_code"]) for event in ended.events] == [(0, 10), (1, 10)]


@pytest.mark.parametrize(
    ("signum", "code", "as_json"),
    [(signal.SIGINT, 130, True), (signal.SIGTERM, 143, False), (signal.SIGHUP, 129, False)],
)
def test_a_stopped_pull_keeps_what_arrived_and_says_so(
    run: Any, signum: signal.Signals, code: int, *, as_json: bool
) -> None:
    """The exit code tells the signal; in JSON every URI has its end; the next pull goes on from there."""
    gate = Gate()
    with Origin() as origin:
        small = origin.add("/small.gguf", b"small")
        large = origin.add("/large.gguf", MODEL, behaviours=[HoldAfter(2_000_000, gate), CutAfter(1 << 40)])
        command = [sys.executable, "-m", "modelcask_cli", "pull", *(["--json"] if as_json else []), small, large]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                gate.wait()
                assert process.stdout is not None
                out = "".join(_until_result(process.stdout)) if as_json else ""
                process.send_signal(signum)
                rest, err = process.communicate(timeout=60)
            finally:
                process.kill()
                gate.open()
        assert process.returncode == code
        assert "stopped; what arrived is kept" in err
        assert "Traceback" not in err
        if as_json:
            lines = [json.loads(line) for line in (out + rest).splitlines()]
            ends = {event["index"]: event for event in lines if event["event"] != "progress"}
            assert ends[0]["event"] == "result"
            assert (ends[1]["error"], ends[1]["exit_code"], ends[1]["retryable"]) == ("Stopped", code, True)
        else:
            assert "large" not in rest
        served = origin.bytes_served
        ended = run("pull", "-q", large)
        assert Path(ended.lines[0]).read_bytes() == MODEL
        assert origin.bytes_served - served < len(MODEL)


def _until_result(lines: IO[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if json.loads(line)["event"] == "result":
            return
