"""One file over Xet: what a Hub does not serve by plain HTTP. By plain HTTP all the same where Xet is not to be had."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import partial
from typing import Final

from modelcask.errors import ResponseError, TransferError
from modelcask.fetch import download as http
from modelcask.fetch.gate import Gate
from modelcask.fetch.retry import is_worth_another_try, reason, wait_after
from modelcask.fetch.xet_reader import Access, Part, XetReader
from modelcask.net import policy
from modelcask.net.status import status_error
from modelcask.printable import SafeURL, display
from modelcask.ranges import ByteRange
from modelcask.types import Phase, RemoteFile, Sink, XetLocation

_log = logging.getLogger("modelcask.fetch")

_NOT_OFFERED: Final = frozenset({404, 405, 501})
"""How a mirror of a Hub says that it knows of no Xet."""
_REFUSED: Final = range(400, 500)
_UNIX_SECONDS: Final = re.compile(r"\d{1,11}", re.ASCII)


async def download(
    file: RemoteFile, sink: Sink, network: http.Network, *, report: http.Report, order: int, gate: Gate
) -> int:
    """Do what :func:`modelcask.fetch.download.download` does, over Xet where the file says so.

    Mirrors are asked by plain HTTP. So is the Hub where there is no hf_xet, or where it gives no access to Xet.

    Raises:
        CacheError: as that does. A Hub that refuses by plain HTTP what hf_xet could have read is a ResponseError that
            says how to get hf_xet.
    """
    plainly = partial(http.download, file, sink, network, report=report, order=order, gate=gate)
    if file.xet is None or file.size_bytes is None or file.mirrors or network.xet is None:
        return await plainly()
    if not network.xet.is_installed:
        try:
            return await plainly()
        except ResponseError as error:
            if error.status not in _REFUSED or error.retryable:
                raise
            raise ResponseError(
                f"{str(error).partition('; ')[0]}; a Hub serves files of this size over Xet: "
                "pip install 'modelcask[xet]'",
                status=error.status,
                retryable=False,
                bytes_kept=error.bytes_kept,
            ) from error
    transfer = _Transfer(file.path, file.xet, file.size_bytes, sink, network, network.xet, report, gate)
    try:
        is_offered = await transfer.run()
    except TransferError as error:
        error.bytes_kept = sink.held.size_bytes
        raise
    return transfer.received if is_offered else await plainly()


@dataclass(slots=True)
class _Transfer:
    """One call of ``download``. What came over plain HTTP before, or comes afterwards, goes together with it."""

    name: str
    place: XetLocation
    size_bytes: int
    sink: Sink
    network: http.Network
    reader: XetReader
    report: http.Report
    gate: Gate
    received: int = 0

    async def run(self) -> bool:
        """Fetch what is missing; return whether the Hub gives access to Xet at all."""
        failures = 0
        while missing := self.sink.held.gaps(self.size_bytes):
            await self.gate.passed()
            before = self.received
            try:
                # Anew for each try: that it has run out is the likeliest reason why the last one ended.
                access = await self._access()
                if access is None:
                    return False
                await self._read(next(iter(missing)), access)
            except TransferError as error:
                failures = failures + 1 if self.received == before else 1
                if not is_worth_another_try(error) or failures > self.network.retries:
                    raise
                wait = wait_after(failures, error)
                _log.info("%s: %s", display(self.name), reason(error, wait))
                self.report(Phase.RETRYING, reason(error, wait))
                await self.network.sleep(wait)
        return True

    async def _access(self) -> Access | None:
        """Ask the Hub for a token of the storage; None if it knows of no such thing."""
        place = self.place.access
        async with self.network.client.request(
            "GET", place.url, credential=place.credential, allow_http=place.allow_http
        ) as answer:
            if answer.status in _NOT_OFFERED:
                _log.info("%s gives no access to Xet (%d): plain HTTP is tried", answer.url, answer.status)
                return None
            if answer.status != 200:  # noqa: PLR2004 - a status is its own name
                raise status_error(answer.status, answer.headers, answer.url)
            endpoint, token, expires_at = (
                answer.headers.get(f"X-Xet-{name}", "") for name in ("Cas-Url", "Access-Token", "Token-Expiration")
            )
            if not endpoint or not token or _UNIX_SECONDS.fullmatch(expires_at) is None:
                raise ResponseError(
                    f"{answer.url} does not say how Xet is reached; check HF_ENDPOINT", status=200, retryable=False
                )
            # hf_xet would also take local://, and make that folder.
            storage = policy.next_hop(policy.read_url(place.url), endpoint, status=200)
            policy.check_plain_http(storage, allowed=place.allow_http)
        _log.debug("%s: reading from %s", display(self.name), SafeURL(str(storage)))
        return Access(str(storage).rstrip("/"), token, int(expires_at))

    async def _read(self, span: ByteRange, access: Access) -> None:
        self.report(Phase.DOWNLOADING, "")
        stream = self.sink.stream(span.start)
        part = Part(self.name, self.place.hash, self.size_bytes, span)
        try:
            async with self.reader.read(part, access) as chunks:
                async for chunk in chunks:
                    self.received += len(chunk)
                    await self.network.limiter.take(len(chunk))
                    await stream.write(chunk)
                    if self.gate.is_shut:
                        return
        finally:
            stream.close()
