"""What the Hub's URIs resolve to, and with which requests: no more, and no others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from hub import FakeHub
from modelcask.digest import Digest
from modelcask.errors import ModelNotFoundError, PolicyError, ResponseError
from modelcask.net.client import Client
from modelcask.selection import choose
from modelcask.types import HTTPLocation, Resolution
from origin import Origin

Resolve = Callable[..., Awaitable[Resolution]]
FILES = {
    "config.json": b'{"a": 1}',
    "model.safetensors": b"weights",
    "onnx/model.onnx": b"graph",
    "onnx/deep/notes with space.txt": b"notes",
    "empty.txt": b"",
}
COMMIT = "c" * 40
TREE = "recursive=true&expand=false"
QUANTS = {
    "tiny-Q4_K_M.gguf": b"four",
    "tiny-Q8_0.gguf": b"eight",
    "big-BF16-00001-of-00003.gguf": b"one",
    "big-BF16-00002-of-00003.gguf": b"two",
    "big-BF16-00003-of-00003.gguf": b"three",
    "README.md": b"",
}
SPLIT = tuple(name for name in QUANTS if "-of-" in name)


def urls(resolution: Resolution) -> list[str]:
    return [file.location.url for file in resolution.files if isinstance(file.location, HTTPLocation)]


async def test_a_repository_is_one_revision_and_one_tree(resolve: Resolve, hub: FakeHub) -> None:
    """Every file comes with its size, its promise and its address, and no file is asked for by itself."""
    commit = hub.add_repo("models", "org/name", FILES)
    found = await resolve("hf://org/name")
    assert hub.calls == [
        "GET /api/models/org/name/revision/main?expand=sha",
        f"GET /api/models/org/name/tree/{commit}?{TREE}",
    ]
    assert (found.revision, found.complete, found.entrypoint) == (commit, True, "")
    files = {file.path: file for file in found.files}
    assert {path: file.size_bytes for path, file in files.items()} == {p: len(content) for p, content in FILES.items()}
    assert files["model.safetensors"].digests == (Digest("sha256", hashlib.sha256(b"weights").hexdigest()),)
    blob = hashlib.sha1(b"blob 8\0" + FILES["config.json"]).hexdigest()
    assert files["config.json"].digests == (Digest("git-sha1", blob),)
    notes = files["onnx/deep/notes with space.txt"]
    assert notes.location == HTTPLocation(
        f"{hub.endpoint}/org/name/resolve/{commit}/onnx/deep/notes%20with%20space.txt"
    )
    assert notes.etag is None


async def test_a_commit_needs_no_revision_call(resolve: Resolve, hub: FakeHub) -> None:
    """What is immutable is not asked for."""
    commit = hub.add_repo("models", "org/name", FILES)
    hub.add_commit("models", "org/name", {"other": b""})
    found = await resolve(f"hf://org/name@{commit}")
    assert hub.calls == [f"GET /api/models/org/name/tree/{commit}?{TREE}"]
    assert {file.path for file in found.files} == set(FILES)


async def test_a_large_tree_is_read_page_by_page(resolve: Resolve, hub: FakeHub) -> None:
    """Each page is one request by the commit, and the pages together are whole."""
    hub.page_size = 100
    commit = hub.add_repo("models", "org/name", {f"{number:04}.txt": b"%d" % number for number in range(250)})
    found = await resolve("hf://org/name")
    assert hub.calls[1:] == [
        f"GET /api/models/org/name/tree/{commit}?{TREE}{cursor}" for cursor in ("", "&cursor=100", "&cursor=200")
    ]
    assert len(found.files) == 250
    assert found.complete


async def test_a_path_is_one_revision_and_one_entry(resolve: Resolve, hub: FakeHub) -> None:
    """One file of a large repository does not list the rest."""
    commit = hub.add_repo("models", "org/name", FILES)
    found = await resolve("hf://org/name/onnx/model.onnx")
    assert hub.calls == [
        "GET /api/models/org/name/revision/main?expand=sha",
        f"POST /api/models/org/name/paths-info/{commit}",
    ]
    assert hub.requests[-1].body == "paths=onnx%2Fmodel.onnx&expand=false"
    assert [file.path for file in found.files] == ["onnx/model.onnx"]
    assert not found.complete


async def test_a_folder_is_resolved_with_the_whole_listing(resolve: Resolve, hub: FakeHub) -> None:
    """A path that turns out to be a folder costs one more request; all names are told, so that the rest is known."""
    commit = hub.add_repo("models", "org/name", FILES | {"onnx2/x": b""})
    found = await resolve("hf://org/name/onnx")
    assert hub.calls[1:] == [
        f"POST /api/models/org/name/paths-info/{commit}",
        f"GET /api/models/org/name/tree/{commit}?{TREE}",
    ]
    assert sorted(file.path for file in found.files) == sorted([*FILES, "onnx2/x"])
    assert found.complete
    assert sorted(file.path for file in choose(found, None)) == ["onnx/deep/notes with space.txt", "onnx/model.onnx"]
    deep = await resolve(f"hf://org/name@{commit}/onnx/deep/")
    assert [file.path for file in choose(deep, None)] == ["onnx/deep/notes with space.txt"]


@pytest.mark.parametrize("part", SPLIT)
async def test_one_part_of_a_split_model_means_all(resolve: Resolve, hub: FakeHub, part: str) -> None:
    """Any part may be named: all are found in one request, in order, and the first is what opens the model."""
    commit = hub.add_repo("models", "org/name", QUANTS)
    found = await resolve(f"hf://org/name/{part}")
    assert hub.calls[1:] == [f"POST /api/models/org/name/paths-info/{commit}"]
    assert tuple(file.path for file in found.files) == SPLIT
    assert found.entrypoint == SPLIT[0]


async def test_a_split_model_that_lacks_a_part_is_not_found(resolve: Resolve, hub: FakeHub) -> None:
    """Half a model is an error that names the missing part, not a shorter list."""
    hub.add_repo("models", "org/name", dict.fromkeys(SPLIT[:2], b""))
    with pytest.raises(ModelNotFoundError, match="big-BF16-00003-of-00003"):
        await resolve(f"hf://org/name/{SPLIT[0]}")


async def test_a_quantisation_is_picked_by_the_hub(resolve: Resolve, hub: FakeHub) -> None:
    """The manifest names the file; then it is a path like any other, at one commit."""
    commit = hub.add_repo("models", "org/name", QUANTS)
    found = await resolve("hf:org/name:q4_k_m")
    assert hub.calls == [
        "GET /v2/org/name/manifests/Q4_K_M",
        "GET /api/models/org/name/revision/main?expand=sha",
        f"POST /api/models/org/name/paths-info/{commit}",
    ]
    manifest = hub.requests[0].headers
    assert (manifest["User-Agent"], manifest["Accept"]) == ("llama-cpp", "application/json")
    assert [file.path for file in found.files] == [found.entrypoint] == ["tiny-Q4_K_M.gguf"]
    assert (found.revision, found.complete) == (commit, False)


async def test_a_split_quantisation_is_followed(resolve: Resolve, hub: FakeHub) -> None:
    """The manifest names the first part; the others are fetched with it, and so is a projector."""
    hub.add_repo("models", "org/name", QUANTS | {"mmproj-f16.gguf": b"eyes"})
    found = await resolve("hf:org/name:BF16")
    assert tuple(file.path for file in found.files) == (*SPLIT, "mmproj-f16.gguf")
    assert found.entrypoint == SPLIT[0]


async def test_the_tag_latest_is_what_the_hub_prefers(resolve: Resolve, hub: FakeHub) -> None:
    """Without a quantisation in mind the Hub chooses."""
    hub.add_repo("models", "org/name", QUANTS)
    assert (await resolve("hf:org/name:latest")).entrypoint == "tiny-Q4_K_M.gguf"


async def test_a_quantisation_that_is_not_there_is_answered_with_those_that_are(resolve: Resolve, hub: FakeHub) -> None:
    """The error lists the repository's GGUF files, at the price of one tree."""
    hub.add_repo("models", "org/name", QUANTS)
    with pytest.raises(ModelNotFoundError, match=r"no such quantisation.*tiny-Q4_K_M\.gguf, tiny-Q8_0\.gguf") as caught:
        await resolve("hf:org/name:Q2_K")
    assert "README" not in str(caught.value)
    assert hub.calls == ["GET /v2/org/name/manifests/Q2_K", f"GET /api/models/org/name/tree/main?{TREE}"]
    hub.add_repo("models", "org/plain", FILES)
    with pytest.raises(ModelNotFoundError, match="no GGUF files at all"):
        await resolve("hf:org/plain:Q4_K_M")
    hub.add_repo("models", "org/many", {f"m-{number}.gguf": b"" for number in range(30)})
    with pytest.raises(ModelNotFoundError, match="and 10 more"):
        await resolve("hf:org/many:Q4_K_M")


@pytest.mark.parametrize(
    ("place", "page"),
    [
        ("models/gpt2", "gpt2"),
        ("models/org/name", "org/name"),
        ("datasets/org/data", "datasets/org/data"),
        ("datasets/squad", "datasets/squad"),
        ("spaces/org/app", "spaces/org/app"),
    ],
)
async def test_each_kind_of_repository_has_its_own_addresses(
    client: Client, resolve: Resolve, hub: FakeHub, place: str, page: str
) -> None:
    """Datasets, spaces and ids of one word are asked, and fetched, where the Hub keeps them."""
    kind, _, repo_id = place.partition("/")
    commit = hub.add_repo(kind, repo_id, {"a.bin": b"x" * 10})
    found = await resolve(f"hf://{place}")
    assert hub.calls[0] == f"GET /api/{place}/revision/main?expand=sha"
    assert urls(found) == [f"{hub.endpoint}/{page}/resolve/{commit}/a.bin"]
    async with client.request("GET", urls(found)[0]) as answer:
        assert await answer.read(100) == b"x" * 10


@pytest.mark.parametrize("ref", ["v1.0", "feature/x", "refs/pr/1", "refs/convert/parquet"])
async def test_a_ref_is_one_segment_of_the_request(resolve: Resolve, hub: FakeHub, ref: str) -> None:
    """A slash in a branch, tag or pull request is encoded; from then on only the commit is used."""
    hub.add_repo("models", "org/name", FILES)
    commit = hub.add_commit("models", "org/name", {"only": b"here"}, branch=ref)
    uri = f"hf://org/name@{ref if ref.startswith('refs/') else ref.replace('/', '%2F')}"
    found = await resolve(uri)
    assert hub.calls == [
        f"GET /api/models/org/name/revision/{ref.replace('/', '%2F')}?expand=sha",
        f"GET /api/models/org/name/tree/{commit}?{TREE}",
    ]
    assert (found.revision, [file.path for file in found.files]) == (commit, ["only"])


async def test_a_renamed_repository_is_found_under_its_old_name(client: Client, resolve: Resolve, hub: FakeHub) -> None:
    """Redirects inside the Hub are followed, for metadata and for files."""
    hub.add_repo("models", "org/old", FILES)
    hub.rename("models", "org/old", "org/new")
    found = await resolve("hf://org/old/model.safetensors")
    assert [call.partition(" ")[0] for call in hub.calls] == ["GET", "GET", "POST", "POST"]
    async with client.request("GET", urls(found)[0]) as answer:
        assert await answer.read(100) == b"weights"


async def test_an_endpoint_may_have_a_path(resolve: Resolve, hub: FakeHub) -> None:
    """Addresses are made by putting together, so a mirror below a path, or with a last slash, works."""
    commit = hub.add_repo("models", "org/name", FILES)
    found = await resolve("hf://org/name/config.json", hf_endpoint=f"{hub.endpoint}/")
    assert urls(found) == [f"{hub.endpoint}/org/name/resolve/{commit}/config.json"]
    hub.clear()
    hub.answer_with("/mirror/hf/api/models/org/name/revision/main", 418)
    with pytest.raises(ResponseError):
        await resolve("hf://org/name", hf_endpoint=f"{hub.endpoint}/mirror/hf")
    assert hub.calls == ["GET /mirror/hf/api/models/org/name/revision/main?expand=sha"]


async def test_what_is_not_wanted_is_named_all_the_same(resolve: Resolve, hub: FakeHub) -> None:
    """A filtered pull learns the whole listing, so that a lookup later knows what is missing."""
    hub.add_repo("models", "org/name", FILES)
    some = await resolve("hf://org/name", wanted=lambda path: path.endswith(".json"))
    assert (len(some.files), some.complete) == (len(FILES), True)
    assert [file.path for file in choose(some, lambda path: path.endswith(".json"))] == ["config.json"]


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a\\b", "CON.txt", "a/./b", "x\x1b[2J", "con/x", "end."])
async def test_a_bad_name_is_refused_unless_it_is_excluded(resolve: Resolve, hub: FakeHub, name: str) -> None:
    """A name that may not become a path stops the pull, shown harmless; left out, the rest is had."""
    hub.add_repo("models", "org/name", {name: b"", "good.json": b"{}"})
    with pytest.raises(PolicyError, match="--exclude") as caught:
        await resolve("hf://org/name")
    assert str(caught.value).isprintable()
    rest = await resolve("hf://org/name", wanted=lambda path: path != name)
    assert ([file.path for file in rest.files], rest.complete) == (["good.json"], False)
    one = await resolve("hf://org/name/good.json")
    assert [file.path for file in one.files] == ["good.json"]


async def test_names_that_are_one_on_some_systems_are_refused(resolve: Resolve, hub: FakeHub) -> None:
    """Two names that a file system may fold into one are never both taken."""
    hub.add_repo("models", "org/name", {"Model.bin": b"1", "model.bin": b"2"})
    with pytest.raises(PolicyError, match="on some systems"):
        await resolve("hf://org/name")
    rest = await resolve("hf://org/name", wanted=lambda path: path == "Model.bin")
    assert ([file.path for file in rest.files], rest.complete) == (["Model.bin"], False)


async def test_a_pinned_file_may_travel_in_the_clear_and_no_other(resolve: Resolve, hub: FakeHub) -> None:
    """The allowance for plain http belongs to the file whose bytes the user named."""
    pin = f"#sha256={hashlib.sha256(b'one').hexdigest()}"
    hub.add_repo("models", "org/name", QUANTS)
    found = await resolve(f"hf://org/name/{SPLIT[0]}{pin}")
    assert [file.location.allow_http for file in found.files if isinstance(file.location, HTTPLocation)] == [
        True,
        False,
        False,
    ]


@pytest.fixture
def mirror() -> Iterator[Origin]:
    with Origin() as server:
        yield server


async def test_a_mirror_without_promises_still_resolves(resolve: Resolve, mirror: Origin) -> None:
    """Digests that are missing or none are no promise; sizes and addresses are enough."""
    mirror.add("/api/models/org/name/revision/main", b'{"sha": "%s"}' % COMMIT.encode())
    mirror.add(
        f"/api/models/org/name/tree/{COMMIT}",
        b'[{"type": "file", "path": "a.bin", "oid": "not a digest", "size": 3},'
        b' {"type": "file", "path": "b.bin", "size": 3, "lfs": {"oid": "ABC"}}, {"type": "file", "path": "c.bin"}]',
    )
    found = await resolve("hf://org/name", hf_endpoint=mirror.url)
    assert [(file.path, file.size_bytes, file.digests) for file in found.files] == [
        ("a.bin", 3, ()),
        ("b.bin", 3, ()),
        ("c.bin", None, ()),
    ]


async def test_a_folder_holds_only_what_lies_in_it(resolve: Resolve, mirror: Origin) -> None:
    """A folder whose name another one begins with does not make the pull larger."""
    mirror.add(f"/api/models/org/name/paths-info/{COMMIT}", b'[{"type": "directory", "path": "onnx"}]')
    mirror.add(
        f"/api/models/org/name/tree/{COMMIT}",
        b'[{"type": "file", "path": "onnx/m", "size": 3}, {"type": "file", "path": "onnx2/m", "size": 3}]',
    )
    found = await resolve(f"hf://org/name@{COMMIT}/onnx", hf_endpoint=mirror.url)
    assert [file.path for file in choose(found, None)] == ["onnx/m"]


async def test_nothing_is_written_and_nobody_else_is_asked(
    resolve: Resolve, hub: FakeHub, hf_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tree cache, no list of agents, no telemetry: the user's home of huggingface_hub stays as it was."""
    from huggingface_hub import constants  # noqa: PLC0415

    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)  # where huggingface_hub itself would ask
    monkeypatch.setenv("AI_AGENT", "some-agent")
    hub.add_repo("models", "org/name", QUANTS)
    for uri in ("hf://org/name", f"hf://org/name/{SPLIT[0]}", "hf:org/name:Q8_0"):
        await resolve(uri)
    assert len(hub.requests) == 2 + 2 + 3
    assert {request.headers["User-Agent"].split("/")[0] for request in hub.requests} == {"modelcask", "llama-cpp"}
    assert not any(os.scandir(hf_home))
