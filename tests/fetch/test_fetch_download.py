"""Downloads over a real connection: what is asked for, how often, after which waits, and what is kept."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from behaviours import (
    Chunked,
    ContentRange,
    CutAfter,
    ETag,
    Gate,
    HoldAfter,
    IgnoreRange,
    NotSatisfiable,
    Replaced,
    StallAfter,
    Status,
)
from memory_sink import MemorySink
from modelcask.config import Settings
from modelcask.digest import Digest
from modelcask.errors import (
    AccessDeniedError,
    ConnectionInterruptedError,
    OfflineError,
    RemoteChangedError,
    ResponseError,
    SizeMismatchError,
    StoreFullError,
    TransferTimeoutError,
)
from modelcask.fetch.download import download
from modelcask.net import Client
from modelcask.types import Credential, FileLocation, HTTPLocation, Phase, RemoteFile
from origin import TLS_MISSING, Origin, Script
from reply import etag_of

CONTENT = random.Random(3).randbytes(30_000)
SIZE = len(CONTENT)
SHA256 = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())
FILE = RemoteFile("m.gguf", SIZE, (), HTTPLocation(""), etag_of(CONTENT))
DEAD = CutAfter(0)
"""A head, and no byte of the body."""
SETTINGS = Settings(home=Path("unused"), retries=3, stall_timeout_s=60.0)


@dataclass
class Bench:
    """A download of ``CONTENT`` from a scripted origin, and all that can be seen of it."""

    origin: Origin
    sink: MemorySink = field(default_factory=MemorySink)
    waits: list[float] = field(default_factory=list)
    phases: list[tuple[Phase, str]] = field(default_factory=list)
    settings: Settings = SETTINGS
    file: RemoteFile = FILE

    def serve(self, script: Script = (), *, content: bytes = CONTENT, etag: str | None = "auto") -> None:
        url = self.origin.add("/m.gguf", content, behaviours=script, etag=etag)
        self.file = replace(self.file, location=HTTPLocation(url))

    async def download(self) -> int:
        async with Client(self.settings) as client:
            return await download(
                self.file,
                self.sink,
                client=client,
                settings=self.settings,
                report=lambda phase, message: self.phases.append((phase, message)),
                sleep=self._sleep,
            )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    @property
    def ranges(self) -> list[str | None]:
        """The Range of each request so far."""
        return [request.headers.get("Range") for request in self.origin.requests]


@pytest.fixture
def bench(origin: Origin) -> Bench:
    return Bench(origin)


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
    bench.serve([CutAfter(10_000), CutAfter(5_000), HoldAfter(0, _open_gate())])

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
    assert "ended before the last byte; trying again in" in bench.phases[1][1]


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
    assert caught.value.bytes_kept == bench.sink.front == 10_000


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
    assert least <= bench.waits[0] <= most


async def test_a_busy_server_is_named_while_waiting(bench: Bench) -> None:
    """The reason for a pause is told, and the next step is ours and not the user's."""
    bench.serve([CutAfter(10_000), Status(503, retry_after="3"), ()])

    await bench.download()

    reasons = [message for phase, message in bench.phases if phase is Phase.RETRYING]
    assert "answered 503" in reasons[1]
    assert reasons[1].endswith("trying again in 3 s")


async def test_bytes_survive_a_failed_download(bench: Bench) -> None:
    """When the tries are used up the bytes are kept, the error says how many, and the next call goes on."""
    bench.serve([CutAfter(10_000), DEAD])

    with pytest.raises(ConnectionInterruptedError) as caught:
        await bench.download()
    assert caught.value.bytes_kept == bench.sink.front == 10_000
    bench.serve()
    received = await bench.download()

    assert received == SIZE - 10_000
    assert bench.sink.content == CONTENT


async def test_bytes_that_could_not_be_continued_are_not_called_kept(bench: Bench) -> None:
    """Without proof nothing can go on from there, and the error does not say so."""
    bench.serve([CutAfter(10_000), DEAD], etag=None)
    bench.file = replace(bench.file, etag=None)

    with pytest.raises(ConnectionInterruptedError) as caught:
        await bench.download()

    assert caught.value.bytes_kept == bench.sink.front == 0


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
    assert caught.value.bytes_kept == bench.sink.front == 10_000


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


async def test_a_body_is_stopped_one_byte_past_the_promise(bench: Bench) -> None:
    """Endless data is not read to its end, and nothing of it stays: it would look like the whole file."""
    bench.serve([(Replaced(CONTENT + bytes(50_000_000)), ETag(etag_of(CONTENT)), Chunked())])
    bench.file = replace(bench.file, digests=(SHA256,))

    with pytest.raises(SizeMismatchError) as caught:
        await bench.download()

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
    await asyncio.to_thread(gate.wait)
    while bench.sink.front < 10_000:  # noqa: ASYNC110 - the sink has no event, and needs none elsewhere
        await asyncio.sleep(0.001)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.sink.content == CONTENT[:10_000]
    assert bench.waits == []
    gate.open()


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
    """A disk with no room after the first bytes."""

    async def write(self, chunk: bytes) -> None:
        if self.front:
            raise StoreFullError(needed=SIZE, available=0)
        await super().write(chunk[:100])


async def test_a_full_disk_is_not_retried(bench: Bench) -> None:
    """Waiting frees nothing; what is written stays."""
    bench.serve([(Chunked(), HoldAfter(10_000, _open_gate()))])
    bench.sink = FullSink(b"x")
    bench.file = replace(bench.file, digests=(SHA256,))

    with pytest.raises(StoreFullError):
        await bench.download()
    assert bench.waits == []
    assert bench.sink.front == 1


async def test_offline_asks_nobody(bench: Bench) -> None:
    """No connection is made, and no second try."""
    bench.serve()
    bench.settings = replace(SETTINGS, offline=True)

    with pytest.raises(OfflineError):
        await bench.download()
    assert bench.origin.requests == []
    assert bench.waits == []


async def test_the_token_travels_with_every_try(bench: Bench) -> None:
    """The credential of the location goes to its origin, also when a try is repeated."""
    bench.serve([CutAfter(10_000), ()])
    url = f"{bench.origin.url}/m.gguf"
    bench.file = replace(bench.file, location=HTTPLocation(url, Credential(bench.origin.url, "Bearer s3cret")))

    await bench.download()

    assert [request.headers["Authorization"] for request in bench.origin.requests] == ["Bearer s3cret"] * 2
    assert not any("s3cret" in message for _, message in bench.phases)


async def test_a_local_file_is_not_a_download(bench: Bench) -> None:
    """Files on this machine are the caller's: said as a bug, not as an error of the network."""
    bench.file = replace(bench.file, location=FileLocation(Path("/x")))

    with pytest.raises(TypeError, match=r"m\.gguf"):
        await bench.download()


async def test_refused_answers_are_typed_in_the_end(bench: Bench) -> None:
    """A server that cannot be reasoned with ends in one error, with its status."""
    bench.serve([Status(500)])

    with pytest.raises(ResponseError) as caught:
        await bench.download()
    assert caught.value.status == 500


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


def _open_gate() -> Gate:
    gate = Gate()
    gate.open()
    return gate
