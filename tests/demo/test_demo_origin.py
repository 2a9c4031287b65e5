"""The demo's origin keeps to HTTP where a download depends on it, and to the Hub's protocol for the real client."""

from __future__ import annotations

import hashlib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

from modelcask_cli.demo.hub import HubRepo
from modelcask_cli.demo.origin import Origin

DATA = bytes(range(256)) * 8192  # 2 MiB: large enough for the Hub to name its SHA-256
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'
REPO = HubRepo("acme/tiny", {"config.json": b"{}", "weights/model.bin": DATA, "empty.txt": b""})


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin({"model.bin": DATA}, REPO) as origin:
        yield origin


def fetch(origin: Origin, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(origin.url + path, headers=sent, method=method)
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_a_file_comes_whole_with_a_strong_etag_and_its_length(origin: Origin) -> None:
    """A plain GET brings the bytes, their SHA-256 as ETag, and the right count."""
    status, headers, body = fetch(origin, "/files/model.bin")
    assert (status, body) == (200, DATA)
    assert headers["ETag"] == ETAG
    assert headers["Content-Length"] == str(len(DATA))
    assert headers["Accept-Ranges"] == "bytes"
    assert (origin.requests, origin.bytes_sent) == (1, len(DATA))


def test_a_head_tells_the_length_and_sends_nothing(origin: Origin) -> None:
    """HEAD answers as GET does, and no byte of the body counts as served."""
    status, headers, body = fetch(origin, "/files/model.bin", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(DATA)), b"")
    assert origin.bytes_sent == 0


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=1000-", 1000, len(DATA)), ("bytes=-7", len(DATA) - 7, len(DATA)),
     ("bytes=5-99999999", 5, len(DATA))],
)  # fmt: skip
def test_a_range_brings_just_these_bytes(origin: Origin, wanted: str, start: int, end: int) -> None:
    """Every form of a single range is answered 206 with the bytes and their place."""
    status, headers, body = fetch(origin, "/files/model.bin", Range=wanted, If_Range=ETAG)
    assert (status, body) == (206, DATA[start:end])
    assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(DATA)}"


def test_a_range_behind_the_end_is_refused_with_the_size(origin: Origin) -> None:
    """416 says how large the file is, so that the client can resolve again."""
    status, headers, _ = fetch(origin, "/files/model.bin", Range=f"bytes={len(DATA)}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")


def test_another_etag_in_if_range_brings_the_whole_file(origin: Origin) -> None:
    """A client that began with other bytes gets 200 and all bytes, never a splice."""
    status, _, body = fetch(origin, "/files/model.bin", Range="bytes=9-", If_Range='"other"')
    assert (status, body) == (200, DATA)


def test_the_connection_is_cut_once_and_exactly_where_it_was_ordered(origin: Origin) -> None:
    """The first body ends early with its length promised whole; the next one is not cut."""
    origin.cut_once("model.bin", 100_000)
    with pytest.raises(http.client.IncompleteRead) as caught:
        fetch(origin, "/files/model.bin")
    assert caught.value.partial == DATA[:100_000]
    assert fetch(origin, "/files/model.bin", Range="bytes=100000-")[2] == DATA[100_000:]
    assert origin.bytes_sent == len(DATA)


def test_the_mirror_differs_in_one_byte(origin: Origin) -> None:
    """The mirror's file has the right length and exactly one wrong byte."""
    _, headers, body = fetch(origin, "/mirror/model.bin")
    assert len(body) == len(DATA)
    assert [i for i, (right, sent) in enumerate(zip(DATA, body, strict=True)) if right != sent] == [len(DATA) // 2]
    assert headers["ETag"] != ETAG


def test_what_is_not_there_is_not_found(origin: Origin) -> None:
    """Unknown names are 404 everywhere, with the Hub's error codes on the Hub's paths."""
    assert fetch(origin, "/files/other.bin")[0] == fetch(origin, "/mirror/other.bin")[0] == 404
    assert fetch(origin, "/api/models/acme/other")[0] == 404
    status, headers, _ = fetch(origin, "/acme/tiny/resolve/main/other.bin")
    assert (status, headers["X-Error-Code"]) == (404, "EntryNotFound")
    status, headers, _ = fetch(origin, f"/acme/tiny/resolve/{'0' * 40}/config.json")
    assert (status, headers["X-Error-Code"]) == (404, "RevisionNotFound")


def test_a_token_is_refused(origin: Origin) -> None:
    """A request that carries a credential fails, so that a leak cannot pass unseen."""
    assert fetch(origin, "/files/model.bin", Authorization="Bearer hf_x")[0] == 400


def test_the_thread_and_the_port_are_gone_after_the_block() -> None:
    """Nothing is left running, even when the block ends with an error."""
    origin = Origin({}, REPO)

    def fail() -> None:
        with origin:
            assert any(thread.name == "demo origin" for thread in threading.enumerate())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any(thread.name == "demo origin" for thread in threading.enumerate())
    with pytest.raises(urllib.error.URLError):
        fetch(origin, "/files/model.bin")


def test_the_real_hub_client_downloads_the_repository(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """huggingface_hub takes the origin for a Hub: snapshot_download brings all files under the right names."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = Path(
        huggingface_hub.snapshot_download("acme/tiny", endpoint=origin.hub_url, cache_dir=tmp_path / "hub", token=False)
    )
    assert folder.name == REPO.commit
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == {
        "config.json": b"{}",
        "weights/model.bin": DATA,
        "empty.txt": b"",
    }
    assert (folder / "weights/model.bin").resolve().name == hashlib.sha256(DATA).hexdigest()
    assert (folder / "config.json").resolve().name == hashlib.sha1(b"blob 2\0{}").hexdigest()


def test_the_real_hub_client_downloads_one_file_and_understands_the_errors(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hf_hub_download brings one file; a wrong path and a wrong revision become the client's own errors."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def download(name: str, revision: str | None = None) -> Path:
        path = huggingface_hub.hf_hub_download(
            "acme/tiny", name, revision=revision, endpoint=origin.hub_url, cache_dir=tmp_path / "hub", token=False
        )
        return Path(path)

    assert download("weights/model.bin").read_bytes() == DATA
    with pytest.raises(EntryNotFoundError):
        download("other.bin")
    with pytest.raises(RevisionNotFoundError):
        download("config.json", "v9")


def test_the_real_hub_client_reads_the_tree_and_the_paths(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree and paths-info give sizes, git names, and the SHA-256 of large files only."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    api = huggingface_hub.HfApi(endpoint=origin.hub_url, token=False)
    assert api.model_info("acme/tiny").sha == REPO.commit
    tree = {entry.path: entry for entry in api.list_repo_tree("acme/tiny", recursive=True)}
    assert set(tree) == set(REPO.files)
    [large, small] = api.get_paths_info("acme/tiny", ["weights/model.bin", "config.json", "other.bin"])
    for entry in (large, tree["weights/model.bin"]):
        assert isinstance(entry, huggingface_hub.RepoFile)
        assert entry.lfs is not None
        assert (entry.size, entry.lfs.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert isinstance(small, huggingface_hub.RepoFile)
    assert (small.size, small.lfs) == (2, None)
    assert small.blob_id == hashlib.sha1(b"blob 2\0{}").hexdigest()
