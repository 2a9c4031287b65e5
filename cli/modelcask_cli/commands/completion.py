"""``modelcask completion``."""

from __future__ import annotations

import click

from modelcask_cli import streams
from modelcask_cli.app import examples


@click.command(
    epilog=examples(
        "modelcask completion bash >> ~/.bashrc",
        "modelcask completion zsh >> ~/.zshrc",
        "modelcask completion fish > ~/.config/fish/completions/modelcask.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that makes a shell complete.

    It completes commands, options, and the URIs of what is held.
    """
    from modelcask_cli.completion import script  # noqa: PLC0415 - only here and when a shell asks

    streams.tell(script(shell).rstrip("\n"))
