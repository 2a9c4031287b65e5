"""What may be shown: every remote string and every URL passes through here before a person or a log sees it.

A file name, an ETag or an error page comes from strangers. Printed raw it can move the cursor, recolour a
terminal, reverse the reading direction or forge a second log line (CWE-150).
"""

from __future__ import annotations

import unicodedata
from typing import Self
from urllib.parse import quote, urlsplit

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PLAIN_URL = ":/[]@%+,=!$'()*;"  # beside letters, digits and -._~


def display(text: str, limit: int = 200) -> str:
    """Return text with every control, bidi, zero-width and surrogate character escaped, cut at ``limit``."""
    if text.isascii() and text.isprintable() and len(text) <= limit:
        return text
    shown = "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in _HIDDEN else char
        for char in text[: limit + 1]
    )
    return shown if len(text) <= limit else shown[:limit] + "…"


class SafeURL(str):
    """A URL as it may be printed or stored: no userinfo, no query, no fragment, no control characters."""

    __slots__ = ()

    def __new__(cls, url: str) -> Self:
        """Strip everything from ``url`` that can carry a secret."""
        try:
            parts = urlsplit(url)
            host = parts.netloc.rpartition("@")[2]
        except ValueError:
            return super().__new__(cls, "<unreadable URL>")
        shown = f"{parts.scheme}://{host}{parts.path}" if parts.scheme else parts.path
        return super().__new__(cls, quote(shown[:500], safe=_PLAIN_URL, errors="replace"))
