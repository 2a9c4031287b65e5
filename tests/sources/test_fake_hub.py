"""The fake Hub is held true to a real client: huggingface_hub downloads from it, unchanged."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub import FakeHub

FILES = {
    "config.json": b'{"a": 1}',
    "README.md": b"# hello\n",
    "model.safetensors": bytes(range(256)) * 400,
    "sub/folder/with space.txt": b"x" * 5000,
    "empty.txt": b"",
}
TOKEN = "hf_" + "a" * 34


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)


def api(hub: FakeHub, token: str | bool = False) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def read(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("small_files", ["redirect", "direct"])
@pytest.mark.parametrize(("kind", "repo_id"), [("models", "org/name"), ("datasets", "org/name"), ("models", "gpt2")])
def test_a_snapshot_is_the_repository(tmp_path: Path, kind: str, repo_id: str, small_files: str) -> None:
    """snapshot_download gets every byte, through pages of trees, redirects and the CDN."""
    with FakeHub(page_size=2, small_files=small_files) as hub:
        commit = hub.add_repo(kind, repo_id, FILES)
        options: dict[str, Any] = {"repo_type": kind[:-1], "cache_dir": tmp_path}
        folder = api(hub).snapshot_download(repo_id, **options)
        assert read(folder) == FILES
        assert Path(folder).name == commit
        assert hub.bytes_served == sum(map(len, FILES.values()))
        at_cdn = [request for request in hub.requests if request.origin == "cdn"]
        assert len(at_cdn) == 1
        assert len([call for call in hub.calls if "/tree/" in call]) == 4


def test_one_file_is_downloaded(tmp_path: Path, hub: FakeHub) -> None:
    """hf_hub_download of a small and of a large file gives their bytes, named in its cache by the Hub's ETags."""
    hub.add_repo("models", "org/name", FILES)
    for name, content in FILES.items():
        path = Path(api(hub).hf_hub_download("org/name", name, cache_dir=tmp_path))
        assert path.read_bytes() == content
    blobs = {path.name for path in (tmp_path / "models--org--name" / "blobs").iterdir()}
    assert hashlib.sha256(FILES["model.safetensors"]).hexdigest() in blobs
    assert hashlib.sha1(b"blob 8\0" + FILES["config.json"]).hexdigest() in blobs


def test_branches_tags_and_pull_requests_are_revisions(tmp_path: Path, hub: FakeHub) -> None:
    """Each kind of ref leads to its own commit, and list_repo_refs knows them."""
    first = hub.add_repo("models", "org/name", {"v": b"1"})
    hub.add_tag("models", "org/name", "v1", first)
    second = hub.add_commit("models", "org/name", {"v": b"2"})
    third = hub.add_commit("models", "org/name", {"v": b"3"}, branch="refs/pr/1")
    for revision, commit in [
        ("v1", first),
        ("main", second),
        ("refs/pr/1", third),
        (first, first),
        (second[:9], second),
    ]:
        assert api(hub).repo_info("org/name", revision=revision).sha == commit
    refs = api(hub).list_repo_refs("org/name")
    assert [(ref.name, ref.target_commit) for ref in (*refs.branches, *refs.tags)] == [("main", second), ("v1", first)]
    path = api(hub).hf_hub_download("org/name", "v", revision="refs/pr/1", cache_dir=tmp_path)
    assert Path(path).read_bytes() == b"3"


def test_metadata_reads_like_the_hubs(hub: FakeHub) -> None:
    """Trees, paths-info and repository information carry sizes, git names and LFS names."""
    commit = hub.add_repo("models", "org/name", FILES)
    large = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    tree: dict[str, Any] = {entry.path: entry for entry in api(hub).list_repo_tree("org/name", recursive=True)}
    assert sorted(tree) == sorted([*FILES, "sub", "sub/folder"])
    assert tree["model.safetensors"].lfs.sha256 == large
    assert tree["config.json"].lfs is None
    assert [it.path for it in api(hub).list_repo_tree("org/name", "sub")] == ["sub/folder"]
    info: list[Any] = api(hub).get_paths_info("org/name", ["config.json", "sub", "nowhere"], revision=commit)
    assert [entry.path for entry in info] == ["config.json", "sub"]
    assert info[0].blob_id == hashlib.sha1(b"blob 8\0" + FILES["config.json"]).hexdigest()
    siblings: Any = api(hub).model_info("org/name", files_metadata=True).siblings
    assert {it.rfilename: it.size for it in siblings} == {name: len(content) for name, content in FILES.items()}


def test_refusals_are_the_hubs(tmp_path: Path, hub: FakeHub) -> None:
    """What is missing, private, gated or asked with a bad token raises the client's own error for it."""
    hub.add_repo("models", "org/name", FILES)
    hub.add_repo("models", "org/private", FILES)
    hub.make_private("models", "org/private", token=TOKEN)
    hub.add_repo("models", "org/gated", FILES)
    hub.gate("models", "org/gated", token=TOKEN)
    hub.add_token("hf_stranger")
    refusals: list[tuple[str | bool, str, str, str, type[Exception]]] = [
        (False, "org/nothing", "main", "config.json", RepositoryNotFoundError),
        ("hf_stranger", "org/nothing", "main", "config.json", RepositoryNotFoundError),
        (False, "org/private", "main", "config.json", RepositoryNotFoundError),
        ("hf_stranger", "org/private", "main", "config.json", RepositoryNotFoundError),
        (False, "org/gated", "main", "config.json", GatedRepoError),
        ("hf_stranger", "org/gated", "main", "config.json", GatedRepoError),
        (False, "org/name", "nowhere", "config.json", RevisionNotFoundError),
        (False, "org/name", "main", "nowhere", EntryNotFoundError),
        ("hf_unknown", "org/name", "main", "config.json", HfHubHTTPError),
    ]
    for token, repo_id, revision, name, error in refusals:
        with pytest.raises(error):
            api(hub, token).hf_hub_download(repo_id, name, revision=revision, cache_dir=tmp_path)
    for repo_id in ("org/private", "org/gated"):
        assert Path(api(hub, TOKEN).hf_hub_download(repo_id, "config.json", cache_dir=tmp_path)).read_bytes()
    assert hub.secrets_at_cdn() == []


def test_a_token_that_reaches_the_cdn_is_recorded(tmp_path: Path, hub: FakeHub) -> None:
    """The real client keeps its token from the CDN; a client that does not is refused there and seen in the log."""
    hub.add_repo("models", "org/name", FILES)
    hub.add_token(TOKEN)
    path = api(hub, TOKEN).hf_hub_download("org/name", "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == FILES["model.safetensors"]
    assert hub.secrets_at_cdn() == []
    from huggingface_hub import get_session  # noqa: PLC0415 - the library's own transport, used badly

    location = next(request for request in hub.requests if request.origin == "cdn").target
    leaked = get_session().get(hub.cdn + location, headers={"Authorization": f"Bearer {TOKEN}"})
    assert leaked.status_code == 400
    assert get_session().get(hub.cdn + location.replace("signed-", "")).status_code == 403
    assert hub.secrets_at_cdn() == [f"Bearer {TOKEN}"]


def test_a_renamed_repository_is_found(tmp_path: Path, hub: FakeHub) -> None:
    """The old name leads to the new one by relative redirects."""
    hub.add_repo("models", "org/old", FILES)
    hub.rename("models", "org/old", "org/new")
    assert read(api(hub).snapshot_download("org/old", cache_dir=tmp_path)) == FILES
    assert any("/org/new/" in call for call in hub.calls)


def test_ranges_are_served_where_the_bytes_are(hub: FakeHub) -> None:
    """HfFileSystem reads the middle of a large file, and only those bytes are sent."""
    from huggingface_hub import HfFileSystem  # noqa: PLC0415 - it takes a second to import

    hub.add_repo("models", "org/name", FILES)
    with HfFileSystem(endpoint=hub.endpoint, token=False).open("org/name/model.safetensors", block_size=1000) as file:
        file.seek(500)
        assert file.read(100) == FILES["model.safetensors"][500:600]
    assert hub.bytes_served < 5000


def test_a_script_answers_in_place_of_the_truth(hub: FakeHub) -> None:
    """answer_with holds for its number of requests, and the log has them all."""
    commit = hub.add_repo("models", "org/name", FILES)
    hub.answer_with("/api/models/org/name", 503, {"Retry-After": "1"}, times=2)
    for _ in range(2):
        with pytest.raises(HfHubHTTPError):
            api(hub).repo_info("org/name")
    assert api(hub).repo_info("org/name").sha == commit
    assert hub.calls == ["GET /api/models/org/name"] * 3
    hub.clear()
    assert (hub.calls, hub.bytes_served) == ([], 0)
