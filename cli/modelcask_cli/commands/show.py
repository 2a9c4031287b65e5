"""``modelcask show``."""

from __future__ import annotations

import click

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.app import examples, load_settings
from modelcask_cli.options import json_option, uri_argument

_HEADS = ("FILE", "SIZE", "STATE", "TRUST", "BLOB", "PROMISED")
_SHORT_DIGEST = 12


@click.command(epilog=examples("modelcask show hf://org/repo", "modelcask show https://host/model.gguf --json"))
@uri_argument
@json_option
def command(uri: str, as_json: bool) -> None:
    """Show what is known of the revision that a URI means.

    Every known file, held or not, and how its bytes were proved. Never uses the network; exit 3 if
    nothing of it is known.
    """
    with modelcask.ModelCache(settings=load_settings()) as cache:
        detail = cache.show(uri)
    if as_json:
        _tell_json(detail)
        return
    whole = "all that the source has" if detail.listed else "the source may have more"
    streams.tell(f"source    {detail.source}")
    streams.tell(f"revision  {modelcask.display(detail.revision)}")
    streams.tell(f"folder    {modelcask.display(str(detail.folder), 4096)}")
    streams.tell(f"files     {len(detail.files):,}, {whole}")
    streams.tell("")
    from modelcask_cli.table import tell_table  # noqa: PLC0415

    tell_table(_HEADS, [_cells(file) for file in detail.files], right={1})


def _cells(file: modelcask.ShownFile) -> tuple[str, ...]:
    return (
        modelcask.display(file.path),
        words.size(file.size_bytes),
        "not held" if file.state is None else file.state,
        file.trust or "",
        "" if file.blob is None else file.blob.hex[:_SHORT_DIGEST],
        ", ".join(f"{digest.algorithm}:{digest.hex[:_SHORT_DIGEST]}" for digest in file.promised),
    )


def _tell_json(detail: modelcask.SnapshotDetail) -> None:
    from modelcask_cli.documents import ShowDocument, describe_file  # noqa: PLC0415

    document: ShowDocument = {
        "uri": detail.uri,
        "source": detail.source,
        "revision": detail.revision,
        "listed": detail.listed,
        "folder": str(detail.folder),
        "files": [{**describe_file(file), "state": file.state} for file in detail.files],
    }
    streams.tell_json(document)
