"""Several models on their way as one, after node-llama-cpp's ``combineModelDownloaders``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelcask.cancellation import CancelToken
from modelcask.downloader import DownloadState, FileInfo, ModelDownloader
from modelcask.errors import PullCancelledError
from modelcask.jobs import raise_first
from modelcask.types import Phase

_TICK_S: Final = 0.1
_MEMORY_S: Final = 3.0
"""How far back the rate looks."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How a combined download stands, a file that several models share counted once."""

    downloaded_size: int
    total_size: int | None
    done_files: int
    total_files: int | None
    bytes_per_s: float | None
    seconds_left: float | None


class CombinedDownloader:
    """Several models on their way as one. Made by :func:`combine_model_downloaders`."""

    def __init__(
        self, downloaders: Iterable[ModelDownloader], on_progress: Callable[[JobProgress], None] | None
    ) -> None:
        self.downloaders = tuple(downloaders)
        self._on_progress = on_progress
        self._token = CancelToken()

    @property
    def files_info(self) -> tuple[FileInfo, ...]:
        """The files of all, one that several share once."""
        found: dict[object, FileInfo] = {}
        for downloader in self.downloaders:
            uri = downloader.uri
            for file in downloader.files_info:
                key = file.digest or (uri.source, uri.revision or uri.ref, file.path)
                if key not in found or file.bytes_done > found[key].bytes_done:
                    found[key] = file
        return tuple(found.values())

    @property
    def total_files(self) -> int | None:
        """How many files they have, None as long as nobody knows."""
        known = all(downloader.total_files for downloader in self.downloaders)
        return len(self.files_info) if known else None

    @property
    def total_size(self) -> int | None:
        """Their size in bytes, None as long as nobody knows."""
        if any(downloader.total_size is None for downloader in self.downloaders):
            return None
        return sum(file.size_bytes or 0 for file in self.files_info)

    @property
    def downloaded_size(self) -> int:
        """How many bytes of them are here."""
        return sum(file.bytes_done for file in self.files_info)

    @property
    def entrypoint_paths(self) -> list[Path | None]:
        """Where each is, None for those that are not done."""
        return [downloader.entrypoint_path for downloader in self.downloaders]

    async def download(self, *, cancel: CancelToken | None = None) -> list[Path | None]:
        """Pull all of them; return where each is, None for those that were cancelled by themselves.

        One that fails or is cancelled does not stop the others.

        Raises:
            PullCancelledError: all were cancelled, by ``cancel`` or by :meth:`cancel`.
            CacheError: the first error, after all others have ended; each further one is a note on it. What the others
                came to is in ``entrypoint_paths``.
        """
        telling = asyncio.create_task(self._tell_for_ever())
        token = self._token
        try:
            with (cancel or CancelToken()).calling(token.cancel):
                runs = [downloader.download(cancel=token) for downloader in self.downloaders]
                ended = await asyncio.gather(*runs, return_exceptions=True)
        finally:
            self._token = CancelToken()
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        self._tell(None)
        raise_first(
            [one for one in ended if isinstance(one, BaseException) and not isinstance(one, PullCancelledError)]
        )
        cancelled = [one for one in ended if isinstance(one, PullCancelledError)]
        if token.cancelled and cancelled:
            raise cancelled[0]
        return [one if isinstance(one, Path) else None for one in ended]

    def cancel(self) -> None:
        """End all that run or have not begun; do nothing if all have ended. Safe from any thread."""
        ended = {DownloadState.DONE, DownloadState.CANCELLED, DownloadState.FAILED}
        if any(downloader.state not in ended for downloader in self.downloaders):
            self._token.cancel()

    def pause(self) -> None:
        """Pause all of them."""
        for downloader in self.downloaders:
            downloader.pause()

    def resume(self) -> None:
        """Go on with all of them."""
        for downloader in self.downloaders:
            downloader.resume()

    async def _tell_for_ever(self) -> None:
        before, then = self._fetched_size(), time.monotonic()
        rate: float | None = None
        while self._on_progress is not None:
            await asyncio.sleep(_TICK_S)
            fetched, now = self._fetched_size(), time.monotonic()
            # What another attempt had left has come at no rate at all.
            current = max(fetched - before, 0) / (now - then)
            rate = current if rate is None else rate + (current - rate) * min((now - then) / _MEMORY_S, 1.0)
            before, then = fetched, now
            self._tell(rate)

    def _fetched_size(self) -> int:
        return sum(max(file.bytes_done - file.bytes_resumed, 0) for file in self.files_info)

    def _tell(self, rate: float | None) -> None:
        if self._on_progress is None:
            return
        total, done = self.total_size, self.downloaded_size
        ended = sum(file.phase in {Phase.DONE, Phase.REUSED} for file in self.files_info)
        left = (total - done) / rate if total is not None and rate else None
        self._on_progress(JobProgress(done, total, ended, self.total_files, rate or None, left))


def combine_model_downloaders(
    downloaders: Iterable[ModelDownloader], *, on_progress: Callable[[JobProgress], None] | None = None
) -> CombinedDownloader:
    """Return one downloader for many; a file that several of them have is downloaded once.

    Those of one cache share its connections and limits: that is all of them, unless they were made with another
    ``cache``, ``parallel`` or ``endpoints``.

    Args:
        downloaders: none of them running, none of them twice.
        on_progress: called with the sums on the event loop, at most ten times a second.
    """
    return CombinedDownloader(downloaders, on_progress)
