"""``modelcask log``."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.app import examples, load_settings
from modelcask_cli.names import attempt_uri, full_pattern
from modelcask_cli.options import json_option, quiet_option, since_option

_HEADS = ("FILE", "WHEN", "OUTCOME", "FETCHED", "REUSED", "RATE", "ERROR")
_UNFINISHED = (modelcask.Outcome.FAILED, modelcask.Outcome.INTERRUPTED)


@click.command(
    epilog=examples("modelcask log", "modelcask log llama --failed --since 7d", "modelcask log --limit 1000 --json")
)
@click.argument("pattern", required=False)
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many lines."
)
@click.option("--failed", is_flag=True, help="Only what failed, or was interrupted when its process died.")
@since_option
@json_option
@quiet_option
def command(  # noqa: PLR0917 - click passes them by name
    pattern: str | None, limit: int, failed: bool, since: int | None, as_json: bool, quiet: bool
) -> None:
    """List the attempts to fetch files, the newest first.

    A line for each file of each pull, also for those that were here already. PATTERN is a glob (* and ?) over the
    URIs that were pulled and over the names of the files; a word without either matches anywhere in them. Attempts
    are kept for 90 days.
    """
    cache = modelcask.ModelCache(settings=load_settings())
    outcomes = _UNFINISHED if failed else None
    with cache:
        rows = cache.list_attempts(full_pattern(pattern), outcomes=outcomes, since=since, limit=limit)
    if as_json:
        _tell_json(rows)
    elif rows:
        from modelcask_cli.table import tell_table  # noqa: PLC0415

        now_us = time.time_ns() // 1000
        tell_table(_HEADS, [_cells(row, now_us) for row in rows], right={1, 3, 4, 5})
    elif not quiet:
        chosen = failed or since is not None or pattern is not None
        streams.say(f"{'no such attempt' if chosen else 'no attempt'} is known in {cache.root}")


def _cells(row: modelcask.AttemptRow, now_us: int) -> tuple[str, ...]:
    told = row.outcome not in {None, modelcask.Outcome.INTERRUPTED}
    seconds = _seconds(row)
    rate = row.bytes_fetched / seconds if seconds and row.bytes_fetched else None
    return (
        attempt_uri(row),
        words.age(row.started_at, now_us),
        row.outcome or "running",
        words.size(row.bytes_fetched) if told else "",
        words.size(row.bytes_reused) if told else "",
        "" if rate is None else f"{words.size(rate)}/s",
        modelcask.display(row.error_class or ""),
    )


def _seconds(row: modelcask.AttemptRow) -> float | None:
    return None if row.finished_at is None else max(row.finished_at - row.started_at, 0) / 1_000_000


def _tell_json(rows: Sequence[modelcask.AttemptRow]) -> None:
    from modelcask_cli.documents import LogDocument, time_text  # noqa: PLC0415

    document: LogDocument = {
        "attempts": [
            {
                "request_id": row.request_id,
                "uri": row.uri,
                "source": row.source,
                "path": row.path,
                "started_at": time_text(row.started_at),
                "finished_at": None if row.finished_at is None else time_text(row.finished_at),
                "seconds": _seconds(row),
                "outcome": row.outcome,
                "bytes_fetched": row.bytes_fetched,
                "bytes_reused": row.bytes_reused,
                "error": row.error_class,
            }
            for row in rows
        ]
    }
    streams.tell_json(document)
