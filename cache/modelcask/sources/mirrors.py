"""Mirrors: where else the bytes of a file lie, by the user's own rules. Pure.

A rule is a prefix of URLs and the bases that stand for it; the empty prefix stands for the scheme and host of any
URL. A mirror is never asked what a file is, only for its bytes. It gets no credential, and of a URL's query only what
is no secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from modelcask.query import strip_secrets
from modelcask.types import HTTPLocation, RemoteFile, Resolution

Rule = tuple[str, Sequence[str]]


def with_mirrors(resolution: Resolution, rules: Iterable[Rule]) -> Resolution:
    """Return the resolution with each file's mirrors, in the order of the rules."""
    rules = list(rules)
    if not rules:
        return resolution
    return replace(resolution, files=tuple(_with_mirrors(file, rules) for file in resolution.files))


def _with_mirrors(file: RemoteFile, rules: Iterable[Rule]) -> RemoteFile:
    location = file.location
    if not isinstance(location, HTTPLocation):
        return file
    found: dict[str, HTTPLocation] = {}
    path, mark, query = location.url.partition("?")
    query, _ = strip_secrets(query)
    public = f"{path}{mark}{query}" if query else path
    for prefix, bases in rules:
        rest = _rest(public, prefix)
        if rest is None:
            continue
        for base in bases:
            url = base.rstrip("/") + rest
            if url != location.url:
                found[url] = HTTPLocation(url, allow_http=location.allow_http)
    return replace(file, mirrors=tuple(found.values()))


def _rest(url: str, prefix: str) -> str | None:
    """Return what of a URL follows a prefix, None if it does not begin with it."""
    if not prefix:
        parts = urlsplit(url)
        return url[len(f"{parts.scheme}://{parts.netloc}") :]
    prefix = prefix.rstrip("/")
    rest = url[len(prefix) :]
    return rest if url.startswith(prefix) and rest[:1] in {"", "/", "?"} else None
