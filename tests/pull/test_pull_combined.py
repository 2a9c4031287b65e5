"""Downloaders: many models on their way as one."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

import modelcask
from behaviours import FlipByte, Gate, HoldAfter, Normal, Status, throttle
from downloads import CONTENT, When, pinned, until
from hub import FakeHub
from modelcask import DownloadState, Phase
from modelcask.fetch import plan
from origin import Origin

OTHER = CONTENT[::-1]
THIRD = CONTENT[1:] + b"x"


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
