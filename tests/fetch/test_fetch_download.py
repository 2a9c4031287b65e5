"""Downloads over a real connection: what is asked for, and what is kept."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from behaviours import (
    Chunked,
    CutAfter,
    ETag,
    Gate,
    HoldAfter,
    NotSatisfiable,
    Replaced,
)
from download_bench import CONTENT, DEAD, SETTINGS, SHA256, SIZE, Bench, open_gate
from memory_sink import MemorySink
from modelcask.digest import Digest
from modelcask.errors import (
    ConnectionInterruptedError,
    RemoteChangedError,
    SizeMismatchError,
)
from modelcask.types import Credential, FileLocation, HTTPLocation, Phase
from origin import TLS_MISSING, Origin
from reply import etag_of


async def test_a_fresh_download_is_one_plain_request(bench: Bench) -> None:
    """Nothing at hand: no Range, every byte once, and the count of them comes back."""
    bench.serve()

    received = await bench.download()

    assert received == bench.origin.bytes_served == SIZE
    assert bench.sink.content == CONTENT
    assert bench.ranges == [None]
    assert bench.origin.requests[0].headers["Accept-Encoding"] == "identity"
    assert bench.phases == [(Phase.DOWNLOADING, "")]


async def test_what_an_earlier_process_left_is_not_fetched_again(bench: Bench) -> None:
    """The rest only is asked for, under the ETag, and only the rest counts as received."""
    bench.serve()
    bench.sink = MemorySink(CONTENT[:12_000])

    received = await bench.download()

    assert received == bench.origin.bytes_served == SIZE - 12_000
    assert bench.sink.content == CONTENT
    assert bench.ranges == ["bytes=12000-"]
    assert bench.origin.requests[0].headers["If-Range"] == etag_of(CONTENT)
    assert bench.sink.restarts == 0


async def test_a_file_that_is_all_at_hand_needs_no_request(bench: Bench) -> None:
    """A process that died after the last byte leaves nothing to fetch."""
    bench.serve()
    bench.sink = MemorySink(CONTENT)

    assert await bench.download() == 0
    assert bench.origin.requests == []
    assert bench.phases == []


@pytest.mark.parametrize("size", [0, None])
async def test_an_empty_file_is_a_file(bench: Bench, size: int | None) -> None:
    """No bytes are as good as many."""
    bench.serve(content=b"")
    bench.file = replace(bench.file, size_bytes=size, etag=None)

    assert await bench.download() == 0
    assert bench.sink.content == b""
    assert bench.ranges == [None]


async def test_a_file_that_is_not_empty_is_not_believed_to_be(bench: Bench) -> None:
    """A HEAD that announced zero bytes does not make an empty model."""
    bench.serve()
    bench.file = replace(bench.file, size_bytes=0)

    with pytest.raises(RemoteChangedError):
        await bench.download()
    assert bench.sink.content == b""


async def test_a_cut_is_taken_up_where_it_happened(bench: Bench) -> None:
    """Each try asks for what is missing; no byte travels twice."""
    bench.serve([CutAfter(10_000), CutAfter(5_000), HoldAfter(0, open_gate())])

    received = await bench.download()

    assert received == SIZE
    assert bench.ranges == [None, "bytes=10000-", "bytes=15000-"]
    assert [phase for phase, _ in bench.phases] == [
        Phase.DOWNLOADING,
        Phase.RETRYING,
        Phase.DOWNLOADING,
        Phase.RETRYING,
        Phase.DOWNLOADING,
    ]
    assert "ended before the last byte; trying again " in bench.phases[1][1]


async def test_an_etag_learned_on_the_way_guards_the_joint(bench: Bench) -> None:
    """Nothing was known before; the first answer's size and ETag are what the second must match."""
    bench.serve([CutAfter(10_000)])
    bench.file = replace(bench.file, size_bytes=None, etag=None)

    assert await bench.download() == SIZE
    assert [request.headers.get("If-Range") for request in bench.origin.requests] == [
        None,
        etag_of(CONTENT),
        etag_of(CONTENT),
    ]


async def test_without_proof_every_try_starts_at_zero(bench: Bench) -> None:
    """Neither strong ETag nor strong digest: bytes at hand are worth nothing, also within one call."""
    bench.serve([CutAfter(10_000), ()], etag='W/"a"')
    bench.file = replace(bench.file, etag=None, digests=(Digest("md5", hashlib.md5(CONTENT).hexdigest()),))
    bench.sink = MemorySink(b"x" * 500)

    received = await bench.download()

    assert bench.ranges == [None, None]
    assert received == SIZE + 10_000
    assert bench.sink.content == CONTENT
    assert bench.sink.restarts == 2


async def test_a_strong_digest_is_proof_enough(bench: Bench) -> None:
    """No ETag anywhere, but the promised digest will tell: the rest is asked for without a condition."""
    bench.serve([CutAfter(10_000), ()], etag=None)
    bench.file = replace(bench.file, etag=None, digests=(SHA256,))

    assert await bench.download() == SIZE
    assert bench.ranges == [None, "bytes=10000-"]
    assert "If-Range" not in bench.origin.requests[1].headers


async def test_bytes_survive_a_failed_download(bench: Bench) -> None:
    """When the tries are used up the bytes are kept, the error says how many, and the next call goes on."""
    bench.serve([CutAfter(10_000), DEAD])

    with pytest.raises(ConnectionInterruptedError) as caught:
        await bench.download()
    assert caught.value.bytes_kept == bench.sink.held.size_bytes == 10_000
    bench.serve()
    received = await bench.download()

    assert received == SIZE - 10_000
    assert bench.sink.content == CONTENT


async def test_bytes_that_could_not_be_continued_are_not_called_kept(bench: Bench) -> None:
    """Without proof nothing can go on from there, and the error does not say so."""
    bench.serve([CutAfter(10_000)], etag=None)
    bench.file = replace(bench.file, etag=None)
    bench.settings = replace(SETTINGS, retries=0)

    with pytest.raises(ConnectionInterruptedError) as caught:
        await bench.download()

    assert caught.value.bytes_kept == bench.sink.held.size_bytes == 0


async def test_a_body_is_stopped_one_byte_past_the_promise(bench: Bench) -> None:
    """Endless data is not read to its end, and nothing of it stays: it would look like the whole file."""
    gate = Gate()
    endless = Replaced(CONTENT + bytes(50_000_000)), ETag(etag_of(CONTENT)), Chunked(), HoldAfter(10_000, gate)
    bench.serve([endless])
    bench.file = replace(bench.file, digests=(SHA256,))
    task = asyncio.create_task(bench.download())
    await _reach(bench.sink, 10_000)
    gate.open()

    with pytest.raises(SizeMismatchError) as caught:
        await task

    assert caught.value.expected == SIZE
    assert bench.sink.content == b""
    assert bench.origin.bytes_served < 20_000_000


async def test_a_416_at_the_end_of_an_unsized_file_is_its_end(bench: Bench) -> None:
    """Cut between the last byte and the last chunk, the file is whole and its digest will tell."""
    bench.serve([(Chunked(), CutAfter(SIZE)), ()])
    bench.file = replace(bench.file, size_bytes=None, digests=(SHA256,))

    assert await bench.download() == SIZE
    assert bench.ranges == [None, f"bytes={SIZE}-"]


async def test_a_416_anywhere_else_goes_up(bench: Bench) -> None:
    """The server's object ends before ours does: it is another one."""
    bench.serve([NotSatisfiable(5_000)])
    bench.sink = MemorySink(CONTENT[:12_000])

    with pytest.raises(RemoteChangedError, match="has 5,000 in all"):
        await bench.download()


async def test_cancelling_ends_it_at_once_and_keeps_the_bytes(bench: Bench) -> None:
    """A held body is left in the middle; what arrived before stays in the sink."""
    gate = Gate()
    bench.serve([HoldAfter(10_000, gate)])
    task = asyncio.create_task(bench.download())
    await _reach(bench.sink, 10_000)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.sink.content == CONTENT[:10_000]
    assert bench.waits == []
    gate.open()


async def test_the_token_travels_with_every_try(bench: Bench) -> None:
    """The credential of the location goes to its origin, also when a try is repeated."""
    bench.serve([CutAfter(10_000), ()])
    url = f"{bench.origin.url}/m.gguf"
    bench.file = replace(
        bench.file, location=HTTPLocation(url, Credential(bench.origin.url, (("Authorization", "Bearer s3cret"),)))
    )

    await bench.download()

    assert [request.headers["Authorization"] for request in bench.origin.requests] == ["Bearer s3cret"] * 2
    assert not any("s3cret" in message for _, message in bench.phases)


async def test_a_local_file_is_not_a_download(bench: Bench) -> None:
    """Files on this machine are the caller's: said as a bug, not as an error of the network."""
    bench.file = replace(bench.file, location=FileLocation(Path("/x")))

    with pytest.raises(TypeError, match=r"m\.gguf"):
        await bench.download()


@pytest.mark.skipif(TLS_MISSING is not None, reason=str(TLS_MISSING))
async def test_tls_is_trusted_by_the_authority_named_and_no_other() -> None:
    """The own CA file makes the origin trusted; without it nothing is fetched, and nothing is tried again."""
    with Origin(tls=True) as origin:
        bench = Bench(origin)
        bench.serve([CutAfter(10_000), CutAfter(5_000, reset=True), ()])
        with pytest.raises(ConnectionInterruptedError, match="certificate"):
            await bench.download()
        assert bench.waits == []
        bench.settings = replace(SETTINGS, ca_file=origin.ca_file)

        await bench.download()

        assert bench.sink.content == CONTENT


async def _reach(sink: MemorySink, size: int) -> None:
    while sink.held.size_bytes < size:  # noqa: ASYNC110 - the sink has no event, and needs none elsewhere
        await asyncio.sleep(0.001)
