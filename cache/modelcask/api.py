"""The three verbs that most programs need, on the cache that the environment names, and the caches they share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

from modelcask.cancellation import CancelToken
from modelcask.config import VARIABLES, Settings, load_settings
from modelcask.manager import ModelCache
from modelcask.types import ProgressCallback, Snapshot
from modelcask.uri import ModelURI

_guard = threading.Lock()
_defaults: dict[tuple[str | None, ...], ModelCache] = {}
_shared: dict[Settings, ModelCache] = {}


def default_cache() -> ModelCache:
    """Return the one cache of this process that the environment names now; it is never closed."""
    # One for each environment that was seen, so that a changed MODELCASK_HOME or HF_ENDPOINT is honoured.
    key = tuple(map(os.environ.get, VARIABLES))
    cache = _defaults.get(key)
    if cache is None:
        cache = _defaults.setdefault(key, shared_cache(load_settings()))
    return cache


def shared_cache(settings: Settings) -> ModelCache:
    """Return the one cache of this process with these settings; it is never closed."""
    with _guard:
        if settings not in _shared:
            _shared[settings] = ModelCache(settings=settings)
        return _shared[settings]


def lookup(uri: str | ModelURI) -> Path | None:
    """Return the local path of what ``uri`` means, None unless all of it is cached. Never uses the network."""
    return default_cache().lookup(uri)


async def lookup_async(uri: str | ModelURI) -> Path | None:
    """See :func:`lookup`."""
    return await default_cache().lookup_async(uri)


def get(uri: str | ModelURI, *, progress: ProgressCallback | None = None) -> Path:
    """Return the local path of what ``uri`` means; download it first if it is not cached.

    Raises:
        CacheError: as drawn in :mod:`modelcask.errors`.
    """
    return default_cache().get(uri, progress=progress)


async def get_async(uri: str | ModelURI, *, progress: ProgressCallback | None = None) -> Path:
    """See :func:`get`."""
    return await default_cache().get_async(uri, progress=progress)


def pull(
    *uris: str | ModelURI,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    refresh: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> list[Snapshot]:
    """Make what each URI means cached, and return a snapshot for each, in order; see :meth:`ModelCache.pull`.

    Raises:
        PullCancelledError: the token ended it.
        CacheError: the first error, after all others have ended.
    """
    return default_cache().pull(
        *uris, include=include, exclude=exclude, refresh=refresh, progress=progress, cancel=cancel
    )


async def pull_async(
    *uris: str | ModelURI,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    refresh: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> list[Snapshot]:
    """See :func:`pull`."""
    return await default_cache().pull_async(
        *uris, include=include, exclude=exclude, refresh=refresh, progress=progress, cancel=cancel
    )
