"""``modelcask ls``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import click

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.app import examples, load_settings
from modelcask_cli.names import full_pattern, short_uri
from modelcask_cli.options import json_option, quiet_option

_HEADS = ("URI", "REVISION", "FILES", "SIZE", "ADDED", "USED", "REFS")


@click.command(epilog=examples("modelcask ls", "modelcask ls 'hf://org/*' --sort size", "modelcask ls llama --json"))
@click.argument("pattern", required=False)
@click.option(
    "--sort",
    type=click.Choice(["name", "size", "used", "added"]),
    default="name",
    show_default=True,
    help="Largest, last used or newest first.",
)
@json_option
@quiet_option
def command(pattern: str | None, sort: Literal["name", "size", "used", "added"], as_json: bool, quiet: bool) -> None:
    """List what is held: a line for each revision.

    PATTERN is a glob over the URIs (* and ?); a word without either matches anywhere in them.
    """
    cache = modelcask.ModelCache(settings=load_settings())
    with cache:
        rows = cache.list_snapshots(full_pattern(pattern), sort=sort)
    if as_json:
        _tell_json(rows)
    elif rows:
        from modelcask_cli.table import tell_table  # noqa: PLC0415

        now_us = time.time_ns() // 1000
        tell_table(_HEADS, [_cells(row, now_us) for row in rows], right={2, 3, 4, 5})
    elif not quiet:
        what = "nothing is held" if pattern is None else f"nothing that is held matches {modelcask.display(pattern)}"
        streams.say(f"{what} in {cache.root}")


def _cells(row: modelcask.SnapshotRow, now_us: int) -> tuple[str, ...]:
    damaged = f" ({row.files_damaged} damaged)" if row.files_damaged else ""
    # Where the source's list is not known, neither is how many files it has.
    files = f"{row.files_held}/{row.files_known}" if row.listed else f"{row.files_held}/?"
    return (
        short_uri(row),
        words.short_revision(modelcask.display(row.revision)),
        files + damaged,
        words.size(row.size_bytes),
        words.age(row.fetched_at, now_us),
        words.age(row.last_used_at, now_us),
        ", ".join(map(modelcask.display, row.refs)),
    )


def _tell_json(rows: Sequence[modelcask.SnapshotRow]) -> None:
    from modelcask_cli.documents import ListDocument, time_text  # noqa: PLC0415

    document: ListDocument = {
        "snapshots": [
            {
                "uri": short_uri(row),
                "source": row.source,
                "revision": row.revision,
                "refs": list(row.refs),
                "listed": row.listed,
                "files_held": row.files_held,
                "files_known": row.files_known,
                "files_damaged": row.files_damaged,
                "size_bytes": row.size_bytes,
                "added_at": time_text(row.fetched_at),
                "used_at": time_text(row.last_used_at),
                "trust": [str(level) for level in row.trust],
            }
            for row in rows
        ]
    }
    streams.tell_json(document)
