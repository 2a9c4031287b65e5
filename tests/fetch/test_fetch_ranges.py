"""One file over several connections: what runs side by side, what is shared, and what ends together."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from behaviours import CutAfter, Gate, HoldAfter, Redirect, Status
from crowd_behaviours import SignedURL
from download_bench import CONTENT, DEAD, SETTINGS, SHA256, SIZE, Bench
from memory_sink import MemorySink, MemoryStream
from modelcask.errors import ConnectionInterruptedError, StoreFullError
from modelcask.fetch import plan
from modelcask.fetch.gate import Gate as Pause
from modelcask.fetch.governor import FIRST
from origin import Origin

pytestmark = pytest.mark.usefixtures("small_spans")


def spans(origin: Origin) -> list[tuple[int, int]]:
    """Return the ranges that were asked for, in their order."""
    asked = [re.fullmatch(r"bytes=(\d+)-(\d*)", request.asked) for request in origin.requests]
    return [(int(one[1]), int(one[2]) + 1 if one[2] else SIZE) for one in asked if one is not None]


async def until(bench: Bench, requests: int) -> None:
    """Return when so many requests have come."""
    async with asyncio.timeout(30):
        while len(bench.origin.requests) < requests:  # noqa: ASYNC110 - the origin has no event
            await asyncio.sleep(0.001)


async def test_every_byte_comes_once(bench: Bench) -> None:
    """The spans cover the file without a gap or an overlap, all under the ETag."""
    bench.serve()

    assert await bench.download() == bench.origin.bytes_served == SIZE

    assert bench.sink.content == CONTENT
    asked = sorted(spans(bench.origin))
    assert len(asked) >= 8
    assert [start for start, _ in asked] == [0, *(end for _, end in asked[:-1])]
    assert {request.headers.get("If-Range") for request in bench.origin.requests} == {bench.file.etag}


async def test_several_connections_run_side_by_side_from_the_lowest_byte_on(bench: Bench) -> None:
    """While every answer is held, as many requests as are worth having stand there: the first spans of the file."""
    gate = Gate()
    bench.serve([HoldAfter(0, gate)])
    task = asyncio.create_task(bench.download())
    await until(bench, FIRST)
    await asyncio.sleep(0.05)

    assert sorted(spans(bench.origin)) == [(0, 3000), (3000, 6000), (6000, 9000), (9000, 12000)]

    gate.open()
    await task
    assert bench.sink.content == CONTENT


async def test_only_the_holes_are_fetched(bench: Bench) -> None:
    """What an earlier process left in the middle does not come again."""
    bench.serve()
    bench.sink = MemorySink({2_000: CONTENT[2_000:9_000], 20_000: CONTENT[20_000:29_999]})

    assert await bench.download() == bench.origin.bytes_served == SIZE - 7_000 - 9_999
    assert bench.sink.content == CONTENT


async def test_who_has_nothing_left_helps_the_slowest(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The far half of the span that hangs is fetched by another, and each byte of it written once."""
    monkeypatch.setattr(plan, "_WORTH_S", 0.0)  # on loopback no span takes long enough to be worth it
    gate = Gate()
    bench.serve([HoldAfter(0, gate), ()])
    task = asyncio.create_task(bench.download())
    async with asyncio.timeout(30):
        while bench.sink.held.size_bytes < SIZE - 1_500:  # noqa: ASYNC110 - the sink has no event
            await asyncio.sleep(0.001)
    held = spans(bench.origin)[0]
    taken = [(start, end) for start, end in spans(bench.origin)[1:] if held[0] < start < held[1]]

    gate.open()
    await task

    assert len(taken) == 1
    assert bench.sink.content == CONTENT


async def test_cancelling_ends_all_connections_and_keeps_all_bytes(bench: Bench) -> None:
    """Several runs of bytes stay, and the next call fetches only what lies between them."""
    gate = Gate()
    bench.serve([HoldAfter(1_000, gate)])
    task = asyncio.create_task(bench.download())
    async with asyncio.timeout(30):
        while bench.sink.held.size_bytes < 4_000:  # noqa: ASYNC110 - the sink has no event
            await asyncio.sleep(0.001)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not bench.sink.open_streams
    assert [(one.start, one.end) for one in bench.sink.held] == [(at, at + 1_000) for at in (0, 3_000, 6_000, 9_000)]
    gate.open()
    bench.serve()
    assert await bench.download() == SIZE - 4_000
    assert bench.sink.content == CONTENT


async def test_a_pause_ends_what_runs_and_asks_nothing_new(bench: Bench) -> None:
    """Each request ends with its next bytes; opened again, the download goes on from there without a loss."""
    gate = Gate()
    bench.serve([*[HoldAfter(1_000, gate)] * FIRST, ()])
    bench.pause = Pause()
    task = asyncio.create_task(bench.download())
    async with asyncio.timeout(30):
        while bench.sink.held.size_bytes < FIRST * 1_000:  # noqa: ASYNC110 - the sink has no event
            await asyncio.sleep(0.001)
    bench.pause.shut()
    gate.open()
    async with asyncio.timeout(30):
        while bench.sink.open_streams:  # noqa: ASYNC110 - the sink has no event
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)

    assert len(bench.origin.requests) == FIRST  # also the one that waited for a connection has made no request
    assert not task.done()

    bench.pause.open()
    assert await task == SIZE
    assert bench.sink.content == CONTENT


class FullSink(MemorySink):
    """A disk without room, as two connections find at the same moment."""

    def __init__(self) -> None:
        super().__init__()
        self.both = asyncio.Barrier(2)

    def stream(self, start: int) -> MemoryStream:
        return FullStream(self, start)


class FullStream(MemoryStream):
    """See :class:`FullSink`."""

    async def write(self, _chunk: bytes) -> None:
        assert isinstance(self._sink, FullSink)
        await self._sink.both.wait()
        raise StoreFullError(needed=SIZE, available=0)


async def test_a_full_disk_ends_all_connections_with_one_error(bench: Bench) -> None:
    """Two of them meet it at once: it goes up once, nothing is tried again, and no stream stays open."""
    bench.serve()
    bench.sink = FullSink()

    with pytest.raises(StoreFullError):
        await bench.download()

    assert bench.waits == []
    assert not bench.sink.open_streams


async def test_one_range_that_never_comes_ends_it_with_the_rest_kept(bench: Bench) -> None:
    """Everything else arrives; then its tries are counted, and the error says how much is here."""
    bench.serve([DEAD, DEAD, DEAD, DEAD, CutAfter(1_000), DEAD])

    with pytest.raises(ConnectionInterruptedError) as caught:
        await bench.download()

    assert caught.value.bytes_kept == bench.sink.held.size_bytes == 1_000


async def test_progress_counts_after_starting_over_too(bench: Bench) -> None:
    """What was thrown away is not what is held: a transfer that began anew and moves is never given up."""
    moves = CutAfter(100)
    bench.serve([moves, DEAD, DEAD, moves, DEAD, DEAD, moves, DEAD, DEAD, moves, DEAD, DEAD, ()])
    bench.file = replace(bench.file, etag=None, size_bytes=None)
    bench.sink = MemorySink(b"x" * 20_000)

    assert await bench.download() == SIZE
    assert bench.sink.content == CONTENT
    assert bench.sink.restarts == 1


async def test_a_redirect_is_followed_once(bench: Bench) -> None:
    """The requests behind the first ones go straight to where it led."""
    bench.settings = replace(SETTINGS, connections=1)
    bench.serve([Redirect("/elsewhere")])
    bench.origin.add("/elsewhere", CONTENT)

    await bench.download()

    assert bench.sink.content == CONTENT
    assert [request.path for request in bench.origin.requests][:3] == ["/m.gguf", "/elsewhere", "/elsewhere"]
    assert [request.path for request in bench.origin.requests].count("/m.gguf") == 1


async def test_a_signed_url_that_has_run_out_is_asked_for_anew(bench: Bench) -> None:
    """Its 403 is no failure: the file's own URL leads to a new one, nobody waits, and no byte comes twice."""
    bench.settings = replace(SETTINGS, connections=1)
    bench.serve([SignedURL(3)])

    assert await bench.download() == SIZE

    assert bench.sink.content == CONTENT
    assert bench.waits == []
    assert len({request.query for request in bench.origin.requests}) == 1 + 4


async def test_a_place_that_fails_is_not_insisted_on(bench: Bench) -> None:
    """Where a redirect has led may be down: after a failure the file's own URL is asked again."""
    bench.settings = replace(SETTINGS, connections=1)
    bench.serve([Redirect("/down"), ()])
    bench.origin.add("/down", CONTENT, behaviours=[(), Status(500)])

    await bench.download()

    assert bench.sink.content == CONTENT
    assert [request.path for request in bench.origin.requests][:4] == ["/m.gguf", "/down", "/down", "/m.gguf"]


async def test_a_digest_is_proof_for_ranges_where_there_is_no_etag(bench: Bench) -> None:
    """The spans of a file are asked for without a condition: its digest will tell."""
    bench.serve(etag=None)
    bench.file = replace(bench.file, etag=None, digests=(SHA256,))

    await bench.download()

    assert bench.sink.content == CONTENT
    assert len(spans(bench.origin)) >= 8


async def test_without_any_proof_there_is_one_plain_request(bench: Bench) -> None:
    """Neither strong ETag nor digest: parts of two answers are never joined."""
    bench.serve(etag='W/"a"')
    bench.file = replace(bench.file, etag=None)

    await bench.download()

    assert bench.ranges == [None]
