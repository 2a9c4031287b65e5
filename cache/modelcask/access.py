"""What a program lets modelcask say to servers for it: tokens and headers. Never shown, logged or stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from modelcask.errors import ConfigError

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?", re.ASCII)
_TOKEN: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)
# Those that say what is asked for, and how the connection works, are the transfer's own.
_OURS: Final = re.compile(
    r"accept-encoding|connection|content-.*|cookie2?|expect|host|if-.*|keep-alive|proxy-.*|range|te|trailer"
    r"|transfer-encoding|upgrade",
    re.ASCII | re.IGNORECASE,
)
SOURCES: Final = ("huggingface",)


@dataclass(frozen=True, slots=True)
class Access:
    """Tokens by source, and headers for a URI's own origin."""

    tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, *, tokens: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> Self:
        """Check what a caller has given.

        Args:
            tokens: by source: ``{"huggingface": "hf_…"}``.
            headers: for every request to the origin that a URI names, and to no other.

        Raises:
            ConfigError: no such source, or a header that cannot be sent or is the transfer's own. No value is shown.
        """
        for name, value in (headers or {}).items():
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ConfigError("a header has a name or a value that cannot be sent; write plain printable text")
            if _OURS.fullmatch(name):
                raise ConfigError(f"the header {name} is set by the transfer itself; leave it out")
        for source, token in (tokens or {}).items():
            if source not in SOURCES:
                raise ConfigError(f"there are no tokens for {source!r}; known sources are {', '.join(SOURCES)}")
            if not _TOKEN.fullmatch(token):
                raise ConfigError(f"the token for {source} holds characters that no token has; set it again")
        return cls(tuple((tokens or {}).items()), tuple((headers or {}).items()))

    def token_of(self, source: str) -> str | None:
        """Return the token for a source, None if none was given."""
        return dict(self.tokens).get(source)
