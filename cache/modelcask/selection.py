"""Which files a URI means: pure functions of a resolution, the filters and the pin."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from modelcask.errors import DigestMismatchError, ModelNotFoundError
from modelcask.relpath import gguf_parts
from modelcask.types import RemoteFile, Resolution
from modelcask.uri import ModelURI

Wanted = Callable[[str], bool]


def select(patterns_in: Iterable[str], patterns_out: Iterable[str]) -> Wanted | None:
    """Return the test for ``include`` and ``exclude`` globs, None if there are none.

    The rules are the Hub library's: ``*`` also crosses ``/``, a pattern that ends in ``/`` means all below it.
    """
    include = [_below(pattern) for pattern in _several(patterns_in)]
    exclude = [_below(pattern) for pattern in _several(patterns_out)]
    if not include and not exclude:
        return None

    def wanted(name: str) -> bool:
        if include and not any(fnmatchcase(name, pattern) for pattern in include):
            return False
        return not any(fnmatchcase(name, pattern) for pattern in exclude)

    return wanted


def _several(patterns: Iterable[str]) -> Iterable[str]:
    return [patterns] if isinstance(patterns, str) else patterns  # or each letter would be a pattern


def _below(pattern: str) -> str:
    return pattern + "*" if pattern.endswith("/") else pattern


def parts_of(uri: ModelURI, name: str) -> tuple[str, ...]:
    """Return the files that ``uri`` means by the file ``name``: all parts of a split model that a repository holds.

    A plain URL is one file, whatever its name says: its neighbours are other sources.
    """
    return gguf_parts(name) if uri.repo is not None else (name,)


def choose(resolution: Resolution, wanted: Wanted | None) -> list[RemoteFile]:
    """Return the files of a resolution that its URI means.

    Raises:
        ModelNotFoundError: there is none, or a split model lacks a part.
    """
    uri = resolution.uri
    named = parts_of(uri, uri.path)
    exact = [file for file in resolution.files if file.path in named]
    absent = set(named).difference(file.path for file in exact)
    if exact and absent:
        raise ModelNotFoundError(uri.canonical, f"{uri.source} has only a part of this split model, no {min(absent)!r}")
    if uri.quant or (uri.path and exact):
        return exact or list(resolution.files)
    below = [file for file in resolution.files if not uri.path or file.path.startswith(uri.path + "/")]
    if not below:
        raise ModelNotFoundError(uri.canonical, f"{uri.source} has no file {uri.path!r}; see: modelcask explain")
    chosen = [file for file in below if wanted is None or wanted(file.path)]
    if not chosen:
        raise ModelNotFoundError(
            uri.canonical, f"none of the {len(below)} files of {uri.canonical} matches --include and --exclude"
        )
    return chosen


def with_pin(resolution: Resolution) -> Resolution:
    """Return the resolution with the user's pin among the promises for the file that the URI names.

    Raises:
        DigestMismatchError: the source itself promises other bytes; nothing is fetched.
    """
    uri, pin = resolution.uri, resolution.uri.pin
    if pin is None:
        return resolution
    files: list[RemoteFile] = []
    for file in resolution.files:
        if file.path not in {uri.path, resolution.entrypoint} or pin in file.digests:
            files.append(file)
            continue
        for promised in file.digests:
            if promised.algorithm == pin.algorithm:
                raise DigestMismatchError(f"{uri.canonical} (as its source describes it)", str(pin), str(promised))
        files.append(replace(file, digests=(pin, *file.digests)))
    return replace(resolution, files=tuple(files))
