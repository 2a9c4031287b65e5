"""``log`` and ``stats``: what pulls came to, and what the store saves."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import modelcask
from catalog.catalog_samples import fill
from modelcask.catalog.catalog import Catalog, EndedAttempt, NewAttempt
from modelcask.catalog.rows import Outcome
from modelcask.layout import Layout
from modelcask.store.root import open_root
from modelcask.store.sessions import is_alive, open_session
from modelcask_cli.names import attempt_uri

DEAD = str(uuid.UUID(int=1))
REPO = modelcask.parse_uri("hf://org/repo")
URL = modelcask.parse_uri("https://host/m.gguf?X-Amz-Signature=f00d")


@pytest.fixture
def store(cask: Path) -> Layout:
    layout, _ = open_root(cask)
    return layout


@pytest.fixture
def attempts(store: Layout) -> None:
    """Record a hit, a file fetched in five seconds, a failure, one that goes on, one whose process died."""
    ours = open_session(store).path.name
    began = time.time_ns() // 1000
    with Catalog.open(store) as catalog:
        fetched, failed, _, _, _ = catalog.begin_attempts(
            [
                NewAttempt("pull-1", ours, REPO, "big.gguf"),
                NewAttempt("pull-1", ours, REPO, "sub dir/c.json"),
                NewAttempt("pull-1", ours, REPO, "hit.json", bytes_reused=3000),
                NewAttempt("pull-2", ours, URL, "m.gguf"),
                NewAttempt("pull-3", DEAD, URL, "m.gguf"),
            ]
        )
        long_ago = began - 10 * 24 * 3600 * 1_000_000
        catalog.end_attempts(
            [
                EndedAttempt(fetched, Outcome.DONE, 10_000, 500, started_at=began, finished_at=began + 5_000_000),
                EndedAttempt(failed, Outcome.FAILED, 20, 0, "ResponseError", started_at=long_ago),
            ]
        )


@pytest.mark.usefixtures("attempts")
def test_the_log_has_a_line_for_each_file_of_each_pull(run: Any) -> None:
    """Aligned below its heads: a URI of the file, when, how it ended, bytes, rate, error."""
    ended = run("log")
    assert (ended.code, ended.err) == (0, "")
    head, *lines = ended.lines
    assert head.split() == ["FILE", "WHEN", "OUTCOME", "FETCHED", "REUSED", "RATE", "ERROR"]
    rows = {tuple(line.split()) for line in lines}
    assert rows == {
        ("hf://org/repo@main/big.gguf", "now", "done", "10.0", "kB", "500", "B", "2.0", "kB/s"),
        ("hf://org/repo@main/sub%20dir/c.json", "10", "d", "failed", "20", "B", "0", "B", "0", "B/s", "ResponseError"),
        ("hf://org/repo@main/hit.json", "now", "done", "0", "B", "3.0", "kB"),
        ("https://host/m.gguf", "now", "running"),
        ("https://host/m.gguf", "now", "interrupted"),
    }
    assert lines[-1].split()[0].endswith("c.json"), "the newest comes first"


@pytest.mark.usefixtures("attempts")
def test_the_log_in_json_has_every_fact_and_no_secret(run: Any) -> None:
    """Times in UTC, bytes as numbers, null where nobody knows."""
    ended = run("log", "--json")
    found = {(row["path"], row["outcome"]): row for row in ended.document["attempts"]}
    assert found["big.gguf", "done"] == {
        "request_id": "pull-1",
        "uri": "hf://models/org/repo@main",
        "source": "hf://models/org/repo",
        "path": "big.gguf",
        "started_at": found["big.gguf", "done"]["started_at"],
        "finished_at": found["big.gguf", "done"]["finished_at"],
        "seconds": 5.0,
        "outcome": "done",
        "bytes_fetched": 10_000,
        "bytes_reused": 500,
        "error": None,
    }
    assert found["big.gguf", "done"]["started_at"].endswith("Z")
    assert found["sub dir/c.json", "failed"]["error"] == "ResponseError"
    for outcome in (None, "interrupted"):
        assert found["m.gguf", outcome]["finished_at"] is None
        assert found["m.gguf", outcome]["seconds"] is None
    assert "f00d" not in ended.out


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        (["--limit", "1", "big"], {"big.gguf"}),
        (["--failed"], {"sub dir/c.json", "m.gguf"}),
        (["--failed", "--since", "7d"], {"m.gguf"}),
        (["--since", "7d"], {"big.gguf", "hit.json", "m.gguf"}),
        (["--since", "2w"], {"big.gguf", "hit.json", "m.gguf", "sub dir/c.json"}),
        (["--since", "999999999w", "*.json"], {"hit.json", "sub dir/c.json"}),
        (["hf://org/*"], {"big.gguf", "hit.json", "sub dir/c.json"}),
        (["host"], {"m.gguf"}),
        (["no-such"], set()),
    ],
)
@pytest.mark.usefixtures("attempts")
def test_the_log_is_narrowed(run: Any, arguments: list[str], paths: set[str]) -> None:
    """By a glob or a word, by failure, by age and by number."""
    assert {row["path"] for row in run("log", "--json", *arguments).document["attempts"]} == paths


def test_an_age_that_cannot_be_read_is_exit_two_and_says_how_to_write_one(run: Any) -> None:
    """No unit, a strange one, a negative one."""
    for age in ("7", "7y", "-7d", "d", "1.5h", "٣d"):
        ended = run("log", "--since", age)
        assert (ended.code, ended.out) == (2, "")
        assert "30m, 12h, 7d or 2w" in ended.err


@pytest.mark.usefixtures("attempts")
def test_an_empty_log_is_no_output_and_a_word_on_stderr(run: Any, cask: Path) -> None:
    """With -q nothing is said."""
    ended = run("log", "no-such")
    assert (ended.code, ended.out, ended.err) == (0, "", f"no such attempt is known in {cask}\n")
    assert run("log", "-q", "no-such").err == ""


@pytest.mark.usefixtures("attempts")
def test_stats_tell_hits_bytes_failures_and_what_is_saved(run: Any, store: Layout) -> None:
    """Each on its line; of the store as it is now."""
    with Catalog.open(store) as catalog:
        fill(catalog, "k1", [1000, 500])
        fill(catalog, "k2", [1000], source="hf://org/fork")
    ended = run("stats")
    assert ended.code == 0
    asked, *lines = ended.lines
    assert asked.startswith("asked       5 files in 3 pulls, since 20")
    assert lines == [
        "hits        1 (20.0 %)",
        "fetched     10.0 kB",
        "not fetched 3.0 kB here already, 500 B kept in partials",
        "failed      1: 1 ResponseError",
        "interrupted 1",
        "running     1",
        "stored      2 blobs, 1.5 kB",
        "saved       1.0 kB of 2.5 kB (40.0 %), by keeping equal files once",
    ]


@pytest.mark.usefixtures("attempts")
def test_stats_in_json_have_every_figure(run: Any) -> None:
    """Of the last week: the old failure is left out."""
    document = run("stats", "--json", "--since", "7d").document
    assert document.pop("since").endswith("Z")
    assert document == {
        "pulls": 3,
        "files": 4,
        "hits": 1,
        "hit_rate": 0.25,
        "running": 1,
        "outcomes": {"done": 2, "failed": 0, "cancelled": 0, "interrupted": 1},
        "failures": {},
        "bytes_fetched": 10_000,
        "bytes_hit": 3000,
        "bytes_resumed": 500,
        "blobs": 0,
        "bytes_stored": 0,
        "bytes_without_dedup": 0,
        "bytes_saved": 0,
    }


def test_an_attempt_runs_as_long_as_its_process(run: Any, store: Layout) -> None:
    """Killed, it is told as interrupted at once; whoever pulls next closes its row."""
    script = (
        "import sys, modelcask, pathlib, signal\n"
        "from modelcask.catalog.catalog import Catalog, NewAttempt\n"
        "from modelcask.layout import Layout\n"
        "from modelcask.store.sessions import open_session\n"
        "layout = Layout(pathlib.Path(sys.argv[1]))\n"
        "uri = modelcask.parse_uri('hf://org/repo')\n"
        "catalog = Catalog.open(layout)\n"
        "catalog.begin_attempts([NewAttempt('r', open_session(layout).path.name, uri, name) for name in 'ab'])\n"
        "print('begun', flush=True)\n"
        "signal.pause()\n"
    )

    def outcomes() -> list[str | None]:
        return [row["outcome"] for row in run("log", "--json").document["attempts"]]

    with subprocess.Popen([sys.executable, "-c", script, store.root], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"begun\n"
            with Catalog.open(store) as catalog:
                assert catalog.close_interrupted(partial(is_alive, store)) == 0
            assert outcomes() == [None, None]
        finally:
            process.kill()
    assert outcomes() == ["interrupted", "interrupted"]
    with Catalog.open(store) as catalog:
        assert catalog.close_interrupted(partial(is_alive, store)) == 2
    assert outcomes() == ["interrupted", "interrupted"]


def test_asking_makes_no_store(run: Any, cask: Path) -> None:
    """On a machine that never pulled: nothing is known, and nothing is left behind."""
    assert run("log").err == f"no attempt is known in {cask}\n"
    assert run("log", "--json").document == {"attempts": []}
    assert run("stats").lines[0] == "asked       0 files in 0 pulls"
    assert run("stats", "--json").document["hit_rate"] is None
    assert not cask.exists()


@pytest.mark.parametrize(
    ("uri", "path", "expected"),
    [
        ("hf://org/repo", "a/b.gguf", "hf://org/repo@main/a/b.gguf"),
        ("hf://org/repo@v1", "b.gguf", "hf://org/repo@v1/b.gguf"),
        (f"hf://org/repo@{'a' * 40}", "b.gguf", f"hf://org/repo@{'a' * 40}/b.gguf"),
        ("hf://org/repo@v1/sub/b.gguf", "sub/b.gguf", "hf://org/repo@v1/sub/b.gguf"),
        ("hf:org/repo:Q4_K_M", "b-Q4_K_M.gguf", "hf://org/repo@main/b-Q4_K_M.gguf"),
        ("hf://datasets/org/data", "x.json", "hf://datasets/org/data@main/x.json"),
        ("https://host/m.gguf", "m.gguf", "https://host/m.gguf"),
        ("file:///models/m.gguf", "m.gguf", "file:///models/m.gguf"),
    ],
)
def test_the_uri_of_an_attempt_names_its_file_and_can_be_read(uri: str, path: str, expected: str) -> None:
    """Whatever was pulled: a repository, one file, a quantisation."""
    pulled = modelcask.parse_uri(uri)
    row = modelcask.AttemptRow("r", pulled.canonical, pulled.source, path, 0, None, None, 0, 0, None)
    assert attempt_uri(row) == expected
    assert modelcask.parse_uri(expected).path == path
