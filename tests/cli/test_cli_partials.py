"""``partials``: what is unfinished, what can become of it, and dropping what nobody is at."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import modelcask
from behaviours import CutAfter, Normal
from hub import FakeHub
from modelcask import PartialState, locks
from modelcask.layout import Layout
from modelcask.store import fs
from modelcask.store.root import open_root
from origin import Origin
from zygote import Zygote

CONTENT = bytes(range(256)) * 40_000
KEY = "a" * 64


@pytest.fixture
def store(cask: Path) -> Layout:
    layout, _ = open_root(cask)
    return layout


@pytest.fixture
def unfinished(origin: Origin) -> Callable[[str], str]:
    """Interrupt the download of a file after six million bytes; return its URI."""

    def interrupt(name: str) -> str:
        uri = origin.add(name, CONTENT, behaviours=[CutAfter(6_000_000), Normal()])
        with (
            modelcask.ModelCache(settings=modelcask.load_settings(retries=0)) as cache,
            pytest.raises(modelcask.TransferError),
        ):
            cache.pull(uri)
        return uri

    return interrupt


def pull_until(step: str, uri: str) -> None:
    """Pull in a process that is killed just before a step."""

    def die(name: str) -> None:
        if name.startswith(step):
            os.kill(os.getpid(), signal.SIGKILL)

    fs.on_step(die)
    modelcask.pull(uri)


def test_an_unfinished_download_is_listed_with_what_is_kept(run: Any, unfinished: Callable[[str], str]) -> None:
    """One line: the URI to pull again, the whole size, what is kept, what it takes, when, and what it is good for."""
    uri = unfinished("/m.gguf")
    ended = run("partials")
    assert (ended.code, ended.err) == (0, "")
    head, line = ended.lines
    assert head.split("  ")[0] == "FILE"
    cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
    assert (cells[0], cells[1], cells[4], cells[5]) == (uri, "10.2 MB", "now", "resumable")
    [document] = run("partials", "--json").document["partials"]
    assert 0 < document.pop("bytes_kept") <= 6_000_000
    assert document.pop("bytes_on_disk") >= len(CONTENT)
    assert len(document.pop("key")) == 64
    assert document.pop("changed_at").startswith("20")
    assert document.pop("revision").startswith("etag:")
    assert document == {
        "uri": uri,
        "source": uri,
        "path": "m.gguf",
        "state": "resumable",
        "in_use": False,
        "size_bytes": len(CONTENT),
    }


def test_pulling_the_uri_of_a_line_goes_on_there(run: Any, unfinished: Callable[[str], str]) -> None:
    """And then nothing is unfinished any more."""
    unfinished("/m.gguf")
    [document] = run("partials", "--json").document["partials"]
    with modelcask.ModelCache() as cache:
        [snapshot] = cache.pull(document["uri"])
    assert snapshot.bytes_reused == document["bytes_kept"]
    ended = run("partials")
    assert (ended.code, ended.out) == (0, "")
    assert "no download is unfinished" in ended.err
    assert run("partials", "-q").err == ""
    assert run("partials", "--json").document == {"partials": []}


def test_a_file_of_a_repository_is_named_by_its_commit(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """The URI means just the file that is unfinished, and a name for the whole repository drops it too."""
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        commit = hub.add_repo("models", "acme/tiny", {"sub dir/m.gguf": CONTENT})

        with modelcask.ModelCache() as cache:
            stop = modelcask.CancelToken()
            fs.on_step(lambda step: stop.cancel() if step == "partial.data.fsync" else None)
            try:
                with pytest.raises(modelcask.PullCancelledError):
                    cache.pull("hf://acme/tiny", cancel=stop)
            finally:
                fs.on_step(None)
        [document] = run("partials", "--json").document["partials"]
        assert document["uri"] == f"hf://acme/tiny@{commit}/sub%20dir/m.gguf"
        assert document["key"] == hashlib.sha256(CONTENT).hexdigest()
        for wrong in ("hf://acme/other", "hf://acme/tiny/other.gguf", f"hf://acme/tiny@{'0' * 40}"):
            assert run("partials", "drop", wrong).code == 3
        assert run("partials", "drop", "hf://acme/tiny").code == 0
        assert run("partials", "--json").document == {"partials": []}


def test_the_uri_of_a_pinned_file_has_the_pin(run: Any, origin: Origin) -> None:
    """Without it a pull would not know that it is the same file, and begin anew."""
    pin = f"#sha256={hashlib.sha256(CONTENT).hexdigest()}"
    uri = origin.add("/m.gguf", CONTENT, behaviours=[CutAfter(6_000_000), Normal()], etag=None) + pin
    with modelcask.ModelCache(settings=modelcask.load_settings(retries=0)) as cache:
        with pytest.raises(modelcask.TransferError):
            cache.pull(uri)
        [found] = run("partials", "--json").document["partials"]
        assert found["uri"] == uri
        for wrong in (uri.replace(pin, f"#sha256={'0' * 64}"), origin.url + "/n.gguf"):
            assert run("partials", "drop", wrong).code == 3
        assert cache.pull(found["uri"])[0].bytes_reused == found["bytes_kept"]


def test_an_empty_or_missing_store_has_none(run: Any, cask: Path) -> None:
    """And looking makes no store."""
    assert run("partials", "--json").document == {"partials": []}
    assert not cask.exists()
    assert run("partials", "drop", "--all").out == "dropped 0 downloads, freed 0 B\n"
    assert run("partials", "drop", KEY).code == 3
    assert not cask.exists()


@pytest.mark.parametrize("words", [[], ["--json"], ["--all", KEY], ["--older-than", "soon"], ["--all", "no uri"]])
def test_what_to_drop_must_be_said(run: Any, words: list[str]) -> None:
    """Nothing, or two things that contradict each other, is a usage error that names the help."""
    ended = run("partials", "drop", *words)
    assert ended.code == 2
    assert "modelcask partials drop --help" in ended.err
    assert run("partials", "--json", "drop", "--all").code == 2


def test_dropping_frees_what_is_on_disk(run: Any, unfinished: Callable[[str], str], store: Layout) -> None:
    """Only what is named, by URI or by key; a name that means none is an error, and nothing goes then."""
    one, two, three = map(unfinished, ("/1.gguf", "/2.gguf", "/3.gguf"))
    on_disk = {found["uri"]: found for found in run("partials", "--json").document["partials"]}
    ended = run("partials", "drop", one, "https://host/no.gguf")
    assert ended.code == 3
    assert "there is no unfinished download of https://host/no.gguf; see: modelcask partials" in ended.err
    assert len(list(store.partials.iterdir())) == 3
    dropped = run("partials", "drop", one, on_disk[two]["key"], "--json").document
    assert {found["uri"] for found in dropped["dropped"]} == {one, two}
    assert dropped["bytes_freed"] == on_disk[one]["bytes_on_disk"] + on_disk[two]["bytes_on_disk"]
    assert dropped["kept"] == []
    assert [path.name for path in store.partials.iterdir()] == [on_disk[three]["key"]]
    assert "dropped 1 download, freed 10.2 MB" in run("partials", "drop", "--all").out
    assert list(store.partials.iterdir()) == []
    assert list(store.locks.glob("uri-*")) == []


def test_only_what_is_older_goes(run: Any, unfinished: Callable[[str], str], store: Layout) -> None:
    """By when it was last written to, not when it began; also among those that are named."""
    old, new = map(unfinished, ("/old.gguf", "/new.gguf"))
    key = next(found["key"] for found in run("partials", "--json").document["partials"] if found["uri"] == old)
    for path in store.partial(key).iterdir():
        os.utime(path, (time.time() - 8 * 86_400,) * 2)
    assert run("partials", "drop", new, "--older-than", "7d").out.startswith("dropped 0 ")
    assert run("partials", "drop", "--older-than", "9d").out.startswith("dropped 0 ")
    assert run("partials", "drop", "--all", "--older-than", "7d").out.startswith("dropped 1 ")
    assert [found["uri"] for found in run("partials", "--json").document["partials"]] == [new]


def test_what_somebody_is_at_stays(run: Any, unfinished: Callable[[str], str], store: Layout) -> None:
    """It is shown as in use; that it stays is a failure only where it was named."""
    uri = unfinished("/m.gguf")
    [folder] = store.partials.iterdir()
    with locks.locked(store.key_lock(folder.name)):
        assert run("partials").lines[1].endswith("in use")
        ended = run("partials", "drop", "--all")
        assert (ended.code, ended.out) == (0, "dropped 0 downloads, freed 0 B\n")
        assert f"{uri} stays: it is being worked at" in ended.err
        ended = run("partials", "drop", uri)
        assert ended.code == 9
        assert ended.err.startswith("error: ")
    assert (folder / "data").exists()


def test_what_was_worked_at_since_it_was_listed_stays(unfinished: Callable[[str], str], store: Layout) -> None:
    """The list is what a person has seen."""
    unfinished("/m.gguf")
    [folder] = store.partials.iterdir()
    with modelcask.ModelCache() as cache:
        listed = cache.list_partials()
        os.utime(folder / "data", (time.time() + 1,) * 2)
        dropped = cache.drop_partials(listed)
        assert (dropped.dropped, dropped.kept, dropped.bytes_freed) == ((), tuple(listed), 0)
        assert len(cache.drop_partials(cache.list_partials()).dropped) == 1


def test_a_sealed_file_lacks_only_its_name(origin: Origin, zygote: Zygote, cask: Path, run: Any) -> None:
    """Killed before it was published: a pull would fetch nothing; dropped, its bytes are free."""
    uri = origin.add("/m.gguf", CONTENT)
    zygote.start("cli.test_cli_partials:pull_until", "blob.link", uri).wait()
    [found] = run("partials", "--json").document["partials"]
    assert (found["state"], found["bytes_kept"], found["uri"]) == ("sealed", len(CONTENT), uri)
    assert run("partials", "drop", uri).code == 0
    assert list((cask / "partial").iterdir()) == []


def test_dropping_the_second_name_of_a_blob_frees_nothing_and_harms_nothing(
    origin: Origin, zygote: Zygote, cask: Path, run: Any
) -> None:
    """Killed after it was published: the blob stays as it was recorded, so that nobody has to hash it again."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    uri = origin.add("/m.gguf", CONTENT) + f"#sha256={digest}"
    zygote.start("cli.test_cli_partials:pull_until", "manifest.", uri).wait()
    [found] = run("partials", "--json").document["partials"]
    assert found["bytes_on_disk"] < 100_000
    assert run("partials", "drop", uri).code == 0
    assert list((cask / "partial").iterdir()) == []
    with modelcask.ModelCache() as cache:
        assert {check.name for check in cache.diagnose()}.isdisjoint({"changed", "orphans"})
        assert cache.pull(uri)[0].bytes_fetched == 0


@pytest.mark.parametrize("meta", [b"", b"{", b"[]", b"\xff\xfe", b'{"format": 1}', b'{"format": 2}'])
def test_a_download_whose_description_is_damaged_is_shown_by_its_key(run: Any, store: Layout, meta: bytes) -> None:
    """Nothing of it can be taken up; its key drops it."""
    folder = store.partial(KEY)
    folder.mkdir()
    (folder / "data").write_bytes(CONTENT[:8192])
    (folder / "meta").write_bytes(meta)
    (folder / "journal").write_bytes(os.urandom(40))
    [line] = run("partials").lines[1:]
    assert line.startswith(KEY)
    assert line.endswith("damaged")
    assert run("partials", "drop", KEY).out.startswith("dropped 1 download, freed ")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("source", "path", "name"),
    [
        ("ollama://registry/x", "m.gguf", "ollama://registry/x m.gguf"),
        ("no uri at all", "a\x1b[2Jb", "no uri at all a"),
        ("hf://models/org/repo", "../x", "hf://models/org/repo ../x"),
    ],
)
def test_a_source_that_no_uri_means_is_shown_as_it_is(
    run: Any, store: Layout, source: str, path: str, name: str
) -> None:
    """With its path; what could move the cursor is not printed."""
    folder = store.partial(KEY)
    folder.mkdir()
    (folder / "data").touch()
    fields = {"format": 1, "source": source, "revision": None, "path": path, "size_bytes": 5, "etag": None}
    (folder / "meta").write_text(json.dumps(fields | {"digests": []}))
    [line] = run("partials").lines[1:]
    assert line.startswith(name)
    assert "\x1b" not in line
    assert line.endswith("useless")
    [found] = run("partials", "--json").document["partials"]
    assert (found["source"], found["path"]) == (source, path)


def test_what_is_not_ours_is_shown_and_never_deleted(run: Any, store: Layout, tmp_path: Path) -> None:
    """A file, a link, a folder of another name, a folder in one of ours."""
    (store.partials / "notes.txt").write_text("mine")
    (store.partials / "other").mkdir()
    (store.partials / "other" / "deep").write_text("mine")
    (store.partials / KEY).symlink_to(tmp_path)
    (store.partial("b" * 64) / "sub").mkdir(parents=True)
    before = sorted(store.partials.rglob("*"))
    found = run("partials", "--json").document["partials"]
    assert {one["state"] for one in found} == {PartialState.FOREIGN}
    assert len(found) == 4
    assert len(run("partials").lines) == 5
    ended = run("partials", "drop", "--all")
    assert (ended.code, ended.out) == (0, "dropped 0 downloads, freed 0 B\n")
    assert ended.err.count("was not made by modelcask") == 4
    assert run("partials", "drop", "b" * 64).code == 9
    assert sorted(store.partials.rglob("*")) == before


def test_a_folder_without_anything_in_it_is_useless_and_can_be_dropped(run: Any, store: Layout) -> None:
    """A process that died at its first step."""
    store.partial(KEY).mkdir()
    [found] = run("partials", "--json").document["partials"]
    assert (found["state"], found["bytes_on_disk"], found["uri"]) == ("useless", 0, None)
    assert run("partials", "drop", "--all").out.startswith("dropped 1 ")
