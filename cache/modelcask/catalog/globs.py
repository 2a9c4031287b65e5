"""Globs over texts in the catalog: ``*`` is any run of characters, ``?`` any one, everything else itself."""

from __future__ import annotations

import re


def to_like(pattern: str) -> str:
    """Return the LIKE pattern of a glob: its own wildcards escaped by a backslash, ours put in their place.

    SQLite's LIKE folds case, which a URI has: what it lets through is held against :func:`to_regex` again.
    """
    return re.sub(r"[\\%_]", r"\\\g<0>", pattern).replace("*", "%").replace("?", "_")


def to_regex(pattern: str) -> re.Pattern[str]:
    """Return what ``fullmatch`` finds a glob's texts with."""
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern), re.DOTALL)
