"""``modelcask path``."""

from __future__ import annotations

import click

import modelcask
from modelcask_cli import streams
from modelcask_cli.app import examples, load_settings
from modelcask_cli.options import uri_argument


@click.command(epilog=examples("llama-server -m $(modelcask path hf://org/repo/model.gguf)"))
@uri_argument
def command(uri: str) -> None:
    """Print the local path of a cached URI.

    Exit 3 if it is not cached. A file for a URI that means one file, a folder for one that means several.
    Never uses the network.
    """
    with modelcask.ModelCache(settings=load_settings()) as cache:
        streams.tell_path(cache.get_path(uri))
