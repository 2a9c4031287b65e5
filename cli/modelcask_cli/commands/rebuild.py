"""``modelcask rebuild``."""

from __future__ import annotations

import click

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.app import examples, load_settings
from modelcask_cli.options import json_option, quiet_option
from modelcask_cli.progress.work import working


@click.command(epilog=examples("modelcask rebuild"))
@json_option
@quiet_option
def command(as_json: bool, quiet: bool) -> None:
    """Make the catalog again from the files on disk.

    For when it is lost or damaged, or the file FORMAT is. Every blob is hashed again. The former catalog is kept, and
    nothing is deleted.
    """
    hashed_bytes = 0
    with modelcask.ModelCache(settings=load_settings()) as cache, working(quiet=quiet) as show:

        def hashed(size_bytes: int) -> None:
            nonlocal hashed_bytes
            hashed_bytes += size_bytes
            show(f"{words.size(hashed_bytes)} hashed")

        rebuilt = cache.rebuild(hashed=hashed)
    if as_json:
        _tell_json(rebuilt)
        return
    held = f"{words.count(rebuilt.blobs, 'blob')}, {words.size(rebuilt.size_bytes)}"
    streams.tell(f"{held}; {words.count(rebuilt.revisions, 'revision')}, {words.count(rebuilt.entries, 'file')}")
    for refused in rebuilt.refused:
        streams.say(f"left alone: {modelcask.display(refused, 2000)}")
    for missing in rebuilt.missing:
        streams.say(f"not held any more: {modelcask.display(missing, 2000)}; pull it again")
    if rebuilt.former is not None and not quiet:
        streams.say(f"the former catalog is kept as {rebuilt.former}")


def _tell_json(rebuilt: modelcask.Rebuilt) -> None:
    from modelcask_cli.documents import RebuildDocument  # noqa: PLC0415

    document: RebuildDocument = {
        "blobs": rebuilt.blobs,
        "size_bytes": rebuilt.size_bytes,
        "revisions": rebuilt.revisions,
        "entries": rebuilt.entries,
        "missing": rebuilt.missing,
        "refused": rebuilt.refused,
        "former_catalog": None if rebuilt.former is None else str(rebuilt.former),
    }
    streams.tell_json(document)
