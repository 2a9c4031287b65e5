"""Progress of one pull: who hears what, how often, and how fast it goes.

A phase that changes is told at once, bytes at most ten times a second for each file. What is told of a file's bytes
never goes back, even where a server that cannot continue made the transfer begin anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from modelcask.digest import first_strong
from modelcask.types import Phase, Progress, ProgressCallback, RemoteFile

_TICK_S: Final = 0.1
_SILENCE_S: Final = 1.0
"""After so long without a byte the rate is told all the same: it falls."""
_MEMORY_S: Final = 3.0
"""How far back the rate looks."""


@dataclass(slots=True)
class _Meter:
    """What has been told of one file."""

    phase: Phase | None = None
    message: str = ""
    bytes_done: int = 0
    bytes_resumed: int = 0
    read: Callable[[], int] | None = None
    """Tells how many bytes there are now, while they change."""
    rate: float | None = None
    measured: tuple[float, int] = (0.0, 0)
    """When the rate was measured, and the bytes that there were."""
    told_at: float = 0.0

    def measure(self, now: float) -> bool:
        """Read the bytes; say whether there are more than were told."""
        told = self.bytes_done
        if self.read is not None:
            self.bytes_done = max(self.read(), told)
        then, before = self.measured
        if now > then:
            weight = min((now - then) / _MEMORY_S, 1.0)
            current = (self.bytes_done - before) / (now - then)
            self.rate = current if self.rate is None else self.rate + weight * (current - self.rate)
        self.measured = now, self.bytes_done
        return self.bytes_done > told


class Reporter:
    """Tells of one URI's pull. Used on one event loop."""

    def __init__(self, uri: str, callback: ProgressCallback | None, request_id: str = "") -> None:
        self._uri = uri
        self._callback = callback
        self._request_id = request_id
        self._meters: dict[str, _Meter] = {}

    def tell(self, phase: Phase, message: str = "", *, bytes_done: int = 0) -> None:
        """Tell of the whole URI."""
        if self._callback is not None:
            total = bytes_done or None
            self._callback(Progress(self._uri, "", phase, bytes_done, total, 0, message, self._request_id))

    def tell_file(
        self, file: RemoteFile, phase: Phase, message: str = "", *, done: int = 0, resumed: int | None = None
    ) -> None:
        """Tell of one file's phase; one that was told just before is not told again: its bytes have their own time."""
        meter = self._meters.setdefault(file.path, _Meter())
        if resumed is not None:
            meter.bytes_resumed = resumed
        if (meter.phase, meter.message) != (phase, message):
            meter.phase, meter.message = phase, message
            meter.bytes_done = max(meter.bytes_done, done)
            self._send(file, meter)

    def watch(self, file: RemoteFile, read: Callable[[], int] | None) -> None:
        """From now on learn from ``read`` how many bytes there are; None: they do not change any more."""
        meter = self._meters.setdefault(file.path, _Meter())
        meter.read = read
        if read is not None:
            meter.bytes_resumed = read()
            meter.bytes_done = max(meter.bytes_done, meter.bytes_resumed)
            meter.measured = time.monotonic(), meter.bytes_done

    async def tick(self, files: list[RemoteFile]) -> None:
        """Tell of bytes for ever."""
        while self._callback is not None:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            for file in files:
                meter = self._meters.get(file.path)
                if meter is None or meter.read is None:
                    continue
                moved = meter.measure(now)
                if moved:
                    meter.phase, meter.message = Phase.DOWNLOADING, ""
                elif meter.phase is not Phase.DOWNLOADING or now - meter.told_at < _SILENCE_S:
                    continue
                self._send(file, meter)

    def _send(self, file: RemoteFile, meter: _Meter) -> None:
        if self._callback is None or meter.phase is None:
            return
        meter.told_at = time.monotonic()
        left = None if file.size_bytes is None else file.size_bytes - meter.bytes_done
        moving = meter.phase is Phase.DOWNLOADING and meter.rate
        self._callback(
            Progress(
                self._uri,
                file.path,
                meter.phase,
                meter.bytes_done,
                file.size_bytes,
                meter.bytes_resumed,
                meter.message,
                self._request_id,
                meter.rate if moving else None,
                left / meter.rate if moving and meter.rate and left is not None else None,
                first_strong(file.digests),
            )
        )
