"""Resolving: what a URI means at its source now, or what its pin says without asking."""

from __future__ import annotations

from dataclasses import replace

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from modelcask.access import Access
from modelcask.catalog.catalog import Catalog
from modelcask.config import Settings
from modelcask.errors import OfflineError
from modelcask.fetch.retry import is_worth_another_try, reason, wait_s
from modelcask.finding import Finder
from modelcask.net.client import Client
from modelcask.reporting import Reporter
from modelcask.selection import Wanted, choose, with_pin
from modelcask.sources import find_source
from modelcask.sources.mirrors import with_mirrors
from modelcask.types import HTTPLocation, Phase, RemoteFile, Resolution
from modelcask.uri import ModelURI


async def resolve(
    uri: ModelURI, wanted: Wanted | None, settings: Settings, client: Client, reporter: Reporter | None = None
) -> Resolution:
    """Ask a URI's source what it means now, again while that is worth it; the pin is among the promises then."""
    source = find_source(uri.scheme)
    if source.needs_network and settings.offline:
        raise OfflineError(
            f"{uri.canonical} is not in the cache, and the network is forbidden (offline); pull it with the network on"
        )

    def say(state: RetryCallState) -> None:
        if reporter is not None:
            error = None if state.outcome is None else state.outcome.exception()
            reporter.tell(Phase.RETRYING, reason(error, state.upcoming_sleep))

    tries = AsyncRetrying(
        retry=retry_if_exception(is_worth_another_try),
        stop=stop_after_attempt(settings.retries + 1),
        wait=wait_s,
        before_sleep=say,
        reraise=True,
    )
    resolution = with_pin(await tries(source(settings, client).resolve, uri, wanted=wanted))
    return with_mirrors(resolution, settings.mirrors)


async def plan_without_store(
    uri: ModelURI, wanted: Wanted | None, settings: Settings, access: Access | None = None
) -> list[tuple[RemoteFile, bool]]:
    """Return what :meth:`modelcask.pulling.Puller.plan` does where there is no store yet, and make none."""
    if access is not None:
        settings = replace(settings, access=access)
    async with Client(settings) as client:
        resolution = await resolve(uri, wanted, replace(settings, retries=0), client)
        return [(file, False) for file in choose(resolution, wanted)]


def resolve_from_pin(uri: ModelURI, catalog: Catalog, finder: Finder) -> Resolution | None:
    """Resolve a plain URL whose pinned bytes the store already holds: no network at all."""
    if uri.pin is None or uri.repo is not None or uri.fetch_url is None:
        return None
    row = catalog.find_blob(uri.pin)
    if row is None or not finder.claim(row.digest):
        return None
    file = RemoteFile(uri.path, row.size_bytes, (uri.pin,), HTTPLocation(uri.fetch_url))
    # The source was not asked, so nothing is said of what its plain URI means now.
    return Resolution(replace(uri, ref=None), None, (file,), complete=False)
