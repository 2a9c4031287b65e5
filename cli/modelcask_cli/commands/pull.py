"""``modelcask pull``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.app import examples, load_settings
from modelcask_cli.options import exclude_option, include_option, offline_option, quiet_option, uris_argument

if TYPE_CHECKING:
    from modelcask_cli.pulling import Outcome, Wanted

_STOPPED = "stopped; what arrived is kept: run the same command to go on"


@click.command(
    epilog=examples(
        "modelcask pull hf://org/repo/model.gguf",
        "modelcask pull hf:org/repo:Q4_K_M",
        "modelcask pull hf://org/repo --include '*.safetensors' --include '*.json'",
        "modelcask pull https://host/model.gguf#sha256=...",
    )
)
@uris_argument
@include_option
@exclude_option
@click.option("--refresh", is_flag=True, help="Ask the source again even if it is cached.")
@offline_option
@click.option("--limit-rate", metavar="SIZE", help="Take at most so many bytes a second in all: 500kB, 20MB.")
@click.option("--connections", metavar="N", help="Open at most so many connections to one host.")
@click.option("--max-time", metavar="SECONDS", help="Stop after so many seconds; what has arrived is kept.")
@click.option(
    "--mirror",
    "mirrors",
    metavar="URL",
    multiple=True,
    help="Fetch the bytes from here first, in place of their source's scheme and host; used where the source promises "
    "a digest that proves them. May be repeated.",
)
@click.option("--allow-http", is_flag=True, help="Allow plain http to other machines, without a pinned digest.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line; docs/cli.md lists the fields.")
@quiet_option
def command(  # noqa: PLR0917 - click passes them by name
    uris: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    refresh: bool,
    offline: bool,
    limit_rate: str | None,
    connections: str | None,
    max_time: str | None,
    mirrors: tuple[str, ...],
    allow_http: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Make each URI cached, and print its local path.

    Several are pulled side by side; one that fails does not stop the others, and the exit code is that of the first
    in the order given that failed. A pull that was stopped goes on where it was when it is run again.
    """
    from modelcask_cli.pulling import Wanted  # noqa: PLC0415 - --help must not pay for asyncio

    settings = load_settings(
        offline=offline or None,
        allow_http=allow_http or None,
        limit_rate=limit_rate,
        connections=connections,
        max_time_s=max_time,
        mirrors=" ".join(mirrors) or None,
    )
    wanted = Wanted(uris, include, exclude, refresh=refresh)
    if as_json:
        return _pull_as_json(settings, wanted, quiet=quiet)
    return _pull(settings, wanted, quiet=quiet)


def _pull(settings: modelcask.Settings, wanted: Wanted, *, quiet: bool) -> int:
    from modelcask_cli import stopping  # noqa: PLC0415
    from modelcask_cli.pulling import pull_all  # noqa: PLC0415

    outcomes: list[Outcome] = []
    began = time.monotonic()
    try:
        with _display(quiet=quiet) as show:
            report = None if show is None else lambda _, event: show(event)
            cache = modelcask.ModelCache(settings=settings)
            stopping.run(pull_all(cache, wanted, report=report, ended=outcomes.append), message=_STOPPED)
    finally:
        outcomes.sort(key=lambda outcome: outcome.index)
        code = _tell_outcomes(outcomes)
    if not quiet:
        _sum_up(outcomes, time.monotonic() - began)
    return code


def _tell_outcomes(outcomes: Sequence[Outcome]) -> int:
    code = 0
    for outcome in outcomes:
        if isinstance(outcome.result, modelcask.Snapshot):
            streams.tell_path(outcome.result.path)
        else:
            streams.say_error(outcome.result)
            code = code or outcome.result.exit_code
    return code


def _sum_up(outcomes: Sequence[Outcome], seconds: float) -> None:
    snapshots = [outcome.result for outcome in outcomes if isinstance(outcome.result, modelcask.Snapshot)]
    if not snapshots:
        return
    files = words.count(sum(len(snapshot.entries) for snapshot in snapshots), "file")
    size = words.size(sum(snapshot.size_bytes for snapshot in snapshots))
    fetched = words.size(sum(snapshot.bytes_fetched for snapshot in snapshots))
    reused = words.size(sum(snapshot.bytes_reused for snapshot in snapshots))
    streams.say(f"{files}, {size}: {fetched} fetched, {reused} already here, {words.duration(seconds)}")


def _display(*, quiet: bool) -> contextlib.AbstractContextManager[modelcask.ProgressCallback | None]:
    if quiet:
        return contextlib.nullcontext()
    if not streams.draws(err=True):
        from modelcask_cli.progress.lines import Lines  # noqa: PLC0415

        return contextlib.nullcontext(Lines())
    from rich.console import Console  # noqa: PLC0415 - only where it can draw

    from modelcask_cli.progress.bars import Bars  # noqa: PLC0415

    return Bars(Console(stderr=True))


def _pull_as_json(settings: modelcask.Settings, wanted: Wanted, *, quiet: bool) -> int:
    from modelcask_cli import stopping  # noqa: PLC0415
    from modelcask_cli.events import Events  # noqa: PLC0415
    from modelcask_cli.pulling import pull_all, shown_uri  # noqa: PLC0415

    events = Events()
    cache = modelcask.ModelCache(settings=settings)
    names = [shown_uri(cache, uri) for uri in wanted.uris]
    report = None if quiet else events.progress
    try:
        stopping.run(pull_all(cache, wanted, report=report, ended=events.end), message=_STOPPED)
    except (modelcask.CacheError, stopping.Stopped) as error:
        # Each URI ends in one line, whatever happened.
        for index, name in enumerate(names):
            events.fail(index, name, error)
        raise
    events.close()
    return events.exit_code
