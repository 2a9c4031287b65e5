"""Shorter names for what the catalog knows by canonical URIs, and back."""

from __future__ import annotations

import re
from dataclasses import replace

import modelcask

_MODELS = "hf://models/"
_KINDS = re.compile(r"hf://(?:models|datasets|spaces)/")


def short_uri(row: modelcask.SnapshotRow) -> str:
    """Return the shortest URI that means the row's revision: its source alone where the usual ref points to it."""
    usual = modelcask.parse_uri(row.source)
    if usual.repo is None or usual.ref in row.refs:
        return without_kind(row.source)
    ref = next(iter(row.refs), None)
    if ref is None:
        named = replace(usual, ref=None, revision=row.revision)
    elif ref.startswith(":"):
        named = replace(usual, ref=ref, quant=ref[1:])
    else:
        named = replace(usual, ref=ref)
    return without_kind(named.canonical)


def file_uri(source: str, revision: str, path: str) -> str:
    """Return a URI that means one file of a revision; where a source has no such names, the source."""
    uri = modelcask.parse_uri(source)
    if uri.repo is None:
        return source
    return without_kind(replace(uri, ref=None, revision=revision, path=path).canonical)


def attempt_uri(row: modelcask.AttemptRow) -> str:
    """Return a URI that means the one file of an attempt, as far as what was pulled has such names."""
    uri = modelcask.parse_uri(row.uri)
    if uri.repo is None or uri.path:
        return without_kind(row.uri)
    ref = None if uri.quant is not None else uri.ref
    return without_kind(replace(uri, ref=ref, quant=None, path=row.path).canonical)


def without_kind(uri: str) -> str:
    """Return ``hf://org/repo`` for ``hf://models/org/repo``, anything else as it is."""
    return "hf://" + uri.removeprefix(_MODELS) if uri.startswith(_MODELS) else uri


def full_pattern(pattern: str | None) -> str | None:
    """Return a glob over canonical URIs: short ones are written out, a plain word matches anywhere."""
    if pattern is None:
        return None
    if pattern.startswith("hf://") and not _KINDS.match(pattern):
        pattern = _MODELS + pattern.removeprefix("hf://")
    return pattern if "*" in pattern or "?" in pattern else f"*{pattern}*"
