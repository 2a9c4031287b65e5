"""A model on its way as an object, for programs that show it, pause it and cancel it.

After node-llama-cpp's ``createModelDownloader``. What is downloaded is pulled into the cache like anything else:
proved, shared, and found by its URI afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from modelcask.access import Access
from modelcask.api import default_cache, shared_cache
from modelcask.cancellation import CancelToken
from modelcask.config import load_settings
from modelcask.digest import Digest, first_strong
from modelcask.errors import CacheError, ConfigError, PullCancelledError
from modelcask.fetch.gate import Gate
from modelcask.manager import ModelCache
from modelcask.types import Phase, Progress, ProgressCallback, Snapshot
from modelcask.uri import ModelURI

_ENDPOINTS: Final = {"huggingface": "hf_endpoint"}


class DownloadState(StrEnum):
    """How a downloader stands."""

    NEW = "new"
    RUNNING = "running"
    PAUSED = "paused"
    """running, but nothing is transferred"""
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file of a model on its way."""

    path: str
    size_bytes: int | None
    bytes_done: int
    phase: Phase
    bytes_resumed: int = 0
    """How many of ``bytes_done`` were here before."""
    digest: Digest | None = None
    """What its source promises of it, if that is a strong one: equal for equal files."""


class ModelDownloader:
    """One model on its way into the cache. Made by :func:`create_model_downloader`; used on one event loop."""

    def __init__(
        self,
        cache: ModelCache,
        uri: ModelURI,
        *,
        include: Iterable[str],
        exclude: Iterable[str],
        on_progress: ProgressCallback | None,
        access: Access | None,
        keep_partial: bool,
        request_id: str,
    ) -> None:
        self.cache = cache
        self.uri = uri
        self.request_id = request_id
        self.error: CacheError | None = None
        """Why it has failed."""
        self.snapshot: Snapshot | None = None
        """What it came to."""
        self._state = DownloadState.NEW
        self._include = include if isinstance(include, str) else tuple(include)
        self._exclude = exclude if isinstance(exclude, str) else tuple(exclude)
        self._on_progress = on_progress
        self._access = access
        self._keep_partial = keep_partial
        self._files: dict[str, FileInfo] = {}
        self._token = CancelToken()
        self._gate = Gate()

    @property
    def state(self) -> DownloadState:
        """How it stands."""
        is_paused = self._state is DownloadState.RUNNING and self._gate.is_shut
        return DownloadState.PAUSED if is_paused else self._state

    @property
    def files_info(self) -> tuple[FileInfo, ...]:
        """The files, as far as they are known: after ``prepare``, or once ``download`` has asked the source."""
        return tuple(self._files.values())

    @property
    def total_files(self) -> int | None:
        """How many files it has, None as long as nobody knows."""
        return len(self._files) or None

    @property
    def total_size(self) -> int | None:
        """Its size in bytes, None as long as nobody knows."""
        sizes = [file.size_bytes for file in self._files.values()]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None

    @property
    def downloaded_size(self) -> int:
        """How many bytes are here, those that were here before included. Never goes back."""
        return sum(file.bytes_done for file in self._files.values())

    @property
    def entrypoint_path(self) -> Path | None:
        """The local file, or the folder of a model of several; the first part of a split one. None until it is done."""
        return None if self.snapshot is None else self.snapshot.path

    async def prepare(self) -> None:
        """Learn from the source which files it has and how large they are, without downloading any.

        Raises:
            CacheError: the source cannot tell.
        """
        planned = await self.cache.plan_async(
            self.uri, include=self._include, exclude=self._exclude, access=self._access
        )
        for file in planned:
            before = self._files.get(file.path)
            if before is not None and before.bytes_done:
                continue  # a download knows more
            here = (file.size_bytes or 0) if file.held else 0
            phase = Phase.REUSED if file.held else Phase.RESOLVING
            self._files[file.path] = FileInfo(
                file.path, file.size_bytes, here, phase, here, first_strong(file.promised)
            )

    async def download(self, *, cancel: CancelToken | None = None) -> Path:
        """Pull the model and return where it is; at once if it is there already.

        Args:
            cancel: ends it, like :meth:`cancel`.

        Raises:
            PullCancelledError: it was cancelled; called again, it goes on from what is kept.
            CacheError: it failed; called again, it goes on from what is kept.
            RuntimeError: it runs already.
        """
        if self._state is DownloadState.RUNNING:
            raise RuntimeError("this download runs already: await the first call")
        self._state, self.error = DownloadState.RUNNING, None
        try:
            with (cancel or CancelToken()).calling(self._token.cancel):
                [self.snapshot] = await self.cache.pull_async(
                    self.uri,
                    include=self._include,
                    exclude=self._exclude,
                    progress=self._hear,
                    cancel=self._token,
                    gate=self._gate,
                    keep_partial=self._keep_partial,
                    access=self._access,
                    request_id=self.request_id,
                )
        except BaseException as error:
            cancelled = isinstance(error, PullCancelledError | asyncio.CancelledError)
            self._state = DownloadState.CANCELLED if cancelled else DownloadState.FAILED
            self.error = error if isinstance(error, CacheError) and not cancelled else None
            raise
        finally:
            self._token = CancelToken()
        self._state = DownloadState.DONE
        self._take(self.snapshot)
        return self.snapshot.path

    def cancel(self) -> None:
        """End the download that runs, or the first one if none has begun; else do nothing. Safe from any thread.

        What has arrived is kept unless it was made otherwise.
        """
        if self._state in {DownloadState.NEW, DownloadState.RUNNING}:
            self._token.cancel()

    def pause(self) -> None:
        """Transfer nothing until ``resume``: what has arrived stays, connections are given up. Safe from any thread."""
        self._gate.shut()

    def resume(self) -> None:
        """Go on after ``pause``. Safe from any thread."""
        self._gate.open()

    def _hear(self, event: Progress) -> None:
        if event.path:
            before = self._files.get(event.path)
            self._files[event.path] = FileInfo(
                event.path,
                event.bytes_total if before is None or event.bytes_total is not None else before.size_bytes,
                max(event.bytes_done, 0 if before is None else before.bytes_done),
                event.phase,
                event.bytes_resumed,
                event.digest if before is None or event.digest is not None else before.digest,
            )
        if self._on_progress is not None:
            self._on_progress(event)

    def _take(self, snapshot: Snapshot) -> None:
        files = {}
        for entry in snapshot.entries:
            size, before = entry.size_bytes or 0, self._files.get(entry.path)
            resumed = size if before is None else before.bytes_resumed
            digest = first_strong(entry.promised) if before is None else before.digest
            files[entry.path] = FileInfo(entry.path, size, size, Phase.DONE, resumed, digest)
        self._files = files


def create_model_downloader(
    uri: str | ModelURI,
    *,
    cache: ModelCache | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    on_progress: ProgressCallback | None = None,
    headers: Mapping[str, str] | None = None,
    tokens: Mapping[str, str] | None = None,
    endpoints: Mapping[str, str] | None = None,
    parallel: int | None = None,
    keep_partial_on_cancel: bool = True,
    request_id: str = "",
) -> ModelDownloader:
    """Return a downloader for what ``uri`` means. Nothing is asked or opened yet.

    Args:
        uri: anything that can be pulled.
        cache: where to; default: the cache that the environment names.
        include: globs, where the URI means several files.
        exclude: globs.
        on_progress: called with events on the event loop, at most ten a second for each file besides changes of
            phase. What it raises ends the download.
        headers: sent to the origin that the URI names, and to no other.
        tokens: by source: ``{"huggingface": "hf_…"}``; default: as its own tools find them.
        endpoints: by source: ``{"huggingface": "https://mirror.example"}``.
        parallel: how many connections to one host may bring bytes at a time, those of other downloaders with the
            same number included; default: the setting ``connections``.
        keep_partial_on_cancel: whether what has arrived stays when it is cancelled.
        request_id: a name of the caller's own, told with every event.

    Raises:
        InvalidURIError: the URI cannot be read.
        ConfigError: a header, token, endpoint or number cannot be used.
    """
    unknown = set(endpoints or {}) - set(_ENDPOINTS)
    if unknown:
        raise ConfigError(f"there are no endpoints for {min(unknown)!r}; known is {', '.join(_ENDPOINTS)}")
    given: dict[str, Any] = {"connections": None if parallel is None else str(parallel)}
    given |= {_ENDPOINTS[source]: url for source, url in (endpoints or {}).items()}
    checked = load_settings(**given)
    changes: dict[str, Any] = {name: getattr(checked, name) for name, value in given.items() if value is not None}
    cache = default_cache() if cache is None else cache
    if changes:
        cache = shared_cache(replace(cache.settings, **changes))
    return ModelDownloader(
        cache,
        cache.parse(uri),
        include=include,
        exclude=exclude,
        on_progress=on_progress,
        access=Access.of(tokens=tokens, headers=headers) if tokens or headers else None,
        keep_partial=keep_partial_on_cancel,
        request_id=request_id,
    )
