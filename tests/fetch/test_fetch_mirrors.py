"""Several places for one file: who is asked, who is dropped, and who is named for wrong bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import pytest

from behaviours import CutAfter, FlipByte, IgnoreRange, Replaced, Status
from crowd_behaviours import Behind
from download_bench import CONTENT, SETTINGS, SHA256, SIZE, Bench
from memory_sink import MemorySink
from modelcask.digest import Digest
from modelcask.errors import AccessDeniedError, ConnectionInterruptedError, DigestMismatchError
from modelcask.fetch.gate import Gate
from modelcask.types import HTTPLocation, Phase
from origin import Origin, Script

OTHER = CONTENT[::-1]
LIAR = FlipByte(16_000)
"""One wrong byte in the middle of the file, under the right size and ETag."""
BACK = 15_000
"""Where the back half begins."""


@dataclass
class Places:
    """A source, its mirrors, and a download of what they share."""

    origins: list[Origin]
    """The source is the last one."""
    bench: Bench = field(init=False)

    def __post_init__(self) -> None:
        self.bench = Bench(self.origins[-1])

    def serve(self, *scripts: Script, digest: Digest | None = SHA256) -> None:
        """Give each place its script, the source's last."""
        urls = [
            origin.add("/m.gguf", CONTENT, behaviours=script)
            for origin, script in zip(self.origins, scripts, strict=True)
        ]
        digests = () if digest is None else (digest,)
        mirrors = tuple(HTTPLocation(url) for url in urls[:-1])
        self.bench.file = replace(self.bench.file, digests=digests, location=HTTPLocation(urls[-1]), mirrors=mirrors)
        self.bench.sink = MemorySink(digests=digests)

    @property
    def asked(self) -> list[int]:
        """How many requests each place has had."""
        return [len(origin.requests) for origin in self.origins]

    def named(self, reason: str = "it has sent wrong bytes") -> list[int]:
        """Return which places were named as dropped for a reason."""
        told = [message for phase, message in self.bench.phases if phase is Phase.RETRYING and reason in message]
        return [
            number
            for number, origin in enumerate(self.origins)
            if any(message.startswith(f"127.0.0.1:{origin.port} is not asked") for message in told)
        ]


@pytest.fixture
def three() -> Iterator[Places]:
    """Two mirrors and their source."""
    with ExitStack() as stack:
        yield Places([stack.enter_context(Origin()) for _ in range(3)])


async def test_a_mirror_is_asked_and_nobody_else(three: Places) -> None:
    """As long as the first one does well, the source does not even hear of it."""
    three.serve([], [], [])

    assert await three.bench.download() == SIZE
    assert three.asked == [1, 0, 0]
    assert three.bench.sink.content == CONTENT


@pytest.mark.parametrize("digest", [None, Digest("md5", "0" * 32)])
async def test_mirrors_are_not_asked_where_no_strong_digest_will_tell(three: Places, digest: Digest | None) -> None:
    """Their bytes would be believed: only the source is asked."""
    three.serve([], [], [], digest=digest)

    await three.bench.download()

    assert three.asked == [0, 0, 1]


@pytest.mark.parametrize("error", [Status(404), Status(403), Replaced(OTHER + b"more")])
@pytest.mark.parametrize("small", [True, False])
async def test_a_mirror_that_errs_for_good_is_dropped(
    three: Places, error: Status | Replaced, small: bool, request: pytest.FixtureRequest
) -> None:
    """It is named with its reason, and the others do the work."""
    if small:
        request.getfixturevalue("small_spans")
    three.serve([error], [], [])

    await three.bench.download()

    assert three.bench.sink.content == CONTENT
    assert three.named("") == [0]
    assert three.asked[2] == 0


async def test_a_dead_mirror_costs_no_wait(three: Places) -> None:
    """Nobody listens there: the next one is asked at once."""
    three.serve([], [], [])
    three.bench.file = replace(
        three.bench.file, mirrors=(HTTPLocation("http://127.0.0.1:1/m.gguf"), *three.bench.file.mirrors[1:])
    )

    await three.bench.download()

    assert three.asked == [0, 1, 0]
    assert three.bench.waits == []


async def test_the_source_is_switched_in_mid_file(three: Places) -> None:
    """What one has sent is not fetched again from the next, and the digest proves the joint."""
    three.serve([CutAfter(9_000), Status(404)], [CutAfter(8_000), Status(410)], [])

    assert await three.bench.download() == SIZE

    assert three.bench.sink.content == CONTENT
    assert sum(origin.bytes_served for origin in three.origins) == SIZE
    assert three.origins[1].requests[0].asked == "bytes=9000-"
    assert three.origins[2].requests[0].asked == "bytes=17000-"
    assert three.named() == []


async def test_when_all_fail_it_is_the_source_that_is_told(three: Places) -> None:
    """What a mirror says is not what the user asked about."""
    three.serve([Status(404)], [CutAfter(0)], [Status(401)])

    with pytest.raises(AccessDeniedError):
        await three.bench.download()


LIES: dict[str, tuple[Script, Script, Script, int]] = {
    "the first": ([LIAR], [], [], 0),
    "the first, in all of it": ([Replaced(OTHER)], [], [], 0),
    "the second": ([CutAfter(9_000), Status(404)], [LIAR], [], 1),
    "the second, in all of it": ([CutAfter(9_000), Status(404)], [Replaced(OTHER)], [], 1),
}


@pytest.mark.parametrize(("one", "two", "source", "guilty"), LIES.values(), ids=LIES)
@pytest.mark.parametrize("small", [True, False])
async def test_the_mirror_that_sent_wrong_bytes_is_found(
    *,
    three: Places,
    one: Script,
    two: Script,
    source: Script,
    guilty: int,
    small: bool,
    request: pytest.FixtureRequest,
) -> None:
    """The result is right, the guilty one is named and no other, and what it sent has come from elsewhere."""
    if small:
        request.getfixturevalue("small_spans")
    three.serve(one, two, source)

    await three.bench.download()

    assert three.bench.sink.content == CONTENT
    assert three.named() == [guilty]
    assert Phase.CHECKING in [phase for phase, _ in three.bench.phases]


@pytest.mark.usefixtures("small_spans")
async def test_the_guilty_one_is_found_among_several_that_sent_side_by_side(three: Places) -> None:
    """The first sent most of the file and the second one span of another: the second is named alone."""
    three.serve([(), Status(503, retry_after="9"), ()], [Replaced(OTHER)], [])

    await three.bench.download()

    assert three.bench.sink.content == CONTENT
    assert three.named() == [1]


async def test_who_is_named_has_been_asked_nothing_since(three: Places) -> None:
    """What the guilty one had sent is fetched from the source, and no more than that."""
    three.serve([CutAfter(9_000), Status(404)], [LIAR], [])

    received = await three.bench.download()

    assert three.asked[:2] == [1, 1]
    assert [request.asked for request in three.origins[2].requests] == ["bytes=0-8999", "bytes=9000-"]
    assert received == 2 * SIZE
    assert three.named() == [1]


async def test_the_innocent_stays_in_use(three: Places) -> None:
    """Cleared, a mirror is asked again once the source fails; the guilty one is not."""
    three.serve([CutAfter(9_000), Status(503), ()], [Behind(9_000, (LIAR,))], [(), Status(404)])

    await three.bench.download()

    assert three.bench.sink.content == CONTENT
    assert three.named() == [1]
    assert three.asked[0] == 3


async def test_where_all_are_wrong_the_callers_check_says_so(three: Places) -> None:
    """Nobody is left who could be right: the bytes stay what they are, and are not what was promised."""
    three.serve([LIAR], [LIAR], [LIAR])

    await three.bench.download()

    assert isinstance(await three.bench.sink.check(), DigestMismatchError)
    assert len(three.bench.sink.content) == SIZE


async def test_a_source_that_is_wrong_is_found_too(three: Places) -> None:
    """A mirror's part was right, and the source's is fetched again from it."""
    three.serve([CutAfter(9_000), Status(503), ()], [Status(404)], [Behind(9_000, (LIAR,)), ()])

    await three.bench.download()

    assert three.bench.sink.content == CONTENT
    assert three.named() == [2]


async def test_a_mirror_without_ranges_takes_the_whole_file_over(three: Places) -> None:
    """It is asked for a rest and answers with everything: that is written instead, and is right."""
    three.serve([CutAfter(9_000), Status(404)], [IgnoreRange()], [])

    assert await three.bench.download() == SIZE + 9_000
    assert three.bench.sink.content == CONTENT
    assert three.bench.sink.restarts == 1


async def test_what_was_fetched_is_kept_when_nobody_can_send_it_again(three: Places) -> None:
    """The source is down when the doubt comes: the error says so, and what nobody doubts stays."""
    three.serve([CutAfter(20_000), Status(404)], [Status(404)], [FlipByte(25_000), CutAfter(0)])
    three.bench.settings = replace(SETTINGS, retries=1)

    with pytest.raises(ConnectionInterruptedError) as caught:
        await three.bench.download()

    assert caught.value.bytes_kept == three.bench.sink.held.size_bytes == SIZE - 20_000


async def test_a_pause_holds_mirrors_too(three: Places) -> None:
    """While the gate is shut nobody is asked; opened, everything comes from where it would have come."""
    three.serve([], [], [])
    three.bench.pause = Gate()
    three.bench.pause.shut()
    task = asyncio.create_task(three.bench.download())
    await asyncio.sleep(0.05)
    assert three.asked == [0, 0, 0]

    three.bench.pause.open()
    await task

    assert three.asked == [1, 0, 0]


async def test_mirrors_that_cannot_be_asked_are_told(three: Places, caplog: pytest.LogCaptureFixture) -> None:
    """Without a digest nobody could prove their bytes; the user hears of it, and what to do."""
    three.serve([], [], [], digest=None)
    await three.bench.download()
    assert three.asked == [0, 0, 1]
    assert "its mirrors are not asked" in caplog.text
    assert "pin one in the URI with #sha256=" in caplog.text
