"""One file over one connection: obeys ``transfer``'s decisions, retries, and resumes from what the sink holds.

Retry policy is tenacity's; what is ours is when a failed try counts. A transfer that keeps moving is never given
up, however often it is cut, so a try that carried the front beyond where it had ever been starts the count
again. Bytes that only repeat what was lost do not: a server that cuts every answer at the same place would be
asked for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import assert_never

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from modelcask.config import Settings
from modelcask.errors import ConnectionInterruptedError, TransferError
from modelcask.fetch.retry import is_worth_another_try, reason, wait_s
from modelcask.fetch.transfer import (
    Accept,
    Answer,
    Fail,
    Finished,
    Held,
    Refuse,
    judge,
    may_resume,
    next_request,
    wrong_size,
)
from modelcask.net.client import Client, Response
from modelcask.printable import display
from modelcask.types import HTTPLocation, Phase, RemoteFile, Sink

Report = Callable[[Phase, str], None]
"""Hears of each change of phase, with a reason that is safe to show. Byte progress is read from the sink."""


async def download(
    file: RemoteFile,
    sink: Sink,
    *,
    client: Client,
    settings: Settings,
    report: Report,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> int:
    """Bring the sink's bytes to the end of ``file``, which must have an HTTPLocation.

    Whether the bytes are right is for the caller to check against the promised digests. Cancelling ends it at
    once; the sink keeps its bytes. One call at a time for each sink.

    Args:
        file: what the source promised.
        sink: holds the bytes of an earlier try of the same file, or none.
        client: makes the requests.
        settings: ``retries`` bounds how many tries in a row may end with nothing new.
        report: hears of phase changes.
        sleep: waits between tries; another one only in tests.

    Returns:
        How many bytes this call received, those that were thrown away included.

    Raises:
        RemoteChangedError: resolve again. If that gives the same revision, restart the sink before the next
            call: its bytes and the server do not agree.
        TransferError: the tries are used up; ``bytes_kept`` is the sink's front, zero where those bytes could
            not be continued.
        SizeMismatchError: the server has another size than the one promised with a digest.
        AccessDeniedError, ModelNotFoundError, PolicyError: as :mod:`modelcask.net` raises them.
        StoreFullError: from the sink; not retried, because waiting frees nothing.
    """
    if not isinstance(file.location, HTTPLocation):
        raise TypeError(f"{file.path} is not at an HTTP location")
    transfer = _Transfer(file, file.location, sink, client, Held.of(file))

    def before_sleep(state: RetryCallState) -> None:
        report(Phase.RETRYING, reason(state))

    tries = AsyncRetrying(
        retry=retry_if_exception(is_worth_another_try),
        stop=stop_after_attempt(settings.retries + 1),
        wait=wait_s,
        before_sleep=before_sleep,
        sleep=sleep,
        reraise=True,
    )
    try:
        async for attempt in tries:
            with attempt:
                try:
                    await transfer.run_once(report)
                except TransferError:
                    if transfer.note_progress():
                        # stop and wait count from here: what was the nth try is the first again
                        attempt.retry_state.attempt_number = 1
                    raise
    except TransferError as error:
        if not may_resume(file, transfer.held):
            await sink.restart()
        error.bytes_kept = sink.front
        raise
    return transfer.received


@dataclass(slots=True)
class _Transfer:
    """What one call of ``download`` knows from one try to the next."""

    file: RemoteFile
    location: HTTPLocation
    sink: Sink
    client: Client
    held: Held
    received: int = 0
    refusals: int = field(default=0, init=False)
    """Refused answers since the last accepted one."""
    furthest: int = field(default=0, init=False)
    """The furthest front that bytes of this call have reached."""
    received_before: int = field(default=0, init=False)

    def note_progress(self) -> bool:
        """Return whether bytes have come since the last call and carried the front further than ever."""
        came = self.received > self.received_before
        self.received_before = self.received
        if not came or self.sink.front <= self.furthest:
            return False
        self.furthest = self.sink.front
        return True

    async def run_once(self, report: Report) -> None:
        """Make one request and write what may be written of its answer; return when the file is whole."""
        request = next_request(self.file, self.held, self.sink.front)
        if isinstance(request, Finished):
            return
        report(Phase.DOWNLOADING, "")
        async with self.client.request(
            "GET",
            self.location.url,
            headers=request.headers,
            credential=self.location.credential,
            allow_http=self.location.allow_http,
        ) as response:
            answer = Answer(response.status, response.headers, response.url)
            action = judge(self.file, self.held, request, answer)
            match action:
                case Accept():
                    await self._receive(response, action)
                case Finished():
                    return
                case Refuse(error):
                    self.refusals += 1
                    if self.refusals > 1 and self.sink.front:
                        await self.sink.restart()
                    raise error
                case Fail(error):
                    raise error
                case _:
                    assert_never(action)

    async def _receive(self, response: Response, action: Accept) -> None:
        if action.offset == 0 and self.sink.front:
            await self.sink.restart()
        self.held = action.held
        self.refusals = 0
        total = self.held.total
        async for chunk in response.chunks():
            self.received += len(chunk)
            end = self.sink.front + len(chunk)
            if total is not None and end > total:
                # What is at hand belongs to something longer; kept, it would look like the whole file.
                await self.sink.restart()
                raise wrong_size(self.file, total, end)
            await self.sink.write(chunk)
        if total is not None and self.sink.front < total:
            # Also where the framing was in order: a proxy that lost its own source ends its chunks politely.
            raise ConnectionInterruptedError(
                f"{display(self.file.path)} ended after {self.sink.front:,} of {total:,} bytes; "
                "pull again to go on from there"
            )
