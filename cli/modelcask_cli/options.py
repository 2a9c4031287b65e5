"""The arguments and options that several commands have, so that they are spelled and read the same everywhere."""

from __future__ import annotations

import click


def complete_uri(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the cached URIs that begin so, for a shell that completes; none if anything is wrong."""
    from modelcask_cli.completion import cached_uris  # noqa: PLC0415 - only when a shell asks

    return cached_uris(ctx, incomplete)


uri_argument = click.argument("uri", metavar="URI", shell_complete=complete_uri)
uris_argument = click.argument("uris", metavar="URI...", nargs=-1, required=True, shell_complete=complete_uri)

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
