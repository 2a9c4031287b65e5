"""One file over as many connections as pay: obeys ``plan``, writes into the sink, names who sent wrong bytes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, assert_never

from modelcask.errors import (
    CacheError,
    ConnectionInterruptedError,
    DigestMismatchError,
    ResponseError,
    SizeMismatchError,
    StorageError,
    StoreFullError,
    TransferError,
)
from modelcask.fetch.gate import Gate
from modelcask.fetch.limiter import Limiter
from modelcask.fetch.lines import Line, Lines
from modelcask.fetch.plan import Ask, Done, Drop, GiveUp, Place, Plan, Wait
from modelcask.fetch.retry import reason
from modelcask.fetch.transfer import (
    Accept,
    Answer,
    Fail,
    Finished,
    Refuse,
    judge,
    may_resume,
    proven_by_digest,
    wrong_size,
)
from modelcask.fetch.xet_reader import XetReader
from modelcask.net.client import Client, Response
from modelcask.printable import display
from modelcask.types import HTTPLocation, Phase, RemoteFile, Sink

_log = logging.getLogger("modelcask.fetch")

_TOO_MANY: Final = frozenset({429, 503})
_EXPIRED: Final = frozenset({400, 401, 403, 404, 410})
"""How servers say that a signed URL has run out."""

Report = Callable[[Phase, str], None]
"""Hears of each change of phase, with a reason that is safe to show. Byte progress is read from the sink."""


@dataclass(frozen=True, slots=True)
class Network:
    """What all transfers of one event loop share."""

    client: Client
    lines: Lines
    limiter: Limiter
    retries: int
    """How many tries in a row may bring nothing new."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits between tries; another one only in tests."""
    xet: XetReader | None = None
    """Reads what a Hub has in Xet storage; None: nobody does."""


async def download(
    file: RemoteFile, sink: Sink, network: Network, *, report: Report, order: int = 0, gate: Gate | None = None
) -> int:
    """Bring the sink's bytes to the end of ``file``, which must have an HTTPLocation.

    Whether the bytes are right is for the caller to check against the promised digests, except that bytes of a mirror
    are held to them here, so that they can be fetched from another. Cancelling ends it at once; the sink keeps its
    bytes. One call at a time for each sink.

    Args:
        file: what the source promised.
        sink: holds the bytes of an earlier try of the same file, or none.
        network: makes the requests.
        report: hears of phase changes.
        order: files with a lower one get their connections first.
        gate: while it is shut, no request runs.

    Returns:
        How many bytes this call received, those that were thrown away included.

    Raises:
        RemoteChangedError: resolve again. If that gives the same revision, restart the sink before the next
            call: its bytes and the server do not agree.
        TransferError: the tries are used up; ``bytes_kept`` is what the sink holds, zero where those bytes could
            not be continued.
        SizeMismatchError: the server has another size than the one promised with a digest.
        AccessDeniedError, ModelNotFoundError, PolicyError: as :mod:`modelcask.net` raises them.
        StoreFullError: from the sink; not retried, because waiting frees nothing.
    """
    if not isinstance(file.location, HTTPLocation):
        raise TypeError(f"{file.path} is not at an HTTP location")
    # Without a digest nobody could tell whether a mirror's bytes are right.
    mirrors = file.mirrors if proven_by_digest(file) else ()
    if file.mirrors and not mirrors:
        _log.warning(
            "%s: its mirrors are not asked, because no SHA-256 or BLAKE3 is promised that could prove their bytes; "
            "pin one in the URI with #sha256=…",
            display(file.path),
        )
    plan = Plan(
        file,
        [*mirrors, file.location],
        lambda: sink.held,
        retries=network.retries,
        is_patient=network.limiter.is_active,
    )
    transfer = _Transfer(file, sink, network, plan, report, order, gate or Gate())
    try:
        await transfer.run()
    except (TransferError, SizeMismatchError) as error:
        if transfer.is_void or not may_resume(file, plan.places[-1].held):
            await sink.restart()
        if isinstance(error, TransferError):
            error.bytes_kept = sink.held.size_bytes
        raise
    return transfer.received


@dataclass(slots=True)
class _Transfer:
    """One call of ``download``."""

    file: RemoteFile
    sink: Sink
    network: Network
    plan: Plan
    report: Report
    order: int
    gate: Gate
    received: int = 0
    is_void: bool = False
    """Whether what is at hand belongs to something else than the file."""
    _running: dict[asyncio.Task[None], Ask] = field(default_factory=dict)
    _queued: Ask | None = None
    """The request that waits for its connection: one at a time, so that spans are handed out lowest first."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _skipped_s: float = 0.0

    def _now(self) -> float:
        return time.monotonic() + self._skipped_s

    async def run(self) -> None:
        await self._fetch()
        while (found := await self._find_fault()) is not None:
            await self._fetch_again(*found)

    async def _fetch(self) -> None:
        try:
            while True:
                await self.gate.passed()
                step = Wait(None) if self._queued is not None else self.plan.next(self._now())
                match step:
                    case Done():
                        return
                    case GiveUp(error):
                        raise error
                    case Wait(until):
                        await self._wait(until)
                    case Drop(ask):
                        await self._end(ask)
                    case Ask():
                        self._queued = step
                        self._running[asyncio.create_task(self._run(step))] = step
                    case _:
                        assert_never(step)
        finally:
            await self._silence()

    async def _wait(self, until: float | None) -> None:
        """Return when a request has ended or got its connection, or the time has come; raise what no retry helps."""
        if not self._running and until is not None:
            await self.network.sleep(until - self._now())
            self._skipped_s += max(until - self._now(), 0.0)  # in tests, sleeping takes no time
            return
        self._changed.clear()
        changed = asyncio.create_task(self._changed.wait())
        try:
            timeout = None if until is None else until - self._now()
            await asyncio.wait({changed, *self._running}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        for task in [task for task in self._running if task.done()]:
            del self._running[task]
            if not task.cancelled():
                task.result()

    async def _end(self, ask: Ask) -> None:
        """End a request that is too slow."""
        _log.info("%s: asking anew for what %s sends too slowly", display(self.file.path), display(ask.place.host))
        for task in [task for task, its in self._running.items() if its is ask]:
            task.cancel()
            await asyncio.wait([task])
        self.plan.ended(ask, self._now())

    async def _silence(self) -> None:
        """End all other requests."""
        others = self._running.keys() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        self._queued = None  # not by its task: cancelled before it ever ran, that does nothing
        await asyncio.gather(*others, return_exceptions=True)

    async def _run(self, ask: Ask) -> None:
        """Make one request, from waiting for its connection to telling the plan how it ended."""
        try:
            async with self.network.lines.line(ask.place.host, self.order) as line:
                self._queued = None
                self._changed.set()
                self.plan.began(ask, self._now())
                try:
                    if not self.gate.is_shut:
                        await self._request(ask, line)
                except (StorageError, StoreFullError):
                    raise
                except CacheError as error:
                    self._fail(ask, error, line)
                else:
                    self.plan.ended(ask, self._now())
        finally:
            if self._queued is ask:
                self._queued = None

    def _fail(self, ask: Ask, error: CacheError, line: Line) -> None:
        ask.place.shortcut = None  # it may have been the way: asked anew, the source may know another
        if isinstance(error, ResponseError) and error.status in _TOO_MANY:
            line.too_many()
        elif isinstance(error, TransferError):
            line.broke()
        wait = self.plan.failed(ask, error, self._now())
        if wait is not None:
            _log.info("%s: %s", display(self.file.path), reason(error, wait))
            if not self._running.keys() - {asyncio.current_task()}:
                self.report(Phase.RETRYING, reason(error, wait))
        elif len(self.plan.places) > 1:
            self._drop(ask.place, str(error).partition("; ")[0])

    def _drop(self, place: Place, why: str) -> None:
        message = f"{display(place.host)} is not asked for {display(self.file.path)} any more: {why}"
        _log.warning("%s", message)
        self.report(Phase.RETRYING, message)

    async def _request(self, ask: Ask, line: Line) -> None:
        if ask.restart:
            await self.sink.restart()
        self.report(Phase.DOWNLOADING, "")
        place = ask.place
        shortcut = place.shortcut
        async with self.network.client.request(
            "GET",
            place.location.url,
            headers=ask.request.headers,
            credential=place.location.credential,
            allow_http=place.location.allow_http,
            shortcut=shortcut,
        ) as response:
            if shortcut is not None and response.status in _EXPIRED:
                if place.shortcut is shortcut:
                    place.shortcut = None  # a signed URL has run out: the next request is led to a new one
                return
            action = judge(self.file, place.held, ask.request, Answer(response.status, response.headers, response.url))
            match action:
                case Accept():
                    place.shortcut = response.shortcut
                    if self.plan.accepted(ask, action):
                        await self._silence()
                        if self.sink.held:
                            await self.sink.restart()
                    await self._receive(ask, response, line)
                case Finished():
                    self.plan.came_to_the_end(ask)
                case Refuse(error):
                    self.plan.refused(ask)
                    raise error
                case Fail(error):
                    raise error
                case _:
                    assert_never(action)

    async def _receive(self, ask: Ask, response: Response, line: Line) -> None:
        span = ask.span
        announced = self.plan.end_of(ask)
        stream = self.sink.stream(span.position)
        try:
            async for chunk in response.chunks():
                self.received += len(chunk)
                line.received(len(chunk))
                await self.network.limiter.take(len(chunk))
                end = span.position + len(chunk)
                if end > announced:
                    # What is at hand belongs to something longer; kept, it would look like the whole file.
                    self.is_void = ask.place is self.plan.places[-1]
                    raise wrong_size(self.file, announced, end)
                part = chunk if end <= span.end else chunk[: span.left]
                # Told before there is room for it: what is in front of a span meanwhile may be given to others.
                self.plan.arrived(ask, span.position, len(part))
                await stream.write(part)
                if span.end < announced and not span.left:
                    return  # somebody else fetches the rest
                if self.gate.is_shut:
                    return
        finally:
            stream.close()
            span.position = min(span.position, stream.position)  # cancelled, not all of the chunk was taken
        if self.plan.is_bounded:
            if span.left:
                # Also where the framing was in order: a proxy that lost its own source ends its chunks politely.
                raise ConnectionInterruptedError(
                    f"{display(self.file.path)} ended after {span.position:,} of {announced:,} bytes; "
                    "pull again to go on from there"
                )
        else:
            self.plan.came_to_the_end(ask)

    async def _find_fault(self) -> tuple[Place, CacheError] | None:
        """Return whose bytes may be wrong, if some are and somebody else can be asked for them."""
        if len(self.plan.places) == 1 or (suspect := self.plan.suspect) is None:
            return None
        fault = await self.sink.check()
        return (suspect, fault) if isinstance(fault, DigestMismatchError) else None

    async def _fetch_again(self, suspect: Place, fault: CacheError) -> None:
        """Have what a place has sent fetched from others, and see whether it is the same."""
        parts = list(self.plan.doubt(suspect, fault))
        before = [await self.sink.digest_of(part) for part in parts]
        await self.sink.forget(parts)
        self.report(Phase.CHECKING, f"the digest is wrong: fetching again what {display(suspect.host)} has sent")
        await self._fetch()
        is_guilty = before != [await self.sink.digest_of(part) for part in parts]
        self.plan.decide(suspect, is_guilty=is_guilty)
        if is_guilty:
            self._drop(suspect, "it has sent wrong bytes")
