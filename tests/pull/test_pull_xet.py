"""Files that a Hub has in Xet storage and does not serve by plain HTTP: read by the real hf_xet, on loopback."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import modelcask
from hub import FakeHub
from modelcask import DigestMismatchError, PolicyError, ResponseError, TrustLevel
from modelcask.fetch import xet_child
from modelcask.sources import huggingface
from modelcask.types import XetLocation
from xet_store import Stored, XetStore, store

needs_hf_xet = pytest.mark.skipif(importlib.util.find_spec("hf_xet") is None, reason="hf_xet is not installed")

URI = "hf://acme/huge/model.gguf"
TOKEN = "hf_secret"
CONTENT = random.Random(7).randbytes(12 << 20)


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return store(CONTENT, tmp_path_factory.mktemp("xet") / "storage")


@pytest.fixture
def storage(stored: Stored) -> Iterator[XetStore]:
    with XetStore(stored) as storage:
        yield storage


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Return a Hub with one file that is too large for plain HTTP, and lets in whoever has TOKEN only."""
    monkeypatch.setattr(huggingface, "PLAIN_HTTP_BYTES", 1 << 20)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with FakeHub() as hub:
        hub.add_repo("models", "acme/huge", {"model.gguf": CONTENT, "small.bin": b"small" * 1000})
        hub.put_in_xet("models", "acme/huge", "model.gguf", "ab" * 32)
        hub.put_in_xet("models", "acme/huge", "small.bin", "cd" * 32)
        hub.gate("models", "acme/huge", token=TOKEN)
        yield hub


@pytest.fixture
def in_xet(hub: FakeHub, storage: XetStore) -> FakeHub:
    """Return the Hub with its file in the storage."""
    hub.put_in_xet("models", "acme/huge", "model.gguf", storage.stored.hash)
    hub.xet_endpoint = storage.endpoint
    return hub


@pytest.fixture
def cache(hub: FakeHub) -> Iterator[modelcask.ModelCache]:
    with modelcask.ModelCache(settings=modelcask.load_settings(hf_endpoint=hub.endpoint)) as cache:
        yield cache


@pytest.fixture
def without_hf_xet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hf_xet", None)


def plain_requests(hub: FakeHub) -> list[str]:
    return [str(request) for request in hub.requests if "/resolve/" in request.target or request.origin == "cdn"]


@needs_hf_xet
def test_a_file_too_large_for_plain_http_comes_over_xet(cache: modelcask.ModelCache, in_xet: FakeHub):
    """The bytes are right and proved as any others; one token is asked for, and nothing by plain HTTP."""
    [snapshot] = cache.pull(URI)

    assert snapshot.path.read_bytes() == CONTENT
    assert snapshot.entries[0].trust is TrustLevel.UPSTREAM_SHA256
    assert snapshot.bytes_fetched == len(CONTENT)
    assert plain_requests(in_xet) == []
    assert in_xet.xet_tokens == ["xet-1"]


@needs_hf_xet
@pytest.mark.usefixtures("in_xet")
def test_each_token_goes_to_its_own_place(cache: modelcask.ModelCache, storage: XetStore):
    """The user's token never comes to the storage, which gets its own for questions only, and is told nothing."""
    cache.pull(URI)

    asked = [request for request in storage.requests if "/reconstructions/" in request.path]
    fetched = [request for request in storage.requests if request.path.startswith("/xorbs/")]
    assert {request.authorization for request in asked} == {"Bearer xet-1"}
    assert {request.authorization for request in fetched} == {None}
    assert {request.method for request in storage.requests} == {"GET"}, "telemetry is a POST"
    assert len(storage.requests) == len(asked) + len(fetched)


@needs_hf_xet
@pytest.mark.usefixtures("in_xet")
def test_hf_xet_leaves_nothing_behind(
    cache: modelcask.ModelCache, tmp_path: Path, cask: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither logs nor a cache appear in the home folder or among temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    [snapshot] = cache.pull(URI)

    assert snapshot.bytes_fetched == len(CONTENT)
    assert list(temporary.iterdir()) == []
    assert [path for path in tmp_path.rglob("*xet*") if cask not in path.parents] == []


@needs_hf_xet
def test_wrong_bytes_from_the_storage_are_refused(cache: modelcask.ModelCache, in_xet: FakeHub, storage: XetStore):
    """hf_xet passes on a damaged content without a word; it is not published, and the next pull has the right one."""
    storage.damage = True
    with pytest.raises(DigestMismatchError):
        cache.pull(URI)
    assert cache.lookup(URI) is None

    storage.damage = False
    [snapshot] = cache.pull(URI)
    assert snapshot.path.read_bytes() == CONTENT
    assert in_xet.xet_tokens == ["xet-1", "xet-2"]


@needs_hf_xet
async def test_a_cancelled_read_ends_at_once_and_is_continued(in_xet: FakeHub, storage: XetStore):
    """A storage that has fallen silent holds up nobody; what has come is not asked for again."""
    storage.pause_after = len(CONTENT) // 2
    settings = modelcask.load_settings(hf_endpoint=in_xet.endpoint)
    async with modelcask.ModelCache(settings=settings) as cache:
        arrived = asyncio.Event()

        def see(progress: modelcask.Progress) -> None:
            if progress.bytes_done:
                arrived.set()

        pull = asyncio.create_task(cache.pull_async(URI, progress=see))
        await arrived.wait()
        await asyncio.to_thread(storage.paused.wait)
        pull.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pull
        assert running_readers() == []

        storage.resume()
        [snapshot] = await cache.pull_async(URI)
    assert snapshot.path.read_bytes() == CONTENT
    assert snapshot.bytes_reused > 0
    assert snapshot.bytes_fetched == len(CONTENT) - snapshot.bytes_reused


def running_readers() -> list[str]:
    """Return the command lines of hf_xet's processes; nothing where there is no ``/proc``."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().decode(errors="replace")
            parent = process.with_name("stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if "xet_child" in line and parent == str(os.getpid()):
            lines.append(line)
    return lines


@needs_hf_xet
def test_a_reader_ends_with_who_wants_its_bytes(stored: Stored, storage: XetStore):
    """When the process that started it is gone, a read that waits for the network ends."""
    storage.pause_after = 0
    job = {
        "import_from": sys.path,
        "endpoint": storage.endpoint,
        "token": "xet-1",
        "expires_at": 4102444800,
        "hash": stored.hash,
        "size": len(CONTENT),
        "start": 0,
        "end": len(CONTENT),
    }
    with subprocess.Popen([sys.executable, "-P", xet_child.__file__], stdin=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        reader.stdin.write(json.dumps(job).encode() + b"\n")
        reader.stdin.flush()
        try:
            assert storage.paused.wait(30)
            assert reader.poll() is None
            reader.stdin.close()
            assert reader.wait(30) == 1
        finally:
            reader.kill()


@needs_hf_xet
def test_a_token_that_runs_out_is_replaced(cache: modelcask.ModelCache, in_xet: FakeHub, storage: XetStore):
    """The read goes on where it ended, with another token of the Hub's."""
    storage.expire_after = len(CONTENT) // 2
    [snapshot] = cache.pull(URI)

    assert snapshot.path.read_bytes() == CONTENT
    assert in_xet.xet_tokens[:2] == ["xet-1", "xet-2"]


@needs_hf_xet
def test_a_storage_that_gives_nothing_fails_after_the_retries(in_xet: FakeHub, storage: XetStore):
    """hf_xet ends a refused read as if it were complete; that is a failed transfer here, and not an empty file."""
    storage.expire_after = 0
    settings = modelcask.load_settings(hf_endpoint=in_xet.endpoint, retries=0)
    with (
        modelcask.ModelCache(settings=settings) as cache,
        pytest.raises(modelcask.ConnectionInterruptedError) as caught,
    ):
        cache.pull(URI)
    assert f"{len(CONTENT):,} bytes early" in str(caught.value)
    assert "Signature" not in str(caught.value)


@pytest.mark.parametrize("address", ["local://{folder}", "http://storage.example", "https://me:pw@storage.example"])
def test_a_storage_that_is_no_https_server_is_refused(
    cache: modelcask.ModelCache, hub: FakeHub, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A Hub cannot have hf_xet open a folder of this machine, nor bytes come in the clear from another one."""
    monkeypatch.setattr("modelcask.fetch.xet_reader.XetReader.is_installed", True)
    hub.xet_endpoint = address.format(folder=tmp_path / "foreign")
    with pytest.raises(PolicyError):
        cache.pull(URI)
    assert not (tmp_path / "foreign").exists()


@pytest.mark.usefixtures("without_hf_xet")
def test_without_hf_xet_plain_http_is_tried(cache: modelcask.ModelCache, hub: FakeHub):
    """A Hub that serves the file by plain HTTP all the same is not refused."""
    hub.xet_endpoint = "https://storage.example"
    [snapshot] = cache.pull(URI)
    assert snapshot.path.read_bytes() == CONTENT
    assert hub.xet_tokens == []


@pytest.mark.usefixtures("without_hf_xet")
def test_a_hub_that_refuses_plain_http_without_hf_xet_says_what_to_install(cache: modelcask.ModelCache, hub: FakeHub):
    """The error names the extra."""
    hub.answer_with("/acme/huge/resolve/", 400, times=100)
    with pytest.raises(ResponseError, match=r"answered 400.*; .*pip install 'modelcask\[xet\]'$") as caught:
        cache.pull(URI)
    assert not caught.value.retryable


def test_a_hub_without_tokens_for_xet_is_asked_by_plain_http(
    cache: modelcask.ModelCache, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
):
    """A mirror that passes on the Hub's lists, but knows of no Xet, serves the file."""
    monkeypatch.setattr("modelcask.fetch.xet_reader.XetReader.is_installed", True)
    [snapshot] = cache.pull(URI)
    assert snapshot.path.read_bytes() == CONTENT
    assert any("/xet-read-token/" in call for call in hub.calls)


def test_files_that_plain_http_serves_come_so(cache: modelcask.ModelCache, hub: FakeHub):
    """That a file is in Xet storage as well changes nothing for one that is small enough."""
    hub.xet_endpoint = "https://storage.example"
    [snapshot] = cache.pull("hf://acme/huge/small.bin")
    assert snapshot.path.read_bytes() == b"small" * 1000
    assert hub.xet_tokens == []


def test_the_librarys_own_switch_turns_xet_off(
    cache: modelcask.ModelCache, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
):
    """HF_HUB_DISABLE_XET is honoured."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub.xet_endpoint = "https://storage.example"
    [snapshot] = cache.pull(URI)
    assert snapshot.path.read_bytes() == CONTENT
    assert hub.xet_tokens == []


def test_mirrors_are_asked_by_plain_http(hub: FakeHub):
    """What the user has named a mirror for is not read from the storage."""
    hub.xet_endpoint = "https://storage.example"
    with FakeHub() as mirror:
        mirror.add_repo("models", "acme/huge", {"model.gguf": CONTENT, "small.bin": b"small" * 1000})
        settings = modelcask.load_settings(hf_endpoint=hub.endpoint, mirrors=mirror.endpoint)
        with modelcask.ModelCache(settings=settings) as cache:
            [snapshot] = cache.pull(URI)
        assert any("/resolve/" in call for call in mirror.calls)
    assert snapshot.path.read_bytes() == CONTENT
    assert hub.xet_tokens == []


def test_no_secret_is_in_a_location():
    """Neither the token nor the address that it is sent to can slip into a log."""
    access = huggingface.HTTPLocation("https://hub/secret", modelcask.types.Credential("https://hub", (("A", TOKEN),)))
    shown = repr(XetLocation("ab" * 32, access))
    assert TOKEN not in shown
    assert "secret" not in shown
