"""The three verbs that most programs need, on the cache that the environment names."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

from modelcask.config import VARIABLES
from modelcask.manager import ModelCache
from modelcask.types import Snapshot
from modelcask.uri import ModelURI

_guard = threading.Lock()
_caches: dict[tuple[str | None, ...], ModelCache] = {}


def _default() -> ModelCache:
    # One cache for each environment that was seen, so that a changed MODELCASK_HOME or HF_ENDPOINT is honoured.
    key = tuple(map(os.environ.get, VARIABLES))
    cache = _caches.get(key)
    if cache is None:
        with _guard:
            cache = _caches.setdefault(key, ModelCache())
    return cache


def lookup(uri: str | ModelURI) -> Path | None:
    """Return the local path of what ``uri`` means, None unless all of it is cached. Never uses the network."""
    return _default().lookup(uri)


async def lookup_async(uri: str | ModelURI) -> Path | None:
    """See :func:`lookup`."""
    return await _default().lookup_async(uri)


def get(uri: str | ModelURI) -> Path:
    """Return the local path of what ``uri`` means; download it first if it is not cached.

    Raises:
        CacheError: as drawn in :mod:`modelcask.errors`.
    """
    return _default().get(uri)


async def get_async(uri: str | ModelURI) -> Path:
    """See :func:`get`."""
    return await _default().get_async(uri)


def pull(
    *uris: str | ModelURI, include: Iterable[str] = (), exclude: Iterable[str] = (), refresh: bool = False
) -> list[Snapshot]:
    """Make what each URI means cached; see :meth:`ModelCache.pull`."""
    return _default().pull(*uris, include=include, exclude=exclude, refresh=refresh)


async def pull_async(
    *uris: str | ModelURI, include: Iterable[str] = (), exclude: Iterable[str] = (), refresh: bool = False
) -> list[Snapshot]:
    """See :func:`pull`."""
    return await _default().pull_async(*uris, include=include, exclude=exclude, refresh=refresh)
