"""Pulling from a Hub: repositories, files, folders, quantisations, with as few requests as can be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import modelcask
from hub import FakeHub
from modelcask import TrustLevel

GGUF = b"GGUF" + bytes(range(256)) * 8000
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer/vocab.txt": b"a\nb\n",
    "model.safetensors": b"\x08" + bytes(range(255)) * 9000,
    "model-Q4_K_M.gguf": GGUF,
}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add_repo("models", "acme/tiny", FILES)
        yield hub


@pytest.fixture
def cache(hub: FakeHub) -> Iterator[modelcask.ModelCache]:
    with modelcask.ModelCache(settings=modelcask.load_settings(hf_endpoint=hub.endpoint)) as cache:
        yield cache


def downloads(hub: FakeHub) -> list[str]:
    return [call for call in hub.calls if "/resolve/" in call]


def test_a_repository_costs_two_calls_and_one_request_a_file(cache: modelcask.ModelCache, hub: FakeHub):
    """One revision call, one tree call, no HEAD; every file is there under its own path."""
    [snapshot] = cache.pull("hf://acme/tiny")

    assert len(snapshot.revision) == 40
    assert {path: (snapshot.path / path).read_bytes() for path in FILES} == FILES
    metadata = [call for call in hub.calls if call.startswith("GET /api/") and "resolve-cache" not in call]
    assert len(metadata) == 2
    assert len(downloads(hub)) == len(FILES)
    assert {request.method for request in hub.requests} == {"GET"}
    trust = {entry.path: entry.trust for entry in snapshot.entries}
    assert trust["model.safetensors"] is TrustLevel.UPSTREAM_SHA256
    assert trust["config.json"] is TrustLevel.GIT_SHA1


@pytest.mark.parametrize(
    "spelling",
    [
        "hf://acme/tiny",
        "hf://acme/tiny@main",
        "hf://models/acme/tiny",
        "hf:acme/tiny",
        "huggingface:acme/tiny",
        "hf.co/acme/tiny",
        "https://huggingface.co/acme/tiny",
        "https://huggingface.co/acme/tiny/tree/main",
    ],
)
def test_every_spelling_finds_what_one_of_them_pulled(cache: modelcask.ModelCache, hub: FakeHub, spelling: str):
    """Spellings are many, the model is one."""
    [snapshot] = cache.pull("hf://acme/tiny")
    hub.clear()

    assert cache.lookup(spelling) == snapshot.path
    assert hub.requests == []


def test_a_file_a_folder_and_a_commit_are_found_after_the_repository_was_pulled(
    cache: modelcask.ModelCache, hub: FakeHub
):
    """What a pull brought is found by every URI that means a part of it."""
    [snapshot] = cache.pull("hf://acme/tiny")
    hub.clear()

    assert cache.lookup("hf://acme/tiny/config.json") == snapshot.path / "config.json"
    assert cache.lookup("hf://acme/tiny/tokenizer") == snapshot.path / "tokenizer"
    assert cache.lookup(f"hf://acme/tiny@{snapshot.revision}/config.json") == snapshot.path / "config.json"
    assert cache.lookup("https://huggingface.co/acme/tiny/blob/main/config.json") == snapshot.path / "config.json"
    assert cache.lookup("hf://acme/tiny/absent.json") is None
    assert hub.requests == []


def test_part_of_a_repository_is_not_the_repository(cache: modelcask.ModelCache, hub: FakeHub):
    """With filters only what matches is fetched, and a lookup never takes a part for the whole."""
    [snapshot] = cache.pull("hf://acme/tiny", include=["*.json", "tokenizer/"], exclude=["nothing"])

    assert sorted(entry.path for entry in snapshot.entries) == ["config.json", "tokenizer/vocab.txt"]
    assert cache.lookup("hf://acme/tiny") is None
    with pytest.raises(modelcask.NotCachedError, match="2 of 4"):
        cache.get_path("hf://acme/tiny")
    assert cache.find("hf://acme/tiny", include=["*.json"]) is not None
    hub.clear()
    [whole] = cache.pull("hf://acme/tiny")
    assert len(downloads(hub)) == 2
    assert whole.path == snapshot.path
    assert cache.lookup("hf://acme/tiny") == whole.path


def test_filters_that_match_nothing_are_an_error(cache: modelcask.ModelCache):
    """A typing slip in a filter is said, not obeyed."""
    with pytest.raises(modelcask.ModelNotFoundError, match="none of the 4 files"):
        cache.pull("hf://acme/tiny", include=["*.onnx"])


def test_a_quantisation_is_resolved_and_remembered(cache: modelcask.ModelCache, hub: FakeHub):
    """The quant form finds its file through the manifest, and later without the network."""
    [snapshot] = cache.pull("hf:acme/tiny:Q4_K_M")

    assert snapshot.path.name == "model-Q4_K_M.gguf"
    assert snapshot.path.read_bytes() == GGUF
    hub.clear()
    assert cache.lookup("hf:acme/tiny:q4_k_m") == snapshot.path
    assert hub.requests == []


def test_a_split_model_is_followed_and_found_only_whole(cache: modelcask.ModelCache, hub: FakeHub):
    """Any part of a split GGUF means all of them; the path is the first part's, its siblings beside it."""
    parts = {f"big-{number:05d}-of-00003.gguf": GGUF + bytes([number]) for number in (1, 2, 3)}
    hub.add_repo("models", "acme/split", parts)
    [snapshot] = cache.pull("hf://acme/split/big-00002-of-00003.gguf")

    assert snapshot.path.name == "big-00001-of-00003.gguf"
    assert {path.name: path.read_bytes() for path in snapshot.path.parent.iterdir()} == parts
    assert cache.lookup("hf://acme/split/big-00003-of-00003.gguf") == snapshot.path
    next(snapshot.path.parent.glob("*00002-of*")).resolve().unlink()
    assert cache.lookup("hf://acme/split/big-00001-of-00003.gguf") is None


def test_the_same_bytes_from_another_source_cost_nothing(cache: modelcask.ModelCache, hub: FakeHub, tmp_path: Path):
    """A file that the store holds from a disk is not fetched from a Hub that promises the same sha256."""
    local = tmp_path / "copy.gguf"
    local.write_bytes(GGUF)
    cache.pull(local.as_uri())
    [snapshot] = cache.pull("hf://acme/tiny/model-Q4_K_M.gguf")

    assert (snapshot.bytes_fetched, snapshot.bytes_reused) == (0, len(GGUF))
    assert downloads(hub) == []
    assert snapshot.path.resolve() == cache.get_path(local.as_uri()).resolve()


def test_a_new_commit_fetches_only_what_changed(cache: modelcask.ModelCache, hub: FakeHub):
    """After an update the small files that stayed the same are known by their git digest."""
    [old] = cache.pull("hf://acme/tiny")
    commit = hub.add_commit("models", "acme/tiny", {**FILES, "model.safetensors": b"new weights"})
    hub.clear()
    [new] = cache.pull("hf://acme/tiny", refresh=True)

    assert new.revision == commit
    assert len(downloads(hub)) == 1
    assert new.bytes_fetched == len(b"new weights")
    assert (old.path / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert cache.lookup("hf://acme/tiny") == new.path
    assert cache.lookup(f"hf://acme/tiny@{old.revision}") == old.path


def test_a_gated_repository_needs_a_token_that_never_leaves_the_hub(
    cache: modelcask.ModelCache, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
):
    """Without a token the error says where to ask; with one the files come and the CDN never sees it."""
    hub.gate("models", "acme/tiny", token="hf_secret_for_this_test")
    with pytest.raises(modelcask.AccessDeniedError) as caught:
        cache.pull("hf://acme/tiny/model.safetensors")
    assert "HF_TOKEN" in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_secret_for_this_test")
    [snapshot] = cache.pull("hf://acme/tiny/model.safetensors")

    assert snapshot.path.read_bytes() == FILES["model.safetensors"]
    assert hub.secrets_at_cdn() == []


def test_a_hub_that_promises_another_digest_than_the_pin_is_refused_unfetched(
    cache: modelcask.ModelCache, hub: FakeHub
):
    """The user's pin beats the source: a contradiction ends the pull before the first byte."""
    with pytest.raises(modelcask.DigestMismatchError):
        cache.pull(f"hf://acme/tiny/model.safetensors#sha256={'0' * 64}")

    assert downloads(hub) == []


def test_explain_tells_what_a_pull_would_fetch_after_dedup(cache: modelcask.ModelCache):
    """The plan counts what the store already holds, and nothing is changed by asking."""
    cache.pull("hf://acme/tiny/model-Q4_K_M.gguf")
    explanation = cache.explain("hf://acme/tiny")

    assert explanation.cached is None
    assert explanation.bytes_to_fetch == sum(len(content) for content in FILES.values()) - len(GGUF)
    assert cache.lookup("hf://acme/tiny") is None


def test_a_rebuilt_catalog_finds_everything_again(cache: modelcask.ModelCache, hub: FakeHub, cask: Path):
    """With the database gone, blobs and manifests bring every URI back."""
    [snapshot] = cache.pull("hf://acme/tiny")
    cache.pull("hf:acme/tiny:Q4_K_M")
    cache.close()
    for path in cask.glob("catalog.db*"):
        path.unlink()
    hub.clear()
    assert cache.lookup("hf://acme/tiny") is None
    rebuilt = cache.rebuild()

    assert (rebuilt.revisions, rebuilt.entries, rebuilt.refused, rebuilt.missing) == (1, 4, [], [])
    assert cache.lookup("hf://acme/tiny") == snapshot.path
    assert cache.lookup("hf:acme/tiny:Q4_K_M") == snapshot.path / "model-Q4_K_M.gguf"
    assert hub.requests == []


def test_one_bad_name_can_be_left_out(cache: modelcask.ModelCache, hub: FakeHub):
    """A file name that may not become a path refuses the pull, unless a filter leaves it out."""
    hub.add_repo("models", "acme/bad", {"good.json": b"{}", "CON/aux.json": b"{}"})
    with pytest.raises(modelcask.PolicyError, match="--exclude"):
        cache.pull("hf://acme/bad")
    [snapshot] = cache.pull("hf://acme/bad", exclude=["CON/*"])

    assert [entry.path for entry in snapshot.entries] == ["good.json"]
    assert cache.lookup("hf://acme/bad") is None
