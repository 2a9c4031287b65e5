"""Which failures are tried again, how often, and after which waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from behaviours import (
    Chunked,
    ContentRange,
    CutAfter,
    HoldAfter,
    IgnoreRange,
    Replaced,
    StallAfter,
    Status,
)
from download_bench import CONTENT, DEAD, SETTINGS, SHA256, SIZE, Bench, open_gate
from memory_sink import MemorySink
from modelcask.errors import (
    AccessDeniedError,
    ConnectionInterruptedError,
    OfflineError,
    RemoteChangedError,
    ResponseError,
    StoreFullError,
    TransferTimeoutError,
)
from modelcask.types import Phase


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_tries_that_bring_nothing_are_counted(bench: Bench, retries: int) -> None:
    """``retries`` says how often a dead transfer is taken up again, and no more."""
    bench.serve([DEAD])
    bench.settings = replace(SETTINGS, retries=retries)

    with pytest.raises(ConnectionInterruptedError) as caught:
        await bench.download()

    assert len(bench.origin.requests) == 1 + retries
    assert len(bench.waits) == retries
    assert caught.value.bytes_kept == 0


async def test_progress_starts_the_count_again(bench: Bench) -> None:
    """A transfer that keeps moving is never given up, and its waits start small again."""
    moves = CutAfter(100)
    bench.serve([DEAD, DEAD, DEAD, moves, DEAD, DEAD, moves, DEAD, DEAD, moves, ()])

    assert await bench.download() == SIZE
    bounds = [1, 2, 4, 1, 2, 4, 1, 2, 4, 1]
    assert all(wait <= bound for wait, bound in zip(bench.waits, bounds, strict=True)), bench.waits


async def test_repeating_lost_bytes_is_no_progress(bench: Bench) -> None:
    """A server without ranges that always cuts at the same place is given up."""
    bench.serve([(IgnoreRange(), CutAfter(10_000))])

    with pytest.raises(ConnectionInterruptedError) as caught:
        await bench.download()

    assert len(bench.origin.requests) == 1 + SETTINGS.retries
    assert caught.value.bytes_kept == bench.sink.held.size_bytes == 10_000


async def test_waits_grow_and_are_random(bench: Bench) -> None:
    """Exponential bounds of one, two, four seconds and so on, up to a minute, and jitter below them."""
    bench.serve([DEAD])
    bench.settings = replace(SETTINGS, retries=10)

    with pytest.raises(ConnectionInterruptedError):
        await bench.download()

    bounds = [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert all(0 <= wait <= bound for wait, bound in zip(bench.waits, bounds, strict=True)), bench.waits
    assert len({wait / bound for wait, bound in zip(bench.waits, bounds, strict=True)}) > 5


@pytest.mark.parametrize(("asked", "least", "most"), [("7", 7, 7), ("99999", 300, 300), ("soon", 0, 1), ("0", 0, 1)])
async def test_retry_after_is_honoured_and_capped(bench: Bench, asked: str, least: float, most: float) -> None:
    """The server's wish counts up to five minutes; what cannot be read counts as no wish."""
    bench.serve([Status(429, retry_after=asked), ()])

    await bench.download()

    assert len(bench.waits) == 1
    assert least - 1 < bench.waits[0] <= most  # time has passed since the answer


async def test_a_busy_server_is_named_while_waiting(bench: Bench) -> None:
    """The reason for a pause is told, and the next step is ours and not the user's."""
    bench.serve([CutAfter(10_000), Status(503, retry_after="3"), ()])

    await bench.download()

    reasons = [message for phase, message in bench.phases if phase is Phase.RETRYING]
    assert "answered 503" in reasons[1]
    assert reasons[1].endswith("trying again in 3 s")


async def test_a_stalled_connection_is_dropped_and_taken_up(bench: Bench) -> None:
    """Silence longer than the stall timeout ends the try, not the download."""
    bench.serve([StallAfter(10_000), ()])
    bench.settings = replace(SETTINGS, stall_timeout_s=0.3)

    assert await bench.download() == SIZE
    assert bench.ranges[:2] == [None, "bytes=10000-"]


async def test_a_connection_that_only_stalls_times_out(bench: Bench) -> None:
    """The error says that it was time, and how much is kept."""
    bench.serve([StallAfter(10_000), StallAfter(0)])
    bench.settings = replace(SETTINGS, stall_timeout_s=0.2, retries=1)

    with pytest.raises(TransferTimeoutError) as caught:
        await bench.download()

    assert caught.value.bytes_kept == 10_000


async def test_a_changed_object_goes_up_at_once(bench: Bench) -> None:
    """Asking again cannot help: whoever resolved the file must do so again."""
    bench.serve([CutAfter(10_000), Replaced(CONTENT[::-1])])

    with pytest.raises(RemoteChangedError) as caught:
        await bench.download()

    assert len(bench.origin.requests) == 2
    assert caught.value.bytes_kept == bench.sink.held.size_bytes == 10_000


async def test_a_refused_token_goes_up_at_once(bench: Bench) -> None:
    """Asking again with the same token cannot help."""
    bench.serve([Status(401)])

    with pytest.raises(AccessDeniedError):
        await bench.download()
    assert bench.waits == []


async def test_one_bad_range_does_not_cost_the_bytes_at_hand(bench: Bench) -> None:
    """One proxy among many may be broken: the first refused 206 is only asked for again."""
    bench.serve([ContentRange(start=1), ()])
    bench.sink = MemorySink(CONTENT[:12_000])

    assert await bench.download() == SIZE - 12_000
    assert bench.sink.restarts == 0


async def test_a_server_that_cannot_do_ranges_is_asked_without(bench: Bench) -> None:
    """The second refused 206 in a row gives up the bytes, since only a whole answer can ever end."""
    bench.serve([ContentRange(start=1)])
    bench.sink = MemorySink(CONTENT[:12_000])

    assert await bench.download() == SIZE
    assert bench.ranges == ["bytes=12000-", "bytes=12000-", None]
    assert bench.sink.content == CONTENT


async def test_cancelling_a_pause_ends_it(bench: Bench) -> None:
    """Waiting for the next try can be cancelled like anything else."""
    bench.serve([Status(503, retry_after="300")])
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.sleep(seconds)

    bench._sleep = sleep  # type: ignore[method-assign] # the one test that really waits
    task = asyncio.create_task(bench.download())
    await waiting.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


class FullSink(MemorySink):
    """A disk with no room behind the first bytes."""

    def put(self, offset: int, part: bytes) -> None:
        if offset:
            raise StoreFullError(needed=SIZE, available=0)
        super().put(offset, part)


async def test_a_full_disk_is_not_retried(bench: Bench) -> None:
    """Waiting frees nothing; what is written stays."""
    bench.serve([(Chunked(), HoldAfter(10_000, open_gate()))])
    bench.sink = FullSink(b"x")
    bench.file = replace(bench.file, digests=(SHA256,))

    with pytest.raises(StoreFullError):
        await bench.download()
    assert bench.waits == []
    assert bench.sink.held.size_bytes == 1


async def test_offline_asks_nobody(bench: Bench) -> None:
    """No connection is made, and no second try."""
    bench.serve()
    bench.settings = replace(SETTINGS, offline=True)

    with pytest.raises(OfflineError):
        await bench.download()
    assert bench.origin.requests == []
    assert bench.waits == []


async def test_refused_answers_are_typed_in_the_end(bench: Bench) -> None:
    """A server that cannot be reasoned with ends in one error, with its status."""
    bench.serve([Status(500)])

    with pytest.raises(ResponseError) as caught:
        await bench.download()
    assert caught.value.status == 500
