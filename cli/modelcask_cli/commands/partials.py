"""``modelcask partials`` and ``modelcask partials drop``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.app import examples, load_settings
from modelcask_cli.names import without_kind
from modelcask_cli.options import json_option, older_than_option, quiet_option

if TYPE_CHECKING:
    from modelcask_cli.documents import PartialDocument

_HEADS = ("FILE", "SIZE", "KEPT", "ON DISK", "CHANGED", "STATE")


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[drop]",
    epilog=examples("modelcask partials", "modelcask partials --json", "modelcask partials drop --older-than 7d"),
)
@json_option
@quiet_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, quiet: bool) -> None:
    """List unfinished downloads, or drop them.

    Pulling the same URI again goes on from what is kept, unless the state is useless, damaged or foreign. Where no URI
    is known, FILE is the key, which drop takes as well. ON DISK is what dropping frees: it may be more than is kept,
    because the room of a file is reserved when its download begins.
    """
    if ctx.invoked_subcommand is not None:
        if as_json or quiet:
            raise click.UsageError("options of drop stand behind it", ctx)
        return
    with modelcask.ModelCache(settings=load_settings()) as cache:
        partials = cache.list_partials()
    if as_json:
        from modelcask_cli.documents import PartialsDocument  # noqa: PLC0415

        document: PartialsDocument = {"partials": list(map(_describe, partials))}
        streams.tell_json(document)
    elif partials:
        from modelcask_cli.table import tell_table  # noqa: PLC0415

        now_us = time.time_ns() // 1000
        tell_table(_HEADS, [_cells(one, now_us) for one in partials], right={1, 2, 3, 4})
    elif not quiet:
        streams.say(f"no download is unfinished in {cache.root}")


@command.command(epilog=examples("modelcask partials drop hf://org/repo", "modelcask partials drop --all"))
@click.argument("names", metavar="[URI|KEY]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All unfinished downloads.")
@older_than_option
@json_option
@quiet_option
def drop(names: tuple[str, ...], everything: bool, older_than: int | None, as_json: bool, quiet: bool) -> int:
    """Delete unfinished downloads, and say how many bytes that frees.

    Name them by what they are of or by their keys, or say --all or how long nobody has worked at them. Those that
    somebody is at stay, and so does what modelcask has not made. A name that means none is an error, and nothing is
    deleted then.
    """
    if (everything and names) or not (everything or names or older_than is not None):
        raise click.UsageError("name what to drop by URI or key, or say --all or --older-than")
    with modelcask.ModelCache(settings=load_settings()) as cache:
        partials = cache.list_partials(*names)
        chosen = [one for one in partials if older_than is None or one.changed_at < older_than]
        done = cache.drop_partials(chosen)
    if as_json:
        from modelcask_cli.documents import DropDocument  # noqa: PLC0415

        document: DropDocument = {
            "dropped": list(map(_describe, done.dropped)),
            "kept": list(map(_describe, done.kept)),
            "bytes_freed": done.bytes_freed,
        }
        streams.tell_json(document)
    else:
        streams.tell(f"dropped {words.count(len(done.dropped), 'download')}, freed {words.size(done.bytes_freed)}")
    return _tell_kept(done.kept, named=bool(names), quiet=quiet)


def _tell_kept(kept: Sequence[modelcask.PartialFile], *, named: bool, quiet: bool) -> int:
    """Say what stays; return the exit code: that something stays is a failure only where it was named."""
    for one in kept:
        foreign = one.state is modelcask.PartialState.FOREIGN
        why = "was not made by modelcask" if foreign else "is being worked at; try again when that has ended"
        if named:
            streams.say_error(f"{_name(one)} stays: it {why}")
        elif not quiet:
            streams.say(f"{_name(one)} stays: it {why}")
    return modelcask.BusyError.exit_code if named and kept else 0


def _name(one: modelcask.PartialFile) -> str:
    if one.uri is not None:
        return without_kind(one.uri)
    if one.source is None or one.path is None:
        return modelcask.display(one.key)
    return f"{modelcask.display(one.source)} {modelcask.display(one.path)}"


def _cells(one: modelcask.PartialFile, now_us: int) -> tuple[str, ...]:
    return (
        _name(one),
        words.size(one.size_bytes),
        words.size(one.bytes_kept),
        words.size(one.bytes_on_disk),
        words.age(one.changed_at, now_us),
        "in use" if one.in_use else one.state,
    )


def _describe(one: modelcask.PartialFile) -> PartialDocument:
    from modelcask_cli.documents import time_text  # noqa: PLC0415

    return {
        "key": one.key,
        "uri": None if one.uri is None else without_kind(one.uri),
        "source": one.source,
        "revision": one.revision,
        "path": one.path,
        "state": str(one.state),
        "in_use": one.in_use,
        "size_bytes": one.size_bytes,
        "bytes_kept": one.bytes_kept,
        "bytes_on_disk": one.bytes_on_disk,
        "changed_at": time_text(one.changed_at),
    }
