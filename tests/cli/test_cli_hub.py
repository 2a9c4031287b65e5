"""Repositories on a Hub, as the command line shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub import FakeHub

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer/vocab.txt": b"a\nb\n",
    "model.safetensors": b"\x08" + bytes(range(255)) * 100,
    "model-Q4_K_M.gguf": b"GGUF" + bytes(range(256)) * 100,
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add_repo("models", "acme/tiny", FILES)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.mark.usefixtures("hub")
def test_a_repository_is_one_path_and_one_line(run: Any) -> None:
    """The folder holds the files; the list shows the URI as short as a person writes it."""
    ended = run("pull", "hf://acme/tiny")
    assert ended.code == 0, ended.err
    [path] = ended.lines
    assert {name: Path(path, name).read_bytes() for name in FILES} == FILES
    assert "config.json: done, 23 B" in ended.err
    _, line = run("ls").lines
    assert line.split()[0] == "hf://acme/tiny"
    assert line.split()[2] == "4/4"
    assert line.split()[-1] == "main"
    assert run("path", "hf://acme/tiny").out == ended.out


def test_a_large_repository_is_told_in_part(run: Any, hub: FakeHub) -> None:
    """Explain lists twenty files and counts the rest; the plan of its removal names five."""
    hub.add_repo("models", "acme/many", {f"part-{number:02}.txt": b"%d" % number for number in range(30)})
    lines = run("explain", "hf://acme/many").lines
    assert lines[-1].strip() == "and 10 more: --json lists all"
    assert len([line for line in lines if "part-" in line]) == 20
    run("pull", "-q", "hf://acme/many")
    assert run("rm", "--dry-run", "hf://acme/many").err.splitlines()[0].endswith("part-04.txt and 25 more")


def test_explain_sets_what_is_held_apart_from_what_is_fetched(run: Any, hub: FakeHub) -> None:
    """Each file stands under the sum it belongs to; JSON lists all of them, and marks the held ones."""
    hub.add_repo("models", "acme/two", {"config.json": b"{}", "model.gguf": b"GGUF" * 1000})
    config, model = "                  2 B  config.json", "               4.0 kB  model.gguf"
    assert run("explain", "hf://acme/two").lines[-3:] == ["a pull      fetches 2 files, 4.0 kB", config, model]
    run("pull", "-q", "hf://acme/two/config.json")
    assert run("explain", "hf://acme/two").lines[-4:] == [
        "a pull      fetches 1 file, 4.0 kB",
        model,
        "            reuses 1 file, 2 B: the bytes are here already",
        config,
    ]
    document = run("explain", "--json", "hf://acme/two").document
    assert {file["path"]: file["held"] for file in document["to_pull"]} == {"config.json": True, "model.gguf": False}
    assert document["bytes_to_fetch"] == 4000


def test_explain_of_bytes_that_another_name_brought_fetches_nothing(run: Any, hub: FakeHub) -> None:
    """Not cached under this URI, and yet it costs nothing."""
    for name in ("acme/one", "acme/other"):
        hub.add_repo("models", name, {"model.gguf": b"GGUF" * 1000})
    run("pull", "-q", "hf://acme/one")
    assert run("explain", "hf://acme/other").lines[-4:] == [
        "cached      no",
        "a pull      fetches nothing",
        "            reuses 1 file, 4.0 kB: the bytes are here already",
        "               4.0 kB  model.gguf",
    ]


@pytest.mark.usefixtures("hub")
def test_globs_choose_the_files(run: Any) -> None:
    """The others are known, not held; explain tells what is missing."""
    ended = run("pull", "-q", "hf://acme/tiny", "--include", "*.json", "--include", "*.txt", "--exclude", "tok*")
    [path] = ended.lines
    assert [file.name for file in Path(path).iterdir()] == ["config.json"]
    assert run("ls").lines[1].split()[2] == "1/4"
    shown = run("show", "--json", "hf://acme/tiny").document
    assert shown["listed"]
    assert [file["path"] for file in shown["files"] if file["blob"] is not None] == ["config.json"]
    lines = run("explain", "hf://acme/tiny").lines
    assert "cached      in part: 1 of the revision's 4 files" in lines
    assert "a pull      fetches 3 files, 51.1 kB" in lines
    told = [line.strip() for line in lines]
    reused = told.index("reuses 1 file, 23 B: the bytes are here already")
    assert told[reused + 1] == "23 B  config.json"
    filtered = run("explain", "--json", "hf://acme/tiny", "--include", "*.json").document
    assert (filtered["to_pull"], filtered["bytes_to_fetch"]) == (None, 0)
    run("pull", "-q", "hf://acme/tiny")
    run("rm", "-q", "hf://acme/tiny/config.json")
    assert "cached      in part: 3 of the revision's 4 files" in run("explain", "hf://acme/tiny").lines


def test_each_name_of_a_revision_can_be_used_again(run: Any, hub: FakeHub) -> None:
    """A branch, a tag, a quantisation, a bare commit, a data set: what ls shows, path finds."""
    first = hub.add_commit("models", "acme/tiny", FILES | {"extra.txt": b"x"}, branch="dev")
    hub.add_tag("models", "acme/tiny", "v1", first)
    hub.add_repo("datasets", "acme/words", {"words.txt": b"words"})
    hub.add_repo("models", "acme/other", {"model-Q8_0.gguf": b"GGUF8"})
    commit = hub.add_repo("models", "acme/third", {"a.txt": b"a"})
    uris = ["hf://acme/tiny@dev", "hf://datasets/acme/words", "hf:acme/other:Q8_0", f"hf://acme/third@{commit}"]
    ended = run("pull", "-q", *uris)
    assert ended.code == 0, ended.err
    shown = [row["uri"] for row in run("ls", "--json").document["snapshots"]]
    assert sorted(shown) == sorted(
        ["hf://acme/tiny@dev", "hf://datasets/acme/words", "hf://acme/other:Q8_0", f"hf://acme/third@{commit}"]
    )
    for uri in shown:
        assert run("path", uri).code == 0, uri
    assert [row["uri"] for row in run("ls", "--json", "hf://acme/t*").document["snapshots"]] != []
    assert run("ls", "--json", "hf://datasets/*").document["snapshots"][0]["source"] == "hf://datasets/acme/words"


@pytest.mark.usefixtures("hub")
def test_damage_names_the_one_file_to_fetch_again(run: Any) -> None:
    """The command that verify shows fetches that file and no other, and all is well again."""
    [path] = run("pull", "-q", "hf://acme/tiny/model.safetensors").lines
    blob = Path(path).resolve()
    blob.chmod(0o644)
    blob.write_bytes(b"broken")
    ended = run("verify")
    assert ended.code == 4
    uri = ended.lines[-1].split()[-1]
    assert uri.startswith("hf://acme/tiny@")
    assert uri.endswith("/model.safetensors")
    assert run("pull", "-q", uri).code == 0
    assert run("verify").code == 0
    assert run("ls").lines[1].split()[2] == "1/?"


def test_a_gated_repository_is_exit_seven(run: Any, hub: FakeHub) -> None:
    """And says what to do."""
    hub.gate("models", "acme/tiny")
    ended = run("pull", "hf://acme/tiny/model.safetensors")
    assert ended.code == 7
    assert len([line for line in ended.err.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.usefixtures("hub")
def test_what_the_hub_has_not_is_exit_three(run: Any) -> None:
    """A repository, a file, a revision."""
    for uri in ("hf://acme/none", "hf://acme/tiny/none.gguf", "hf://acme/tiny@none"):
        ended = run("pull", "-q", uri)
        assert (ended.code, ended.out, len(ended.err.splitlines())) == (3, "", 1), uri
