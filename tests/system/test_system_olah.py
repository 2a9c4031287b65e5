"""Pulling from a Hub that is not ours: olah, over git repositories."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

import modelcask
from modelcask import TrustLevel
from system.command import run
from system.olah import MISSING, Olah
from system.relay import Relay

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]

_random = random.Random(20)
OLD = {
    "config.json": b'{"model_type": "llama"}\n',
    "tokenizer/vocab.txt": b"a\nb\n",
    "tokenizer/more/merges with space.txt": b"a b\n",
    "model.gguf": b"GGUF" + _random.randbytes(3_000_000),
    "large.safetensors": _random.randbytes(4_000_000),
    "empty.txt": b"",
}
NEW = OLD | {"config.json": b'{"model_type": "mistral"}\n'}
LFS = ("large.safetensors",)


@pytest.fixture(scope="module")
def commits() -> list[str]:
    """The commits of ``acme/tiny``, the old one first; it has the tag ``v1``."""
    return []


@pytest.fixture(scope="module")
def olah(tmp_path_factory: pytest.TempPathFactory, commits: list[str]) -> Iterator[Olah]:
    with Olah(tmp_path_factory.mktemp("olah")) as olah:
        commits += [olah.commit("models/acme/tiny", OLD, lfs=LFS, tag="v1")]
        commits += [olah.commit("models/acme/tiny", {"config.json": NEW["config.json"]})]
        olah.commit("datasets/acme/words", {"data/words.csv": b"a,b\n"})
        yield olah


@pytest.fixture
def hub(olah: Olah) -> Iterator[Relay]:
    """The way to olah for one test: when it is closed, the Hub is gone."""
    with Relay(olah.port) as relay:
        yield relay
    huggingface_hub.close_session()  # it is one for the process, and keeps connections to this relay


@pytest.fixture
def cache(hub: Relay) -> Iterator[modelcask.ModelCache]:
    with modelcask.ModelCache(settings=modelcask.load_settings(hf_endpoint=hub.url)) as cache:
        yield cache


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_repository_is_what_git_holds(cache: modelcask.ModelCache, hub: Relay, commits: list[str]) -> None:
    """Every file, at the commit of main; found again by each spelling when the server is gone."""
    [snapshot] = cache.pull("hf://acme/tiny")
    hub.close()

    assert read(snapshot.path) == NEW
    assert snapshot.revision == snapshot.path.name == commits[1]
    for spelling in ("hf:acme/tiny", "hf.co/acme/tiny", f"hf://acme/tiny@{commits[1]}", f"{hub.url}/acme/tiny"):
        assert cache.lookup(spelling) == snapshot.path
    assert cache.lookup("hf://acme/tiny/model.gguf") == snapshot.path / "model.gguf"


def test_the_proof_is_told_as_it_is(cache: modelcask.ModelCache) -> None:
    """git's SHA-1 where that is all there is, the SHA-256 of an LFS pointer where git holds one: never more."""
    [snapshot] = cache.pull("hf://acme/tiny")

    assert {entry.path: entry.trust for entry in snapshot.entries} == {
        name: TrustLevel.UPSTREAM_SHA256 if name in LFS else TrustLevel.GIT_SHA1 for name in NEW
    }


def test_its_plain_urls_prove_nothing(hub: Relay) -> None:
    """As a URL the same file has neither a strong ETag nor a digest: its bytes are its revision, on first use."""
    uri = f"{hub.url}/acme/tiny/resolve/main/model.gguf"
    with modelcask.ModelCache() as cache:
        [snapshot] = cache.pull(uri)

        assert snapshot.path.read_bytes() == NEW["model.gguf"]
        assert snapshot.revision == f"sha256:{hashlib.sha256(NEW['model.gguf']).hexdigest()}"
        assert [entry.trust for entry in snapshot.entries] == [TrustLevel.FIRST_USE]
        [again] = cache.pull(uri, refresh=True)
    assert again.path == snapshot.path


@pytest.mark.parametrize(
    "name", ["model.gguf", "large.safetensors", "empty.txt", "tokenizer/more/merges with space.txt"]
)
def test_one_file_is_one_file(cache: modelcask.ModelCache, name: str) -> None:
    """A file comes alone, under its own path."""
    [snapshot] = cache.pull(f"hf://acme/tiny/{name.replace(' ', '%20')}")

    assert snapshot.path.as_posix().endswith(f"/{name}")
    assert snapshot.path.read_bytes() == NEW[name]
    assert [entry.path for entry in snapshot.entries] == [name]
    assert cache.lookup("hf://acme/tiny") is None


def test_a_folder_is_all_below_it(cache: modelcask.ModelCache) -> None:
    """The path is the folder in the snapshot."""
    [snapshot] = cache.pull("hf://acme/tiny/tokenizer")

    assert read(snapshot.path) == {"vocab.txt": b"a\nb\n", "more/merges with space.txt": b"a b\n"}
    assert cache.lookup(f"{cache.settings.hf_endpoint}/acme/tiny/tree/main/tokenizer") == snapshot.path


def test_a_tag_and_a_commit_are_revisions(cache: modelcask.ModelCache, commits: list[str]) -> None:
    """The tag's commit has its own folder; what did not change between the two costs no bytes."""
    [new] = cache.pull("hf://acme/tiny")
    [tagged] = cache.pull("hf://acme/tiny@v1")
    [named] = cache.pull(f"hf://acme/tiny@{commits[0]}")

    assert read(tagged.path) == OLD
    assert tagged.revision == commits[0]
    assert tagged.bytes_fetched == len(OLD["config.json"])
    assert (named.path, named.bytes_fetched) == (tagged.path, 0)
    assert cache.lookup("hf://acme/tiny@v1/config.json") == tagged.path / "config.json"
    assert read(new.path) == NEW


def test_a_dataset_is_a_repository(cache: modelcask.ModelCache) -> None:
    """Datasets lie beside the models of the same name."""
    [snapshot] = cache.pull("hf://datasets/acme/words")

    assert read(snapshot.path) == {"data/words.csv": b"a,b\n"}
    with pytest.raises(modelcask.ModelNotFoundError):
        cache.pull("hf://models/acme/words")


@pytest.mark.parametrize("name", ["model.gguf", "large.safetensors"])
def test_a_cut_file_arrives_although_nothing_can_be_resumed(cache: modelcask.ModelCache, hub: Relay, name: str) -> None:
    """The server sends a whole file whatever range is asked for: the second one takes the place of the first part."""
    hub.cut_after(2_000_000)
    [snapshot] = cache.pull(f"hf://acme/tiny/{name}")

    assert hub.cuts == 1
    assert snapshot.path.read_bytes() == NEW[name]
    assert snapshot.bytes_fetched > len(NEW[name])


@pytest.mark.parametrize(
    "uri",
    [
        "hf://acme/tiny/absent.gguf",
        "hf://acme/tiny/tokenizer/absent",
        "hf://acme/tiny@v1/absent.gguf",
        "hf://acme/tiny@no-such-tag",
        "hf://acme/absent",
        "hf:acme/tiny:Q4_K_M",
    ],
)
def test_a_miss_is_not_found(cache: modelcask.ModelCache, uri: str) -> None:
    """It answers 401 to every miss, which is neither a missing token nor a broken server."""
    with pytest.raises(modelcask.NotFoundError) as caught:
        cache.pull(uri)

    assert caught.value.exit_code == 3
    assert cache.lookup(uri) is None


def test_the_command_pulls_from_it_and_finds_it_without_it(hub: Relay) -> None:
    """With HF_ENDPOINT alone; then the server is gone, and path still answers where a pull cannot."""
    env = {"HF_ENDPOINT": hub.url, "MODELCASK_RETRIES": "0"}
    pulled = run("pull", "-q", "hf://acme/tiny", env=env)
    hub.close()

    assert read(pulled.path) == NEW
    assert run("path", "hf://acme/tiny", env=env).out == pulled.out
    missing = run("pull", "-q", "hf://acme/tiny@v1", env=env)
    assert missing.code == 6
    assert hub.url in missing.error
