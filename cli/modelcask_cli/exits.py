"""What each exit code means. Which error has which is written on the errors themselves."""

from __future__ import annotations

from typing import Final

import modelcask

INTERNAL: Final = 1
UNREAD: Final = 141

MEANINGS: Final = {
    0: "done",
    1: "any other failure",
    2: "the words are wrong: a URI, an option or a setting cannot be understood",
    3: "not here, or not there: not cached, or the source has no such model",
    4: "the bytes are wrong; nothing was published",
    5: "not enough space",
    6: "the network failed; what arrived is kept",
    7: "a token is missing or not enough",
    8: "refused by the user's or the safety policy",
    9: "somebody else holds it",
    10: "the disk or the catalog cannot be used",
    129: "stopped by SIGHUP (the terminal was closed); what arrived is kept",
    130: "stopped by SIGINT (Ctrl-C); what arrived is kept",
    141: "nobody reads the output any more",
    143: "stopped by SIGTERM; what arrived is kept",
}


def errors_by_code() -> dict[int, list[str]]:
    """Return the public errors for each exit code, those that are raised anywhere in the library."""
    found: dict[int, list[str]] = {}
    for name in modelcask.__all__:
        value = getattr(modelcask, name)
        if isinstance(value, type) and issubclass(value, modelcask.CacheError):
            found.setdefault(value.exit_code, []).append(name)
    return found
