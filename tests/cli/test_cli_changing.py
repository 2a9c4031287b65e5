"""``rm``, ``verify``, ``rebuild``, ``doctor``: what they change, they show."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path
from typing import Any

import pytest

import modelcask


@pytest.fixture
def pulled(run: Any, model: Path) -> tuple[str, Path]:
    """A cached file: its URI, and the path of its blob."""
    ended = run("pull", model.as_uri())
    return model.as_uri(), Path(ended.lines[0]).resolve()


def damage(blob: Path) -> None:
    """Change a byte behind modelcask's back."""
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.write(b"X")


def test_rm_shows_the_plan_and_frees_the_bytes(run: Any, pulled: tuple[str, Path]) -> None:
    """Without a terminal it asks nothing; afterwards the URI is not cached and its blob is gone."""
    uri, blob = pulled
    ended = run("rm", uri)
    assert (ended.code, ended.out) == (0, "freed 2.0 MB\n")
    assert ended.err.splitlines() == [f"{uri}: 1 file: a.gguf", "  frees 2.0 MB"]
    assert not blob.exists()
    assert run("path", uri).code == 3


def test_bytes_that_a_running_process_uses_stay(spawn: Any, pulled: tuple[str, Path]) -> None:
    """This process has printed the path, so it holds a lease; the other one removes the name and says what stays."""
    uri, blob = pulled
    ended = spawn("rm", uri)
    assert (ended.code, ended.out) == (0, "freed 0 B\n")
    assert ended.err.splitlines()[-1] == "1 blob stays until the process that uses it ends"
    assert blob.exists()


def test_a_dry_run_changes_nothing(run: Any, pulled: tuple[str, Path]) -> None:
    """It shows the same plan."""
    uri, blob = pulled
    ended = run("rm", "--dry-run", uri)
    assert (ended.code, ended.out) == (0, "would free 2.0 MB; nothing was removed\n")
    assert blob.exists()
    document = run("rm", "--dry-run", "--json", uri).document
    assert document["dry_run"] is True
    [removal] = document["removals"]
    assert (removal["uri"], removal["paths"], removal["bytes_freed"]) == (uri, ["a.gguf"], 2_048_004)
    assert run("path", uri).code == 0


def test_what_is_not_held_is_an_error_and_the_others_are_removed(run: Any, pulled: tuple[str, Path]) -> None:
    """The exit code is that of the first that failed."""
    uri, _ = pulled
    ended = run("rm", "-q", "hf://org/repo", uri)
    assert ended.code == 3
    assert ended.out.startswith("freed ")
    assert len(ended.err.splitlines()) == 1
    assert run("path", uri).code == 3


def test_bytes_that_another_uri_holds_stay(run: Any, model: Path, pulled: tuple[str, Path]) -> None:
    """They are told apart in the plan; removing both in one go frees them after all."""
    uri, blob = pulled
    copy = model.with_name("copy.gguf")
    copy.write_bytes(model.read_bytes())
    run("pull", copy.as_uri())
    [removal] = run("rm", "--json", "--dry-run", uri).document["removals"]
    assert (removal["bytes_freed"], removal["bytes_shared"]) == (0, 2_048_004)
    document = run("rm", "--json", uri, copy.as_uri()).document
    assert [removal["bytes_freed"] for removal in document["removals"]] == [0, 2_048_004]
    assert not blob.exists()


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, True), (b"y\n", 0, False)])
def test_on_a_terminal_rm_asks(
    run: Any, pulled: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, answer: bytes, code: int, *, left: bool
) -> None:
    """No is an answer: nothing is removed then, with exit code 1."""
    uri, blob = pulled
    master, slave = pty.openpty()
    os.write(master, answer)
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        ended = run("rm", uri)
    os.close(master)
    assert ended.code == code
    assert "Remove it?" in ended.err
    assert blob.exists() is left


def test_verify_of_good_bytes_says_so(run: Any, pulled: tuple[str, Path]) -> None:
    """No result, since there is no fault; the sum on stderr."""
    ended = run("verify", pulled[0])
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("1 blob, 2.0 MB, ")
    assert run("verify", "--json").document == {"blobs_checked": 1, "bytes_checked": 2_048_004, "faults": []}


def test_verify_names_what_is_damaged_until_it_is_pulled_again(run: Any, pulled: tuple[str, Path]) -> None:
    """Exit code 4 each time; with its uses and the command that helps, which does."""
    uri, blob = pulled
    damage(blob)
    for _ in range(2):
        ended = run("verify")
        assert ended.code == 4
        assert ended.lines[0].startswith("damaged  blake3:")
        assert "used by" in ended.lines[1]
        assert ended.lines[2].split("modelcask ")[1].split() == ["pull", uri]
    [fault] = run("verify", "--json").document["faults"]
    assert (fault["verdict"], fault["uses"][0]["path"]) == ("damaged", "a.gguf")
    assert run("path", uri).code == 3
    assert run("pull", uri).code == 0
    assert run("verify").code == 0


def test_a_fault_with_many_uses_names_some(run: Any, model: Path, pulled: tuple[str, Path]) -> None:
    """And the plan of a removal some of the files: a person reads both."""
    copies = [model.with_name(f"copy-{number}.gguf") for number in range(6)]
    for copy in copies:
        copy.write_bytes(model.read_bytes())
    run("pull", *[copy.as_uri() for copy in copies])
    damage(pulled[1])
    lines = run("verify").lines
    assert len([line for line in lines if "used by" in line]) == 5
    assert "    and 2 more" in lines


@pytest.mark.parametrize(
    ("verdict", "code", "advice"),
    [
        (modelcask.Verdict.UNREADABLE, 10, "verify again, check the disk"),
        (modelcask.Verdict.DAMAGED, 4, "nothing needs it"),
    ],
)
def test_what_the_disk_would_not_give_is_no_damage(
    run: Any, monkeypatch: pytest.MonkeyPatch, verdict: modelcask.Verdict, code: int, advice: str
) -> None:
    """Its exit code is the storage's; and nobody is told to fetch what nothing needs."""
    found = modelcask.Verified(modelcask.Digest("blake3", "0" * 64), 5, verdict, ())
    monkeypatch.setattr(modelcask.ModelCache, "verify", lambda *_, **__: iter([found]))
    ended = run("verify")
    assert ended.code == code
    assert advice in ended.lines[-1]


def test_a_blob_that_is_gone_is_missing(run: Any, pulled: tuple[str, Path]) -> None:
    """Exit code 4 as for damage."""
    _, blob = pulled
    blob.unlink()
    ended = run("verify", "-q")
    assert (ended.code, ended.err) == (4, "")
    assert ended.lines[0].startswith("missing  blake3:")


def test_verify_of_what_is_not_cached_is_exit_three(run: Any) -> None:
    """Nothing was looked at."""
    assert run("verify", "hf://org/repo").code == 3


def test_rebuild_brings_a_lost_catalog_back(run: Any, model: Path, cask: Path) -> None:
    """Without the catalog nothing is cached; afterwards all is as it was."""
    path = run("pull", "-q", model.as_uri()).out
    (cask / "catalog.db").unlink()
    for suffix in ("-wal", "-shm"):
        (cask / f"catalog.db{suffix}").unlink(missing_ok=True)
    assert run("path", model.as_uri()).code == 3
    ended = run("rebuild", "--json")
    assert ended.code == 0
    document = ended.document
    assert (document["blobs"], document["revisions"], document["entries"]) == (1, 1, 1)
    assert (document["missing"], document["refused"]) == ([], [])
    assert run("path", model.as_uri()).out == path


def test_rebuild_tells_what_it_found(run: Any, pulled: tuple[str, Path]) -> None:
    """The sum is the result; where the former catalog is kept stands on stderr."""
    _, blob = pulled
    (blob.parent / "stranger").write_text("x")
    ended = run("rebuild")
    assert (ended.code, ended.out) == (0, "1 blob, 2.0 MB; 1 revision, 1 file\n")
    assert "left alone: " in ended.err
    assert "the former catalog is kept as " in ended.err


def test_rebuild_names_what_is_not_held_any_more(run: Any, pulled: tuple[str, Path]) -> None:
    """The manifest still knows the file; its bytes can be pulled again."""
    pulled[1].unlink()
    ended = run("rebuild")
    assert ended.code == 0
    assert f"not held any more: {pulled[0]} a.gguf; pull it again" in ended.err


def test_rebuild_without_a_store_is_exit_three(run: Any) -> None:
    """There is nothing to make a catalog of."""
    assert run("rebuild").code == 3


@pytest.mark.usefixtures("pulled")
def test_doctor_is_content_with_a_good_store(run: Any) -> None:
    """One line a finding, exit code 0."""
    ended = run("doctor")
    assert ended.code == 0, ended.out
    assert not any(line.startswith("failure") for line in ended.lines)
    checks = run("doctor", "--json").document["checks"]
    assert {"store", "catalog", "blobs"} <= {check["name"] for check in checks}


def test_doctor_finds_what_is_missing(run: Any, pulled: tuple[str, Path]) -> None:
    """Exit code 1, and the line says what to run."""
    pulled[1].unlink()
    ended = run("doctor")
    assert ended.code == 1
    [line] = [line for line in ended.lines if line.startswith("failure")]
    assert "verify" in line


def test_doctor_reports_a_catalog_that_cannot_be_read(run: Any, model: Path, cask: Path) -> None:
    """It is a finding, not a crash; every other command says so in one line with exit code 10."""
    run("pull", "-q", model.as_uri())
    for path in cask.glob("catalog.db*"):
        path.unlink()
    (cask / "catalog.db").write_bytes(b"this is no database" * 100)
    ended = run("doctor")
    assert ended.code == 1
    assert any(line.startswith("failure  catalog") and "modelcask rebuild" in line for line in ended.lines)
    ended = run("ls")
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (10, "", 1)


def test_the_demo_is_told(run: Any) -> None:
    """It comes out as told, in the terminal of whoever runs it, and changes no store."""
    ended = run("demo")
    assert ended.code == 0, ended.err
    assert "6/6" in ended.out


def test_a_demo_that_fails_is_one_line_and_exit_one(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step and the difference are named."""
    from modelcask_cli.demo import story  # noqa: PLC0415
    from modelcask_cli.demo.stage import DemoFailed  # noqa: PLC0415

    def fail(_: object) -> None:
        raise DemoFailed(3, "too few bytes")

    monkeypatch.setattr(story, "tell", fail)
    ended = run("demo")
    assert (ended.code, ended.err) == (
        1,
        "error: step 3 of the demo did not come out as told: too few bytes\n",
    )
