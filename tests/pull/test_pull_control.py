"""Control of pulls: cancelling, pausing, limits of time and rate, and what is told meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import modelcask
from behaviours import CutAfter, Gate, HoldAfter, IgnoreRange, Normal, StallAfter, throttle
from modelcask import Phase
from modelcask.fetch import plan
from origin import Origin

CONTENT = bytes(range(256)) * 40_000  # 10 MB
SMALL = os.urandom(1000)
PINNED = f"#sha256={hashlib.sha256(CONTENT).hexdigest()}"
_ENDS = {Phase.DONE, Phase.REUSED, Phase.FAILED, Phase.CANCELLED}


@pytest.fixture
def cache() -> Iterator[modelcask.ModelCache]:
    with modelcask.ModelCache() as cache:
        yield cache


class Arrived:
    """A progress callback that another thread waits for: until a file has so many bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._event = threading.Event()

    def __call__(self, event: modelcask.Progress) -> None:
        if event.bytes_done >= self._size:
            self._event.set()

    def wait(self) -> None:
        assert self._event.wait(60), "so many bytes never came"


def partials(cask: Path) -> list[Path]:
    return list((cask / "partial").iterdir())


# Cancelling.


def test_a_token_cancelled_before_lets_nothing_begin(cache: modelcask.ModelCache, origin: Origin) -> None:
    """The pull ends with an error of its own, and the source is not asked."""
    token = modelcask.CancelToken()
    token.cancel()
    with pytest.raises(modelcask.PullCancelledError) as caught:
        cache.pull(origin.add("/m.bin", CONTENT), cancel=token)
    assert caught.value.exit_code == 130
    assert caught.value.retryable
    assert origin.requests == []


def test_a_token_cancelled_from_another_thread_ends_the_pull_and_keeps_what_arrived(
    cache: modelcask.ModelCache, origin: Origin, cask: Path
) -> None:
    """Within a second; the error says that the bytes are kept, and the next pull fetches only the rest."""
    gate, token = Gate(), modelcask.CancelToken()
    uri = origin.add("/m.bin", CONTENT, behaviours=[HoldAfter(6_000_000, gate), Normal()])
    cancelled: list[float] = []
    arrived = Arrived(5_000_000)

    def cancel() -> None:
        arrived.wait()
        cancelled.append(time.monotonic())
        token.cancel()
        token.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(modelcask.PullCancelledError, match="what has arrived is kept: pull again to go on") as caught:
        cache.pull(uri, cancel=token, progress=arrived)
    passed = time.monotonic() - cancelled[0]
    thread.join()
    gate.open()

    assert passed < 5  # a second on a machine of one's own
    assert (caught.value.uri, caught.value.kept) == (uri, True)
    assert len(partials(cask)) == 1
    [attempt] = cache.list_attempts()
    assert attempt.outcome is modelcask.Outcome.CANCELLED
    [snapshot] = cache.pull(uri)
    assert snapshot.path.read_bytes() == CONTENT
    assert snapshot.bytes_reused > 0
    assert origin.requests[-1].asked == f"bytes={snapshot.bytes_reused}-"


def test_a_pull_that_never_got_to_its_files_is_an_attempt_too(cache: modelcask.ModelCache, origin: Origin) -> None:
    """What the log is asked about most is what failed: its row has no path, since nobody knew the files."""
    with pytest.raises(modelcask.ModelNotFoundError):
        cache.pull(origin.url + "/no-such.gguf")
    [attempt] = cache.list_attempts()
    assert (attempt.path, attempt.outcome) == ("", modelcask.Outcome.FAILED)
    assert attempt.uri == origin.url + "/no-such.gguf"
    assert attempt.error_class == "ModelNotFoundError"


def test_nothing_is_kept_where_that_is_wanted(cache: modelcask.ModelCache, origin: Origin, cask: Path) -> None:
    """With ``keep_partial=False`` the partial goes with the pull, and the error says so."""
    gate, token, arrived = Gate(), modelcask.CancelToken(), Arrived(5_000_000)
    uri = origin.add("/m.bin", CONTENT, behaviours=[HoldAfter(6_000_000, gate)])
    thread = threading.Thread(target=lambda: (arrived.wait(), token.cancel()))
    thread.start()
    with pytest.raises(modelcask.PullCancelledError, match="what had arrived is deleted") as caught:
        cache.pull(uri, cancel=token, progress=arrived, keep_partial=False)
    thread.join()
    gate.open()
    assert not caught.value.kept
    assert partials(cask) == []


def test_one_token_ends_all_pulls_that_were_begun_with_it(cache: modelcask.ModelCache, origin: Origin) -> None:
    """Those that run, whichever call began them, and those that come later; others go on."""
    gates = [Gate(), Gate(), Gate()]
    uris = [
        origin.add(f"/{n}.bin", CONTENT + bytes([n]), behaviours=[HoldAfter(5_000_000, gate)])
        for n, gate in enumerate(gates)
    ]
    token = modelcask.CancelToken()

    async def main() -> list[object]:
        async with cache:
            pulls = [
                asyncio.create_task(cache.pull_async(*uris[:2], cancel=token)),
                asyncio.create_task(cache.pull_async(uris[2])),
            ]
            for gate in gates:
                await asyncio.to_thread(gate.wait)
            token.cancel()
            first = await asyncio.gather(pulls[0], return_exceptions=True)
            for gate in gates:
                gate.open()
            later = await asyncio.gather(cache.pull_async(uris[0], cancel=token), return_exceptions=True)
            return [*first, *later, await pulls[1]]

    first, later, other = asyncio.run(main())
    assert isinstance(first, modelcask.PullCancelledError)
    assert [note for note in first.__notes__ if "1.bin was cancelled" in note]
    assert isinstance(later, modelcask.PullCancelledError)
    assert isinstance(other, list)


def test_a_cancelled_task_ends_like_a_token(cache: modelcask.ModelCache, origin: Origin, cask: Path) -> None:
    """asyncio's own cancelling, with its own error; the bytes are kept and no lock is held."""
    gate, arrived = Gate(), Arrived(5_000_000)
    uri = origin.add("/m.bin", CONTENT, behaviours=[HoldAfter(6_000_000, gate), Normal()])

    async def main() -> None:
        pull = asyncio.create_task(cache.pull_async(uri, progress=arrived))
        await asyncio.to_thread(arrived.wait)
        pull.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pull

    asyncio.run(main())
    gate.open()
    assert len(partials(cask)) == 1
    assert not list((cask / "locks").glob("uri-*"))
    assert cache.pull(uri)[0].bytes_reused > 0


def test_what_a_callback_raises_ends_the_pull(cache: modelcask.ModelCache, origin: Origin) -> None:
    """The program's own error comes out as it is, whenever it is raised, and the next pull goes on."""

    class Mine(Exception):  # noqa: N818 - a program's
        pass

    uri = origin.add("/m.bin", CONTENT, behaviours=[throttle(10_000_000)])
    for when in (Phase.RESOLVING, Phase.DOWNLOADING, Phase.PUBLISHING):

        def hear(event: modelcask.Progress, when: Phase = when) -> None:
            if event.phase is when and (when is not Phase.DOWNLOADING or event.bytes_done > 2_000_000):
                raise Mine

        with pytest.raises(Mine):
            cache.pull(uri, progress=hear)
    assert cache.pull(uri)[0].path.read_bytes() == CONTENT


# Pausing, and limits.


def test_a_gate_stops_the_bytes_of_a_pull_from_another_thread(cache: modelcask.ModelCache, origin: Origin) -> None:
    """While it is shut the origin sends nothing; opened, the pull goes on with what is missing, and loses nothing."""
    content = os.urandom(20 << 20)
    uri = origin.add("/m.bin", content, behaviours=[throttle(10 << 20)])
    gate, ended = modelcask.Gate(), threading.Event()
    found: list[modelcask.Snapshot] = []

    def pull() -> None:
        found.extend(cache.pull(uri, gate=gate))
        ended.set()

    thread = threading.Thread(target=pull)
    thread.start()
    _until(lambda: origin.bytes_served > 4 << 20)
    gate.shut()
    _until_quiet(origin)
    served = origin.bytes_served
    assert not ended.wait(0.5)
    assert origin.bytes_served == served < len(content)
    gate.open()
    thread.join()
    assert found[0].path.read_bytes() == content
    # What the kernel had of the connections that were given up is fetched again.
    assert origin.bytes_served < len(content) + (16 << 20)


def _until(true: object, timeout_s: float = 60.0) -> None:
    assert callable(true)
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def _until_quiet(origin: Origin) -> None:
    served = -1
    while origin.bytes_served != served:
        served = origin.bytes_served
        time.sleep(0.3)


def test_a_time_limit_ends_the_pull_and_keeps_what_arrived(origin: Origin, cask: Path) -> None:
    """The error is that of a time limit, names it, and the next pull goes on."""
    uri = origin.add("/m.bin", CONTENT, behaviours=[StallAfter(6_000_000), Normal()])
    with (
        modelcask.ModelCache(settings=modelcask.load_settings(max_time_s=1.5)) as cache,
        pytest.raises(modelcask.TransferTimeoutError, match=r"was not there after 1\.5 s; what has arrived is kept"),
    ):
        cache.pull(uri)
    assert len(partials(cask)) == 1
    with modelcask.ModelCache() as cache:
        assert cache.pull(uri)[0].bytes_reused > 0


@pytest.mark.usefixtures("_split")
def test_a_rate_limit_holds_for_all_files_and_connections_together(origin: Origin) -> None:
    """Two files in several ranges each, from an origin that would send all at once, take as long as the limit says."""
    limit, contents = 8_000_000, [os.urandom(10_000_000) for _ in range(2)]
    uris = [
        origin.add(f"/{n}.bin", content) + f"#sha256={hashlib.sha256(content).hexdigest()}"
        for n, content in enumerate(contents)
    ]
    events: list[tuple[float, modelcask.Progress]] = []
    with modelcask.ModelCache(settings=modelcask.load_settings(limit_rate=limit)) as cache:
        snapshots = cache.pull(*uris, progress=lambda event: events.append((time.monotonic(), event)))

    assert [snapshot.path.read_bytes() for snapshot in snapshots] == contents
    assert sum("Range" in request.headers for request in origin.requests) > 2
    began = min(now for now, event in events if event.phase is Phase.DOWNLOADING)
    ended = max(now for now, event in events if event.phase is Phase.VERIFYING)
    rate = 20_000_000 / (ended - began)
    assert rate < limit * 1.15  # how slow it may be depends on the machine


@pytest.fixture
def _split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file of ten megabytes fetched in ranges, several at a time."""
    monkeypatch.setattr(plan, "SPLIT_BYTES", 1 << 20)
    monkeypatch.setattr(plan, "SPAN_BYTES", (2 << 20, 4 << 20))


# Progress.


def _heard(cache: modelcask.ModelCache, *uris: str) -> dict[str, list[tuple[float, modelcask.Progress]]]:
    """Pull; return the events of each file with their times."""
    events: dict[str, list[tuple[float, modelcask.Progress]]] = defaultdict(list)
    thread = threading.get_ident()

    def hear(event: modelcask.Progress) -> None:
        assert threading.get_ident() == thread
        events[event.path].append((time.monotonic(), event))

    cache.pull(*uris, progress=hear, request_id="job 7")
    return events


@pytest.mark.usefixtures("_split")
def test_bytes_are_told_at_most_ten_times_a_second(cache: modelcask.ModelCache, origin: Origin) -> None:
    """However many ranges a file comes in: no eleven events about bytes begin within a second."""
    content = os.urandom(24 << 20)
    uri = origin.add("/m.bin", content, behaviours=[throttle(4 << 20)])
    events = _heard(cache, uri)["m.bin"]
    times = [now for (now, event), (_, before) in zip(events[1:], events, strict=False) if event.phase is before.phase]
    assert len([request for request in origin.requests if request.method == "GET"]) > 5
    assert len(times) > 5
    assert not [1 for first, eleventh in zip(times, times[10:], strict=False) if eleventh - first < 0.95]


def test_each_event_names_the_request_and_the_phases_are_in_order(cache: modelcask.ModelCache, origin: Origin) -> None:
    """From resolving to done; the rate and what is left are told while bytes come, and only then."""
    uri = origin.add("/m.bin", CONTENT, behaviours=[throttle(5_000_000)]) + PINNED
    told = _heard(cache, uri)
    events = [event for _, event in told["m.bin"]]
    assert {event.request_id for path in told for _, event in told[path]} == {"job 7"}
    assert {event.uri for path in told for _, event in told[path]} == {uri}
    assert [event.phase for _, event in told[""]] == [Phase.RESOLVING]
    phases = [event.phase for event in events]
    assert [phase for phase, before in zip(phases, [None, *phases], strict=False) if phase is not before] == [
        Phase.RESOLVING,
        Phase.CHECKING,
        Phase.DOWNLOADING,
        Phase.VERIFYING,
        Phase.PUBLISHING,
        Phase.DONE,
    ]
    done = [event.bytes_done for event in events]
    assert done == sorted(done)
    assert done[-1] == len(CONTENT)
    assert {event.bytes_total for event in events} == {len(CONTENT)}
    assert {str(event.digest) for event in events} == {PINNED[1:].replace("=", ":")}
    moving = [event for event in events if event.bytes_per_s is not None]
    assert {event.phase for event in moving} == {Phase.DOWNLOADING}
    for event in moving:
        assert event.bytes_per_s is not None
        assert event.seconds_left == pytest.approx((len(CONTENT) - event.bytes_done) / event.bytes_per_s)
    # A tick on a busy machine may be late, so single figures jump; the origin's own rate stands in the middle.
    rates = sorted(event.bytes_per_s for event in moving if event.bytes_per_s is not None)
    assert 500_000 < rates[len(rates) // 2] < 10_000_000


def test_bytes_that_are_told_never_go_back(cache: modelcask.ModelCache, origin: Origin) -> None:
    """Also where the server cannot continue, so that the transfer begins anew."""
    again = [(IgnoreRange(), CutAfter(3_000_000)), (IgnoreRange(), throttle(20_000_000))]
    uri = origin.add("/m.bin", CONTENT, behaviours=[CutAfter(7_000_000), *again])
    events = [event for _, event in _heard(cache, uri)["m.bin"]]
    assert origin.bytes_served > len(CONTENT) + 1_000_000
    assert Phase.RETRYING in {event.phase for event in events}
    assert all(before.bytes_done <= event.bytes_done <= len(CONTENT) for before, event in pairwise(events))
    assert events[-1].phase is Phase.DONE


def test_a_rate_falls_when_nothing_comes(origin: Origin) -> None:
    """A transfer that hangs is told about once a second, so that nobody reads the last rate for ever."""
    uri = origin.add("/m.bin", CONTENT, behaviours=[StallAfter(8_000_000), Normal()])
    events: list[modelcask.Progress] = []
    with modelcask.ModelCache(settings=modelcask.load_settings(stall_timeout_s=4.0)) as cache:
        cache.pull(uri, progress=events.append)
    gave_up = next(number for number, event in enumerate(events) if event.phase is Phase.RETRYING)
    hung = [event for event in events[:gave_up] if event.bytes_done == 8_000_000]
    rates = [event.bytes_per_s for event in hung if event.bytes_per_s is not None]
    assert len(rates) >= 2
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0]


def test_what_was_kept_is_told_as_resumed(cache: modelcask.ModelCache, origin: Origin) -> None:
    """The first bytes that are told of a pull that goes on are those that were here, and are not counted as fetched."""
    gate, token, arrived = Gate(), modelcask.CancelToken(), Arrived(5_000_000)
    uri = origin.add("/m.bin", CONTENT, behaviours=[HoldAfter(6_000_000, gate), throttle(10_000_000)])
    thread = threading.Thread(target=lambda: (arrived.wait(), token.cancel()))
    thread.start()
    with pytest.raises(modelcask.PullCancelledError):
        cache.pull(uri, cancel=token, progress=arrived)
    thread.join()
    gate.open()
    events = [event for _, event in _heard(cache, uri)["m.bin"]]
    kept = next(event for event in events if event.bytes_done)
    assert 0 < kept.bytes_done == kept.bytes_resumed <= 6_000_000
    assert {event.bytes_resumed for event in events if event.bytes_done} == {kept.bytes_done}
    rates = [event.bytes_per_s for event in events if event.bytes_per_s is not None]
    assert max(rates) < 40_000_000  # kept bytes have come at no rate


def test_files_of_one_pull_all_begin_and_end(cache: modelcask.ModelCache, origin: Origin) -> None:
    """Whoever adds up knows the whole job before the first byte, and each file ends in one way."""
    uris = [origin.add(f"/{n}.bin", SMALL + bytes([n])) for n in range(20)]
    for path, told in _heard(cache, *uris).items():
        phases = [event.phase for _, event in told]
        assert phases[0] is Phase.RESOLVING, path
        if path:
            assert phases[-1] is Phase.DONE
            assert [phase for phase in phases if phase in _ENDS] == [Phase.DONE]
