"""The arguments and options that several commands have, so that they are spelled and read the same everywhere."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGE: Final = re.compile(rf"([0-9]{{1,9}})([{''.join(_UNITS_S)}])", re.ASCII)


def complete_uri(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the cached URIs that begin so, for a shell that completes; none if anything is wrong."""
    from modelcask_cli.completion import cached_uris  # noqa: PLC0415 - only when a shell asks

    return cached_uris(ctx, incomplete)


def complete_folder(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave a folder's name to the shell. Not click.Path: what that refuses would not end as the library's errors."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only when a shell asks

    return [CompletionItem(incomplete, type="dir")]


def _read_since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return the time so long ago as an age says, in UTC microseconds."""
    if value is None:
        return None
    match = _AGE.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no age; write a number and a unit, as in 30m, 12h, 7d or 2w")
    return max(time.time_ns() // 1000 - int(match[1]) * _UNITS_S[match[2]] * 1_000_000, 0)


uri_argument = click.argument("uri", metavar="URI", shell_complete=complete_uri)
uris_argument = click.argument("uris", metavar="URI...", nargs=-1, required=True, shell_complete=complete_uri)

since_option = click.option(
    "--since", metavar="AGE", callback=_read_since, help="Only what began so long ago at most: 30m, 12h, 7d, 2w."
)
older_than_option = click.option(
    "--older-than",
    metavar="AGE",
    callback=_read_since,
    help="Only what nobody has worked at for so long: 30m, 12h, 7d, 2w.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document; docs/cli.md lists its fields."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
offline_option = click.option("--offline", is_flag=True, help="Never use the network.")
include_option = click.option(
    "--include",
    metavar="GLOB",
    multiple=True,
    help="Where a URI means several files, only those that match. May be repeated.",
)
exclude_option = click.option(
    "--exclude", metavar="GLOB", multiple=True, help="Leave out the files that match. May be repeated."
)
