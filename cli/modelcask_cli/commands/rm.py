"""``modelcask rm``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.app import examples, load_settings
from modelcask_cli.options import json_option, quiet_option, uris_argument

_MOST_NAMES = 5


@click.command(epilog=examples("modelcask rm hf://org/repo --dry-run", "modelcask rm -y https://host/model.gguf"))
@uris_argument
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@quiet_option
def command(uris: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool, quiet: bool) -> int:
    """Remove what URIs name, and the bytes that nothing else needs.

    On a terminal it shows what would go, and asks. Bytes that a running process uses stay until it has ended; bytes
    that other URIs hold too stay with them. A URI of which nothing is held is an error; the others are removed.
    """
    code = 0
    plans: dict[str, modelcask.RemovalPlan] = {}
    removals: list[modelcask.Removal] = []
    with modelcask.ModelCache(settings=load_settings()) as cache:
        for uri in uris:
            try:
                plan = cache.plan_removal(uri)
                plans[plan.uri] = plan
            except modelcask.CacheError as error:
                streams.say_error(error)
                code = code or error.exit_code
        asks = not (dry_run or yes) and sys.stdin is not None and sys.stdin.isatty()
        if not as_json and (asks or not quiet):
            for plan in plans.values():
                _show(plan)
        if asks and plans and not click.confirm("Remove it?", err=True):
            streams.say("nothing was removed")
            return 1
        if not dry_run:
            # Planned again one by one: what one removal leaves may be the last that another one shared.
            removals = [cache.remove(cache.plan_removal(uri)) for uri in plans]
    if as_json:
        _tell_json(list(plans.values()), removals, dry_run=dry_run)
    else:
        _tell(list(plans.values()), removals, dry_run=dry_run)
    return code


def _show(plan: modelcask.RemovalPlan) -> None:
    names = ", ".join(map(modelcask.display, plan.paths[:_MOST_NAMES]))
    more = len(plan.paths) - _MOST_NAMES
    streams.say(f"{plan.uri}: {words.count(len(plan.paths), 'file')}: {names}{f' and {more} more' if more > 0 else ''}")
    shared = f"; {words.size(plan.bytes_shared)} stay, because others hold them too" if plan.bytes_shared else ""
    streams.say(f"  frees {words.size(plan.bytes_freed)}{shared}")


def _tell(plans: Sequence[modelcask.RemovalPlan], removals: Sequence[modelcask.Removal], *, dry_run: bool) -> None:
    if not plans:
        return
    if dry_run:
        streams.tell(f"would free {words.size(sum(plan.bytes_freed for plan in plans))}; nothing was removed")
        return
    streams.tell(f"freed {words.size(sum(removal.bytes_freed for removal in removals))}")
    in_use = sum(len(removal.in_use) for removal in removals)
    if in_use:
        stay = (
            "stays until the process that uses it ends" if in_use == 1 else "stay until the processes that use them end"
        )
        streams.say(f"{words.count(in_use, 'blob')} {stay}")


def _tell_json(plans: Sequence[modelcask.RemovalPlan], removals: Sequence[modelcask.Removal], *, dry_run: bool) -> None:
    from modelcask_cli.documents import RemovalDocument, RemoveDocument  # noqa: PLC0415

    def describe(plan: modelcask.RemovalPlan, freed: int, in_use: Sequence[modelcask.Digest]) -> RemovalDocument:
        return {
            "uri": plan.uri,
            "source": plan.source,
            "revision": plan.revision,
            "paths": list(plan.paths),
            "bytes_freed": freed,
            "bytes_shared": plan.bytes_shared,
            "in_use": [str(digest) for digest in in_use],
        }

    done = [describe(removal.plan, removal.bytes_freed, removal.in_use) for removal in removals]
    document: RemoveDocument = {
        "dry_run": dry_run,
        "removals": [describe(plan, plan.bytes_freed, ()) for plan in plans] if dry_run else done,
    }
    streams.tell_json(document)
