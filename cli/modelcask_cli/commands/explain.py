"""``modelcask explain``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.app import examples, load_settings
from modelcask_cli.options import exclude_option, include_option, json_option, offline_option, uri_argument

_MOST_FILES = 20


@click.command(
    epilog=examples("modelcask explain hf:org/repo:Q4_K_M", "modelcask explain https://host/model.gguf --offline")
)
@uri_argument
@include_option
@exclude_option
@offline_option
@json_option
def command(uri: str, include: tuple[str, ...], exclude: tuple[str, ...], offline: bool, as_json: bool) -> None:
    """Tell how a URI is read, and what a pull would fetch.

    Also what is cached of it. Asks the source unless all of it is cached; that it cannot be
    asked is told, and is no failure.
    """
    from modelcask_cli import stopping  # noqa: PLC0415 - --help must not pay for asyncio

    with modelcask.ModelCache(settings=load_settings(offline=offline or None)) as cache:
        explanation = stopping.run(cache.explain_async(uri, include=include, exclude=exclude))
        try:
            detail = cache.show(explanation.uri)
        except modelcask.NotFoundError:
            detail = None
    if as_json:
        _tell_json(explanation, detail)
        return
    for name, text in _lines(explanation, detail):
        streams.tell(f"{name:<12}{text}".rstrip())


def _held(detail: modelcask.SnapshotDetail) -> int:
    return sum(file.state is not None for file in detail.files)


def _part(detail: modelcask.SnapshotDetail | None) -> str:
    """Say how much of the revision is held where what the URI means is not."""
    held = 0 if detail is None else _held(detail)
    if detail is None or not held:
        return "no"
    if detail.listed:
        return f"in part: {held:,} of the revision's {words.count(len(detail.files), 'file')}"
    return f"in part: {words.count(held, 'file')} of the revision"


def _lines(explanation: modelcask.Explanation, detail: modelcask.SnapshotDetail | None) -> Iterator[tuple[str, str]]:
    uri = explanation.uri
    yield "uri", uri.canonical
    for note in uri.notes:
        yield "", note
    yield "source", uri.source
    if uri.revision is not None:
        yield "revision", uri.revision
    elif uri.ref is not None:
        yield "ref", f"{modelcask.display(uri.ref)} (it may move)"
    if uri.path:
        yield "path", modelcask.display(uri.path)
    if uri.pin is not None:
        yield "pin", str(uri.pin)
    if explanation.cached is not None:
        snapshot = explanation.cached
        size = words.size(snapshot.size_bytes)
        yield (
            "cached",
            f"{words.count(len(snapshot.entries), 'file')}, {size}, revision {modelcask.display(snapshot.revision)}",
        )
        yield "", str(snapshot.path)
        yield "a pull", "fetches nothing; --refresh asks the source again"
        return
    yield "cached", _part(detail)
    yield from _plan(explanation)


def _plan(explanation: modelcask.Explanation) -> Iterator[tuple[str, str]]:
    if explanation.planned is None:
        yield "a pull", f"cannot be foretold: {modelcask.display(explanation.reason, 2000)}"
        return
    to_fetch = [file for file in explanation.planned if not file.held]
    here = [file for file in explanation.planned if file.held]
    yield "a pull", f"fetches {_sum(to_fetch)}" if to_fetch else "fetches nothing"
    yield from _list(to_fetch)
    if here:
        yield "", f"reuses {_sum(here)}: the bytes are here already"
        yield from _list(here)


def _sum(files: Sequence[modelcask.PlannedFile]) -> str:
    sizes = [file.size_bytes for file in files if file.size_bytes is not None]
    size = words.size(sum(sizes)) if len(sizes) == len(files) else "of unknown size"
    return f"{words.count(len(files), 'file')}, {size}"


def _list(files: Sequence[modelcask.PlannedFile]) -> Iterator[tuple[str, str]]:
    for file in files[:_MOST_FILES]:
        yield "", f"{words.size(file.size_bytes):>9}  {modelcask.display(file.path)}"
    more = len(files) - _MOST_FILES
    if more > 0:
        yield "", f"and {more:,} more: --json lists all"


def _tell_json(explanation: modelcask.Explanation, detail: modelcask.SnapshotDetail | None) -> None:
    from modelcask_cli.documents import ExplainDocument  # noqa: PLC0415

    uri = explanation.uri
    document: ExplainDocument = {
        "uri": uri.canonical,
        "notes": list(uri.notes),
        "source": uri.source,
        "ref": uri.ref,
        "revision": uri.revision,
        "path": uri.path,
        "pin": None if uri.pin is None else str(uri.pin),
        "local_path": None if explanation.cached is None else str(explanation.cached.path),
        "files_held": 0 if detail is None else _held(detail),
        "files_known": 0 if detail is None else len(detail.files),
        "listed": detail is not None and detail.listed,
        "to_pull": None
        if explanation.planned is None
        else [
            {
                "path": file.path,
                "size_bytes": file.size_bytes,
                "promised": [str(digest) for digest in file.promised],
                "held": file.held,
            }
            for file in explanation.planned
        ],
        "bytes_to_fetch": explanation.bytes_to_fetch,
        "reason": explanation.reason or None,
    }
    streams.tell_json(document)
