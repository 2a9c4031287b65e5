"""Downloaders: a model on its way as an object, alone and many as one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import modelcask
from behaviours import FlipByte, Gate, HoldAfter, Normal, Status, throttle
from hub import FakeHub
from modelcask import DownloadState, Phase
from modelcask.fetch import plan
from origin import Origin

CONTENT = bytes(range(256)) * 20_000  # 5 MB
OTHER = CONTENT[::-1]
THIRD = CONTENT[1:] + b"x"


def pinned(url: str, content: bytes = CONTENT) -> str:
    return f"{url}#sha256={hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


class When:
    """A progress callback that has something called, once and from another thread, when a file has so many bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.call: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None

    def __call__(self, event: modelcask.Progress) -> None:
        if self._thread is None and event.bytes_done >= self.size:
            self._thread = threading.Thread(target=self.call)
            self._thread.start()


async def until(true: Callable[[], bool]) -> None:
    """Return when it is so; fail if it never is."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for is another thread's
            await asyncio.sleep(0.01)


# One.


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


@pytest.mark.parametrize("parallel", [1, 3])
def test_no_more_connections_bring_bytes_than_were_allowed(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    """Of one model in ranges, and of many together: while answers are held, no further one is asked for."""
    monkeypatch.setattr(plan, "SPLIT_BYTES", 1 << 20)
    monkeypatch.setattr(plan, "SPAN_BYTES", (1 << 20, 2 << 20))
    gate, contents = Gate(), [CONTENT, OTHER, THIRD]
    urls = [
        pinned(origin.add(f"/{n}.gguf", content, behaviours=[HoldAfter(100, gate)]), content)
        for n, content in enumerate(contents)
    ]
    both = modelcask.combine_model_downloaders(
        modelcask.create_model_downloader(url, parallel=parallel) for url in urls
    )

    def asked() -> int:
        return len([request for request in origin.requests if request.method == "GET"])

    async def main() -> list[Path | None]:
        task = asyncio.create_task(both.download())
        await until(lambda: asked() == parallel)
        await asyncio.sleep(0.5)
        assert asked() == parallel
        gate.open()
        return await task

    assert [path.read_bytes() for path in asyncio.run(main()) if path] == contents
    assert asked() > len(contents)


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


# Many as one.


def test_a_file_that_two_models_share_is_downloaded_and_counted_once(hub: FakeHub) -> None:
    """Its digest tells that it is one; the sums are those of different files, and end at the total."""
    shared = {"tokenizer.safetensors": OTHER}
    hub.add_repo("models", "acme/one", {"model.safetensors": CONTENT, **shared})
    hub.add_repo("models", "acme/two", {"model.safetensors": THIRD, "copy.safetensors": OTHER})
    events: list[modelcask.JobProgress] = []
    both = modelcask.combine_model_downloaders(
        [modelcask.create_model_downloader(f"hf://acme/{name}", request_id=name) for name in ("one", "two")],
        on_progress=events.append,
    )
    assert (both.total_size, both.total_files, both.downloaded_size) == (None, None, 0)
    paths = asyncio.run(both.download())

    total = len(CONTENT) + len(OTHER) + len(THIRD)
    assert [sorted(file.name for file in path.iterdir()) for path in paths if path] == [
        ["model.safetensors", "tokenizer.safetensors"],
        ["copy.safetensors", "model.safetensors"],
    ]
    assert both.entrypoint_paths == paths
    assert hub.bytes_served == total
    assert (both.total_size, both.downloaded_size, both.total_files) == (total, total, 3)
    assert {event.total_size for event in events} <= {None, total}
    assert all(
        before.downloaded_size <= after.downloaded_size and before.done_files <= after.done_files
        for before, after in pairwise(events)
    )
    assert (events[-1].downloaded_size, events[-1].done_files, events[-1].total_files) == (total, 3, 3)


def test_the_same_model_twice_is_one(origin: Origin) -> None:
    """Also where nobody promises a digest: the place it comes from tells."""
    url = origin.add("/m.gguf", CONTENT, behaviours=[throttle(20_000_000)])
    both = modelcask.combine_model_downloaders([modelcask.create_model_downloader(url) for _ in range(2)])
    first, second = asyncio.run(both.download())
    assert first == second
    assert (both.total_size, both.downloaded_size, both.total_files) == (len(CONTENT), len(CONTENT), 1)
    assert origin.bytes_served == len(CONTENT)


def test_equal_files_that_nobody_promised_stay_two(origin: Origin) -> None:
    """That they are equal turns out in the end, and the sums may not fall by it."""
    urls = [origin.add(f"/{name}.gguf", CONTENT, behaviours=[throttle(20_000_000)]) for name in "ab"]
    events: list[modelcask.JobProgress] = []
    both = modelcask.combine_model_downloaders(
        [modelcask.create_model_downloader(url) for url in urls], on_progress=events.append
    )
    asyncio.run(both.download())
    assert all(before.downloaded_size <= after.downloaded_size for before, after in pairwise(events))
    assert events[-1].downloaded_size == events[-1].total_size == 2 * len(CONTENT)


def test_one_that_fails_or_is_cancelled_does_not_stop_the_others(origin: Origin) -> None:
    """The error of the failed one comes when the others have ended; the cancelled one has no path."""
    gate = Gate()
    urls = [
        origin.add("/good.gguf", CONTENT, behaviours=[throttle(20_000_000)]),
        pinned(origin.add("/bad.gguf", OTHER, behaviours=[FlipByte(7)]), OTHER),
        origin.add("/unwanted.gguf", THIRD, behaviours=[HoldAfter(1_000_000, gate)]),
    ]
    when = When(500_000)
    downloaders = [*map(modelcask.create_model_downloader, urls[:2])]
    downloaders.append(modelcask.create_model_downloader(urls[2], on_progress=when))
    when.call = downloaders[2].cancel
    both = modelcask.combine_model_downloaders(downloaders)
    with pytest.raises(modelcask.DigestMismatchError):
        asyncio.run(both.download())
    gate.open()
    assert [one.state for one in downloaders] == [DownloadState.DONE, DownloadState.FAILED, DownloadState.CANCELLED]
    good, bad, unwanted = both.entrypoint_paths
    assert good is not None
    assert good.read_bytes() == CONTENT
    assert (bad, unwanted) == (None, None)


def test_a_cancelled_one_alone_is_no_error(origin: Origin) -> None:
    """The others' paths come back, and None in its place."""
    gate, when = Gate(), When(1000)
    url = origin.add("/a.gguf", CONTENT, behaviours=[HoldAfter(1000, gate)])
    downloaders = [
        modelcask.create_model_downloader(url, on_progress=when),
        modelcask.create_model_downloader(origin.add("/b.gguf", OTHER)),
    ]
    when.call = downloaders[0].cancel
    first, second = asyncio.run(modelcask.combine_model_downloaders(downloaders).download())
    gate.open()
    assert first is None
    assert second is not None


def test_a_shared_file_outlives_the_model_that_was_cancelled(origin: Origin) -> None:
    """Who waited for it goes on from what has arrived, and the sums do not fall."""
    gate = Gate()
    script = [HoldAfter(3_000_000, gate), throttle(20_000_000)]
    urls = [pinned(origin.add(f"/{name}.gguf", CONTENT, behaviours=script)) for name in "ab"]
    downloaders = [modelcask.create_model_downloader(url) for url in urls]
    events: list[modelcask.JobProgress] = []
    both = modelcask.combine_model_downloaders(downloaders, on_progress=events.append)

    def with_phase(phase: Phase) -> list[modelcask.ModelDownloader]:
        return [one for one in downloaders if [file.phase for file in one.files_info] == [phase]]

    async def main() -> list[Path | None]:
        task = asyncio.create_task(both.download())
        await until(lambda: bool(with_phase(Phase.WAITING)) and both.downloaded_size > 2_000_000)
        [first] = with_phase(Phase.DOWNLOADING)
        first.cancel()
        await until(lambda: first.state is DownloadState.CANCELLED)
        gate.open()
        return await task

    paths = asyncio.run(main())
    [path] = [path for path in paths if path is not None]
    assert path.read_bytes() == CONTENT
    [second] = [one.snapshot for one in downloaders if one.snapshot is not None]
    assert second.bytes_reused > 0
    assert all(before.downloaded_size <= after.downloaded_size for before, after in pairwise(events))
    assert events[-1].downloaded_size == events[-1].total_size == len(CONTENT)


@pytest.mark.parametrize("by", ["token", "cancel"])
def test_all_are_cancelled_together_and_go_on_later(origin: Origin, by: str) -> None:
    """By the token that was given, or by the combined downloader; what has arrived of each is kept."""
    gates = [Gate(), Gate()]
    downloaders = [
        modelcask.create_model_downloader(
            origin.add(f"/{n}.gguf", content, behaviours=[HoldAfter(3_000_000, gate), Normal()])
        )
        for n, (gate, content) in enumerate(zip(gates, (CONTENT, OTHER), strict=True))
    ]
    both = modelcask.combine_model_downloaders(downloaders)
    token = modelcask.CancelToken()

    async def main() -> list[Path | None]:
        task = asyncio.create_task(both.download(cancel=token))
        await until(lambda: all(one.downloaded_size > 2_000_000 for one in downloaders))
        (token.cancel if by == "token" else both.cancel)()
        with pytest.raises(modelcask.PullCancelledError):
            await task
        assert {one.state for one in downloaders} == {DownloadState.CANCELLED}
        both.cancel()  # nothing runs: nothing to cancel
        for gate in gates:
            gate.open()
        return await both.download()

    paths = asyncio.run(main())
    assert [path.read_bytes() for path in paths if path] == [CONTENT, OTHER]
    assert all(one.snapshot and one.snapshot.bytes_reused for one in downloaders)


def test_a_token_that_comes_too_late_changes_nothing(origin: Origin) -> None:
    """All have ended: their paths come back."""
    token = modelcask.CancelToken()
    both = modelcask.combine_model_downloaders([modelcask.create_model_downloader(origin.add("/a.gguf", CONTENT))])

    async def main() -> None:
        assert await both.download(cancel=token)
        token.cancel()
        assert await both.download()

    asyncio.run(main())


def test_all_are_paused_together(origin: Origin) -> None:
    """While they are, the origin sends nothing."""
    both = modelcask.combine_model_downloaders(
        [modelcask.create_model_downloader(origin.add(f"/{n}.gguf", CONTENT + bytes([n]))) for n in range(3)]
    )
    both.pause()

    async def main() -> list[Path | None]:
        task = asyncio.create_task(both.download())
        await until(lambda: len(origin.requests) >= 3)
        await asyncio.sleep(0.2)
        assert origin.bytes_served == 0
        both.resume()
        return await task

    assert all(asyncio.run(main()))


def test_every_error_of_many_is_told(origin: Origin) -> None:
    """The first is raised, the others are notes on it."""
    urls = [origin.add(f"/{n}.gguf", CONTENT, behaviours=[Status(404)]) for n in range(2)]
    both = modelcask.combine_model_downloaders(map(modelcask.create_model_downloader, urls))
    with pytest.raises(modelcask.ModelNotFoundError) as caught:
        asyncio.run(both.download())
    assert "/0.gguf" in str(caught.value)
    assert ["/1.gguf" in note for note in caught.value.__notes__] == [True]


def test_none_is_nothing() -> None:
    """An empty list has no paths, and no error."""
    both = modelcask.combine_model_downloaders([])
    assert asyncio.run(both.download()) == []
    assert both.downloaded_size == 0
