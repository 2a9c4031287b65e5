"""Pulling several URIs side by side, each with its own end: one that fails does not stop the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import modelcask


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asked for."""

    uris: Sequence[str]
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the pull of one URI ended."""

    index: int
    uri: str
    """The canonical URI, or what may be shown of one that cannot be read."""
    result: modelcask.Snapshot | modelcask.CacheError


Report = Callable[[int, modelcask.Progress], None]


async def pull_all(
    cache: modelcask.ModelCache, wanted: Wanted, *, report: Report | None, ended: Callable[[Outcome], None]
) -> None:
    """Pull each URI in a task of its own; call ``ended`` with each outcome as it comes.

    Cancelled, it keeps what has arrived; ``ended`` is not called for what was still on its way.

    Raises:
        CacheError: the store cannot be opened, so nothing could be begun.
    """

    def tell(index: int, event: modelcask.Progress) -> None:
        if report is not None:
            report(index, event)

    async def pull_one(index: int, uri: str) -> None:
        result: modelcask.Snapshot | modelcask.CacheError
        try:
            [result] = await cache.pull_async(
                uri,
                include=wanted.include,
                exclude=wanted.exclude,
                refresh=wanted.refresh,
                progress=partial(tell, index),
            )
        except modelcask.CacheError as error:
            result = error
        ended(Outcome(index, shown_uri(cache, uri), result))

    async with cache, asyncio.TaskGroup() as group:
        for index, uri in enumerate(wanted.uris):
            group.create_task(pull_one(index, uri))


def shown_uri(cache: modelcask.ModelCache, uri: str) -> str:
    """Return the canonical form of a URI, or as much of one that cannot be read as may be shown."""
    try:
        return cache.parse(uri).canonical
    except modelcask.InvalidURIError as error:
        return error.text
