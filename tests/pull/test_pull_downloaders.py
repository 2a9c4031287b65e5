"""Downloaders: a model on its way as an object."""

from __future__ import annotations

import asyncio
import hashlib
import os
from itertools import pairwise
from pathlib import Path

import pytest

import modelcask
from behaviours import Gate, HoldAfter, Normal, throttle
from downloads import CONTENT, When, pinned, until
from hub import FakeHub
from modelcask import DownloadState, Phase
from origin import Origin


def test_a_downloader_tells_how_it_stands_at_every_time(hub: FakeHub) -> None:
    """Nothing is known before; sizes after preparing; bytes meanwhile; the path in the end."""
    files = {"config.json": b"{}", "model.safetensors": CONTENT}
    hub.add_repo("models", "acme/tiny", files)
    total = sum(map(len, files.values()))
    seen: list[tuple[DownloadState, int | None, int, int | None, Path | None]] = []
    downloader = modelcask.create_model_downloader(
        "hf://acme/tiny",
        on_progress=lambda _: seen.append(
            (
                downloader.state,
                downloader.total_size,
                downloader.downloaded_size,
                downloader.total_files,
                downloader.entrypoint_path,
            )
        ),
    )
    assert (downloader.state, downloader.total_size, downloader.total_files) == (DownloadState.NEW, None, None)
    assert (downloader.downloaded_size, downloader.files_info, downloader.entrypoint_path) == (0, (), None)
    assert hub.requests == []

    async def main() -> Path:
        await downloader.prepare()
        assert (downloader.state, downloader.total_size, downloader.total_files) == (DownloadState.NEW, total, 2)
        assert (downloader.downloaded_size, downloader.entrypoint_path) == (0, None)
        info = {file.path: file for file in downloader.files_info}
        assert info["model.safetensors"].size_bytes == len(CONTENT)
        assert str(info["model.safetensors"].digest) == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
        assert info["config.json"].digest is None  # the Hub promises a weak one only
        return await downloader.download()

    path = asyncio.run(main())
    assert {name: (path / name).read_bytes() for name in files} == files
    assert {(state, size, count, entry) for state, size, _, count, entry in seen} == {
        (DownloadState.RUNNING, total, 2, None)
    }
    assert all(before[2] <= after[2] for before, after in pairwise(seen))
    assert (downloader.state, downloader.downloaded_size, downloader.total_size) == (DownloadState.DONE, total, total)
    assert downloader.entrypoint_path == path
    assert {file.phase for file in downloader.files_info} == {Phase.DONE}


def test_without_preparing_the_files_are_known_all_at_once(hub: FakeHub) -> None:
    """Whoever adds up never sees a part of the job as the whole, also where some files are here already."""
    files = {f"{n}.safetensors": CONTENT + bytes([n]) for n in range(5)}
    hub.add_repo("models", "acme/tiny", files)
    modelcask.pull("hf://acme/tiny/0.safetensors", "hf://acme/tiny/3.safetensors")
    seen: set[int | None] = set()
    downloader = modelcask.create_model_downloader("hf://acme/tiny")
    both = modelcask.combine_model_downloaders([downloader], on_progress=lambda now: seen.add(now.total_files))
    asyncio.run(both.download())
    assert seen <= {None, 5}
    assert {file.path for file in downloader.files_info if file.bytes_resumed == file.size_bytes} == {
        "0.safetensors",
        "3.safetensors",
    }


def test_a_second_download_costs_nothing(origin: Origin) -> None:
    """Nor does that of a downloader made later; the counts are there all the same."""
    url = origin.add("/m.gguf", CONTENT)
    downloader = modelcask.create_model_downloader(url)
    path = asyncio.run(downloader.download())
    asked = len(origin.requests)
    assert asyncio.run(downloader.download()) == path
    later = modelcask.create_model_downloader(url)
    assert asyncio.run(later.download()) == path == modelcask.lookup(url)
    assert len(origin.requests) == asked
    assert (later.downloaded_size, later.total_size, later.total_files) == (len(CONTENT), len(CONTENT), 1)


def test_what_is_prepared_and_here_already_counts_as_here(origin: Origin) -> None:
    """Preparing tells that nothing is to be downloaded."""
    url = pinned(origin.add("/m.gguf", CONTENT))
    modelcask.pull(url)
    downloader = modelcask.create_model_downloader(url)
    asyncio.run(downloader.prepare())
    assert (downloader.downloaded_size, downloader.total_size) == (len(CONTENT), len(CONTENT))
    assert [file.phase for file in downloader.files_info] == [Phase.REUSED]


def test_after_a_failure_it_goes_on_from_what_is_kept(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is told and kept; the second call fetches the rest, and what was told never goes back."""
    monkeypatch.setenv("MODELCASK_RETRIES", "0")
    monkeypatch.setenv("MODELCASK_STALL_TIMEOUT_S", "2")
    gate = Gate()
    url = origin.add("/m.gguf", CONTENT, behaviours=[HoldAfter(3_000_000, gate), Normal()])
    downloader = modelcask.create_model_downloader(url)

    async def main() -> None:
        with pytest.raises(modelcask.TransferTimeoutError) as caught:
            await downloader.download()
        assert downloader.state is DownloadState.FAILED
        assert downloader.error is caught.value
        gate.open()
        here = downloader.downloaded_size
        assert 0 < here <= 3_000_000
        await downloader.prepare()
        assert downloader.downloaded_size == here
        await downloader.download()

    asyncio.run(main())
    assert (downloader.state, downloader.error) == (DownloadState.DONE, None)
    assert downloader.snapshot is not None
    assert downloader.snapshot.bytes_reused > 0


@pytest.mark.parametrize("keep", [True, False])
def test_after_a_cancel_it_goes_on_from_what_is_kept(origin: Origin, cask: Path, *, keep: bool) -> None:
    """From another thread; ``keep_partial_on_cancel`` decides whether anything is."""
    gate, when = Gate(), When(2_000_000)
    url = origin.add("/m.gguf", CONTENT, behaviours=[HoldAfter(3_000_000, gate), Normal()])
    downloader = modelcask.create_model_downloader(url, on_progress=when, keep_partial_on_cancel=keep)
    when.call = downloader.cancel
    with pytest.raises(modelcask.PullCancelledError) as caught:
        asyncio.run(downloader.download())
    gate.open()
    assert (downloader.state, downloader.error, caught.value.kept) == (DownloadState.CANCELLED, None, keep)
    assert [file.phase for file in downloader.files_info] == [Phase.CANCELLED]
    assert bool(list((cask / "partial").iterdir())) is keep
    downloader.cancel()  # nothing runs: nothing to cancel
    path = asyncio.run(downloader.download())
    assert path.read_bytes() == CONTENT
    assert downloader.snapshot is not None
    assert (downloader.snapshot.bytes_reused > 0) is keep


def test_a_cancel_before_the_first_step_is_not_lost(origin: Origin) -> None:
    """A program that has just started the task, or has not yet, means that download; a later one runs."""
    downloader = modelcask.create_model_downloader(origin.add("/m.gguf", CONTENT))

    async def main() -> None:
        task = asyncio.create_task(downloader.download())
        downloader.cancel()
        with pytest.raises(modelcask.PullCancelledError):
            await task
        assert origin.requests == []
        await downloader.download()

    asyncio.run(main())
    assert downloader.state is DownloadState.DONE


def test_a_download_that_runs_is_not_begun_twice(origin: Origin) -> None:
    """The second call is a mistake of the program, and the first one goes on."""
    gate = Gate()
    downloader = modelcask.create_model_downloader(origin.add("/m.gguf", CONTENT, behaviours=[HoldAfter(1000, gate)]))

    async def main() -> None:
        task = asyncio.create_task(downloader.download())
        await asyncio.to_thread(gate.wait)
        with pytest.raises(RuntimeError, match="runs already"):
            await downloader.download()
        gate.open()
        await task

    asyncio.run(main())
    assert downloader.state is DownloadState.DONE


def test_what_a_callback_raises_ends_the_download(origin: Origin) -> None:
    """It comes out as it is, and the downloader can be used again."""
    downloader = modelcask.create_model_downloader(
        origin.add("/m.gguf", CONTENT), on_progress=lambda event: [][len(event.path)]
    )
    for _ in range(2):
        with pytest.raises(IndexError):
            asyncio.run(downloader.download())
        assert downloader.state is DownloadState.FAILED


def test_a_pause_stops_the_bytes_and_a_resume_loses_none(origin: Origin) -> None:
    """The origin counts; a pause and a resume may come from any thread."""
    content = os.urandom(20 << 20)
    downloader = modelcask.create_model_downloader(origin.add("/m.gguf", content, behaviours=[throttle(10 << 20)]))

    async def main() -> Path:
        task = asyncio.create_task(downloader.download())
        await until(lambda: origin.bytes_served > 4 << 20)
        await asyncio.to_thread(downloader.pause)
        assert downloader.state is DownloadState.PAUSED
        served = -1
        while served != origin.bytes_served:
            served = origin.bytes_served
            await asyncio.sleep(0.3)
        here = downloader.downloaded_size
        await asyncio.sleep(0.5)
        assert (origin.bytes_served, downloader.downloaded_size) == (served, here)
        assert here < len(content)
        await asyncio.to_thread(downloader.resume)
        assert downloader.state is DownloadState.RUNNING
        return await task

    assert asyncio.run(main()).read_bytes() == content
    assert origin.bytes_served < len(content) + (16 << 20)  # what the kernel had of closed connections comes again


def test_a_paused_download_can_be_cancelled(origin: Origin) -> None:
    """It does not wait for a resume."""
    downloader = modelcask.create_model_downloader(origin.add("/m.gguf", CONTENT))
    downloader.pause()

    async def main() -> None:
        task = asyncio.create_task(downloader.download())
        await until(lambda: bool(origin.requests))
        downloader.cancel()
        await task

    with pytest.raises(modelcask.PullCancelledError):
        asyncio.run(main())
    assert [request.method for request in origin.requests] == ["HEAD"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"parallel": 0},
        {"parallel": -1},
        {"endpoints": {"huggingface": "ftp://host"}},
        {"endpoints": {"github": "https://host"}},
        {"tokens": {"github": "x"}},
        {"tokens": {"huggingface": "hf_x y"}},
        {"tokens": {"huggingface": ""}},
        {"headers": {"Range": "bytes=0-1"}},
        {"headers": {"X-Key": "a\r\nHost: b"}},
        {"headers": {"X Key": "a"}},
        {"headers": {"X-Key": ""}},
    ],
)
def test_what_cannot_be_used_is_refused_at_once(wrong: dict[str, object]) -> None:
    """When it is made, not in the middle of a download; no value of a secret is repeated."""
    with pytest.raises(modelcask.ConfigError) as caught:
        modelcask.create_model_downloader("https://host/m.gguf", **wrong)  # type: ignore[arg-type] # that is the point
    assert "hf_x" not in str(caught.value)
    assert "Host: b" not in str(caught.value)


def test_an_endpoint_is_the_downloaders_own(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It beats the environment's, for this downloader only; its web pages are read as the Hub's."""
    hub.add_repo("models", "acme/tiny", {"m.safetensors": CONTENT})
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for uri in ("hf://acme/tiny/m.safetensors", f"{hub.endpoint}/acme/tiny/blob/main/m.safetensors"):
        downloader = modelcask.create_model_downloader(uri, endpoints={"huggingface": hub.endpoint})
        assert asyncio.run(downloader.download()).read_bytes() == CONTENT
        assert downloader.uri.canonical.startswith("hf://models/acme/tiny")


def test_filters_choose_the_files(hub: FakeHub) -> None:
    """``include`` and ``exclude`` as in a pull; one glob may be given by itself."""
    hub.add_repo("models", "acme/tiny", {"a.json": b"1", "b.json": b"2", "c.txt": b"3"})
    downloader = modelcask.create_model_downloader("hf://acme/tiny", include="*.json", exclude=["b*"])
    asyncio.run(downloader.prepare())
    assert [file.path for file in downloader.files_info] == ["a.json"]
