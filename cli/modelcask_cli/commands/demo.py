"""``modelcask demo``."""

from __future__ import annotations

import click

from modelcask_cli.app import examples


@click.command(epilog=examples("modelcask demo"))
def command() -> None:
    """Show what modelcask does, without a network.

    It takes a few seconds. A throw-away server on this machine hands out two small models; nothing is left behind.
    """
    from rich.console import Console  # noqa: PLC0415 - --help must not pay for it

    from modelcask_cli.demo.story import tell  # noqa: PLC0415

    tell(Console())
