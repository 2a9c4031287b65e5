"""``path``, ``ls``, ``show``, ``explain``, ``config``: they tell, and change nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from origin import Origin


def test_path_prints_what_pull_printed_and_needs_no_network(run: Any) -> None:
    """The origin is gone by then."""
    with Origin() as origin:
        url = origin.add("/m.gguf", b"GGUF" * 100)
        pulled = run("pull", url)
    ended = run("path", url)
    assert (ended.code, ended.out, ended.err) == (0, pulled.out, "")


def test_path_of_what_is_not_cached_is_exit_three_and_the_command_that_helps(run: Any, cask: Path) -> None:
    """Nothing is asked, and no store is made."""
    ended = run("path", "hf://org/repo/model.gguf")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("error: ")
    assert ended.err.rstrip().endswith("run: modelcask pull hf://models/org/repo@main/model.gguf")
    assert not cask.exists()


def test_a_path_is_printed_byte_for_byte(run: Any, model: Path, tmp_path: Path) -> None:
    """Also where the root's name is no text: what comes out can be opened."""
    root = os.fsdecode(os.fsencode(tmp_path) + b"/r\xffoot")
    run("--home", root, "pull", model.as_uri())
    ended = run("--home", root, "path", model.as_uri())
    assert ended.code == 0
    assert Path(ended.lines[0]).read_bytes() == model.read_bytes()


def test_ls_has_a_line_for_each_revision(run: Any, model: Path) -> None:
    """Heads, then aligned columns; the URI can be used as it stands."""
    other = model.with_name("other.safetensors")
    other.write_bytes(b"x")
    run("pull", model.as_uri(), other.as_uri())
    ended = run("ls")
    head, first, second = ended.lines
    assert head.split() == ["URI", "REVISION", "FILES", "SIZE", "ADDED", "USED", "REFS"]
    assert first.startswith(model.as_uri())
    assert first.index("2.0 MB") + len("2.0 MB") == second.index("1 B") + len("1 B")
    assert run("path", first.split()[0]).code == 0


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--sort", "size"], ["a.gguf", "b.json"]),
        (["--sort", "name"], ["a.gguf", "b.json"]),
        (["gguf"], ["a.gguf"]),
        (["*.json"], ["b.json"]),
        (["no-such"], []),
    ],
)
def test_ls_sorts_and_filters(run: Any, model: Path, arguments: list[str], names: list[str]) -> None:
    """A glob is held against the whole URI, a plain word found anywhere in it."""
    other = model.with_name("b.json")
    other.write_bytes(b"{}")
    run("pull", model.as_uri(), other.as_uri())
    found = run("ls", "--json", *arguments).document["snapshots"]
    assert [Path(row["uri"]).name for row in found] == names


def test_an_empty_list_is_no_output_and_a_word_on_stderr(run: Any, cask: Path) -> None:
    """Nothing is made; with -q nothing is said; in JSON it is an empty list."""
    ended = run("ls")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"nothing is held in {cask}\n"
    assert run("ls", "-q").err == ""
    assert run("ls", "--json").document == {"snapshots": []}
    assert not cask.exists()


def test_ls_in_json_has_figures_in_bytes_and_times_in_utc(run: Any, model: Path) -> None:
    """The row of one file."""
    run("pull", model.as_uri())
    [row] = run("ls", "--json").document["snapshots"]
    assert (row["uri"], row["source"], row["refs"]) == (model.as_uri(), model.as_uri(), ["latest"])
    assert (row["files_held"], row["files_known"], row["files_damaged"]) == (1, 1, 0)
    assert (row["size_bytes"], row["trust"]) == (2_048_004, ["first-use"])
    assert row["added_at"].endswith("Z")
    assert len(row["added_at"]) == len("2026-01-31T12:00:00Z")


def test_show_tells_each_file_with_its_proof(run: Any, model: Path) -> None:
    """In full in JSON, short in the table."""
    run("pull", model.as_uri())
    document = run("show", "--json", model.as_uri()).document
    [file] = document["files"]
    assert (file["path"], file["state"], file["trust"]) == ("a.gguf", "present", "first-use")
    assert len(file["blob"]) == len("blake3:") + 64
    assert Path(document["folder"], file["path"]).read_bytes() == model.read_bytes()
    lines = run("show", model.as_uri()).lines
    assert lines[0].split() == ["source", model.as_uri()]
    assert lines[-1].split() == ["a.gguf", "2.0", "MB", "present", "first-use", file["blob"][7:19]]


def test_show_of_what_is_not_known_is_exit_three(run: Any) -> None:
    """As for path."""
    assert run("show", "hf://org/repo").code == 3


def test_explain_tells_how_a_uri_is_read_and_what_a_pull_would_fetch(run: Any) -> None:
    """Before a pull: the files and their size; nothing is fetched by asking."""
    with Origin() as origin:
        url = origin.add("/m.gguf", b"GGUF" * 1000)
        ended = run("explain", url)
        document = run("explain", "--json", url).document
        assert origin.bytes_served < 4000
    assert ended.code == 0
    assert f"uri         {url}" in ended.lines
    assert "cached      no" in ended.lines
    assert "a pull      fetches 1 file, 4.0 kB" in ended.lines
    assert (document["uri"], document["ref"], document["path"]) == (url, "latest", "m.gguf")
    assert (document["local_path"], document["bytes_to_fetch"], document["reason"]) == (None, 4000, None)
    assert document["to_pull"] == [{"path": "m.gguf", "size_bytes": 4000, "promised": [], "held": False}]


def test_explain_of_what_is_cached_names_its_path_and_asks_nobody(run: Any) -> None:
    """The same path as pull printed."""
    with Origin() as origin:
        url = origin.add("/m.gguf", b"GGUF" * 1000)
        path = run("pull", url).out.rstrip()
    document = run("explain", "--json", url).document
    assert (document["local_path"], document["to_pull"], document["bytes_to_fetch"]) == (path, None, 0)
    assert path in run("explain", url).out


def test_explain_names_commit_and_pin(run: Any) -> None:
    """What does not move is told apart from what may."""
    lines = run("explain", "--offline", f"hf://org/repo@{'a' * 40}/m.gguf#sha256={'b' * 64}").lines
    assert f"revision    {'a' * 40}" in lines
    assert f"pin         sha256:{'b' * 64}" in lines
    assert not any(line.startswith("ref ") for line in lines)


def test_a_source_that_cannot_be_asked_is_told_and_is_no_failure(run: Any) -> None:
    """Offline, or a server that is gone: the reading of the URI is what was asked for."""
    ended = run("explain", "--offline", "hf:org/repo:Q4_K_M")
    assert ended.code == 0
    assert ended.lines[0] == "uri         hf://models/org/repo:Q4_K_M"
    assert ended.lines[-1].startswith("a pull      cannot be foretold: ")
    document = run("explain", "--json", "--offline", "hf:org/repo:Q4_K_M").document
    assert (document["to_pull"], document["bytes_to_fetch"]) == (None, None)
    assert "offline" in document["reason"]


def test_a_uri_that_cannot_be_read_is_exit_two_with_the_nearest_right_form(run: Any) -> None:
    """On one line."""
    ended = run("explain", "org/repo")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        "error: cannot read 'org/repo': org/name alone could be any source: say which; did you mean hf://org/repo"
    ]


def test_config_tells_where_each_setting_comes_from(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, variable, file and default, each in its rank."""
    file = tmp_path / "config.toml"
    file.write_text("retries = 9\nfiles_at_once = 2\n")
    monkeypatch.setenv("MODELCASK_CONFIG", str(file))
    monkeypatch.setenv("MODELCASK_RETRIES", "7")
    document = run("--home", "/elsewhere", "config", "--json").document
    settings = {setting["name"]: (setting["value"], setting["origin"]) for setting in document["settings"]}
    assert settings["home"] == ("/elsewhere", "argument")
    assert settings["retries"] == (7, "MODELCASK_RETRIES")
    assert settings["files_at_once"] == (2, str(file))
    assert settings["offline"] == (False, "default")
    assert (document["config_file"], document["config_file_exists"]) == (str(file), True)
    lines = run("config").lines
    assert lines[-1] == f"config file: {file}"
    assert any(line.split() == ["offline", "false", "default", "MODELCASK_OFFLINE"] for line in lines)


def test_config_shows_no_password(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint may hold one."""
    monkeypatch.setenv("HF_ENDPOINT", "https://me:hunter2@hub.example")
    assert "hunter2" not in run("config").out + run("config", "--json").out
    assert "https://hub.example" in run("config").out


def test_a_setting_that_cannot_be_read_is_exit_two(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting and the place."""
    monkeypatch.setenv("MODELCASK_RETRIES", "many")
    ended = run("ls")
    assert ended.code == 2
    assert "MODELCASK_RETRIES" in ended.err


def test_reading_makes_nothing(run: Any, cask: Path) -> None:
    """On a machine without a store none of these leaves one behind."""
    for arguments in (["ls"], ["path", "hf://o/r"], ["show", "hf://o/r"], ["verify"], ["config"], ["doctor"]):
        run(*arguments)
        assert not cask.exists(), arguments


def test_names_that_could_move_the_cursor_are_escaped_in_json(run: Any, model: Path) -> None:
    """JSON is ASCII, whatever the names are."""
    strange = model.with_name("ä\u202egguf.bin")
    strange.write_bytes(b"x")
    ended = run("pull", "--json", strange.as_uri())
    assert ended.out.isascii()
    assert json.loads(ended.lines[-1])["event"] in {"result", "error"}
