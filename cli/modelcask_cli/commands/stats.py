"""``modelcask stats``."""

from __future__ import annotations

from collections.abc import Iterator

import click

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.app import examples, load_settings
from modelcask_cli.options import json_option, since_option


@click.command(epilog=examples("modelcask stats", "modelcask stats --since 7d --json"))
@since_option
@json_option
def command(since: int | None, as_json: bool) -> None:
    """Tell how often files were here already, and what is saved.

    A hit is a file that a pull had without fetching a byte. --since narrows what is told of pulls, which are kept
    for 90 days; what is told of the store is as of now.
    """
    with modelcask.ModelCache(settings=load_settings()) as cache:
        found = cache.statistics(since=since)
    if as_json:
        _tell_json(found)
        return
    for name, text in _lines(found):
        streams.tell(f"{name:<12}{text}")


def _lines(found: modelcask.Statistics) -> Iterator[tuple[str, str]]:
    from modelcask_cli.documents import time_text  # noqa: PLC0415

    begun = "" if found.first_at is None else f", since {time_text(found.first_at)}"
    yield "asked", f"{words.count(found.files, 'file')} in {words.count(found.requests, 'pull')}{begun}"
    yield "hits", f"{found.hits:,}{_share(found.hits, found.files)}"
    yield "fetched", words.size(found.bytes_fetched)
    yield (
        "not fetched",
        f"{words.size(found.bytes_hit)} here already, {words.size(found.bytes_resumed)} kept in partials",
    )
    for outcome in (modelcask.Outcome.FAILED, modelcask.Outcome.CANCELLED, modelcask.Outcome.INTERRUPTED):
        number = found.outcomes.get(outcome, 0)
        if number:
            yield outcome, f"{number:,}{_why(found) if outcome is modelcask.Outcome.FAILED else ''}"
    if found.running:
        yield "running", f"{found.running:,}"
    yield "stored", f"{words.count(found.blobs, 'blob')}, {words.size(found.bytes_stored)}"
    whole = found.bytes_without_dedup
    saved = f"{words.size(found.bytes_saved)} of {words.size(whole)}{_share(found.bytes_saved, whole)}"
    yield "saved", f"{saved}, by keeping equal files once"


def _share(part: int, whole: int) -> str:
    return f" ({100 * part / whole:.1f} %)" if whole else ""


def _why(found: modelcask.Statistics) -> str:
    return ": " + ", ".join(f"{number:,} {modelcask.display(name)}" for name, number in found.failures.items())


def _tell_json(found: modelcask.Statistics) -> None:
    from modelcask_cli.documents import StatsDocument, time_text  # noqa: PLC0415

    document: StatsDocument = {
        "since": None if found.first_at is None else time_text(found.first_at),
        "pulls": found.requests,
        "files": found.files,
        "hits": found.hits,
        "hit_rate": found.hit_rate,
        "running": found.running,
        "outcomes": {str(outcome): found.outcomes.get(outcome, 0) for outcome in modelcask.Outcome},
        "failures": found.failures,
        "bytes_fetched": found.bytes_fetched,
        "bytes_hit": found.bytes_hit,
        "bytes_resumed": found.bytes_resumed,
        "blobs": found.blobs,
        "bytes_stored": found.bytes_stored,
        "bytes_without_dedup": found.bytes_without_dedup,
        "bytes_saved": found.bytes_saved,
    }
    streams.tell_json(document)
