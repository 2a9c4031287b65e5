"""Slips: what a text most likely means whose scheme is missing, misspelt or not known. Suggested, never guessed."""

from __future__ import annotations

import re
from typing import Final

from modelcask.refusal import Refusal, password_refusal
from modelcask.url import encode

_LIKE_A_HOST: Final = re.compile(r"localhost|[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
_LIKE_A_PORT: Final = re.compile(r"\d+/")


def check_scheme(scheme: str, rest: str) -> None:
    """Refuse a scheme that is a slip for a known one, and one that its slashes do not follow.

    Args:
        scheme: in lower case.
        rest: what follows its colon.
    """
    slashes = len(rest) - len(rest.lstrip("/"))
    if scheme in {"http", "https"} and slashes != 2:  # noqa: PLR2004 - the two slashes of "//"
        raise Refusal("two slashes follow the scheme", f"{scheme}:{rest[:slashes]}", f"{scheme}://{rest.lstrip('/')}")
    meant = _nearest_scheme(scheme)
    if meant is not None:
        raise Refusal(f"{scheme!r} looks like a slip for {meant!r}", scheme, f"{meant}:{rest}")
    if not rest.startswith("//"):
        likely = _web(f"{scheme}:{rest}") if _LIKE_A_PORT.match(rest) else None
        raise Refusal("this scheme is not known; one that a plug-in brings is followed by '//'", f"{scheme}:", likely)


def _nearest_scheme(scheme: str) -> str | None:
    import difflib  # noqa: PLC0415 - only for texts that no usual source reads

    known = ("https", "http", "file", "huggingface")
    near = () if scheme in known else difflib.get_close_matches(scheme, known, n=1, cutoff=0.75)
    return next(iter(near), None)


def without_scheme(text: str) -> Refusal:
    """Return (not raise) why a text without a scheme is not read, and what it most likely means."""
    first, slash, _ = text.partition("/")
    if text[0] in "/~.\\":
        return _local_path(text)
    if "@" in first:
        return password_refusal(None)
    if slash and _LIKE_A_HOST.fullmatch(first):
        return Refusal("it has no scheme", first, _web(text))
    if slash:
        return Refusal("org/name alone could be any source: say which", text, f"hf://{text}")
    return Refusal("a bare name could be anything: write hf://org/name, https://… or file:///…", text)


def _local_path(text: str) -> Refusal:
    if text.startswith("//"):
        return Refusal("it has no scheme", "//", f"https:{text}")
    if text.startswith("/"):
        return Refusal("a local path is written as a file:// URI", text, f"file://{encode(text)}")
    return Refusal("a relative path is not read: write the whole path as a file:// URI", text)


def _web(text: str) -> str:
    return f"{'http' if text.startswith('localhost') else 'https'}://{text}"
