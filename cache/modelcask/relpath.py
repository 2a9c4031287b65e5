"""The one validator of file names that come from outside.

A name in a repository is data until it has passed here. It becomes a path only relative to a folder that
modelcask opened itself. The rules of POSIX and of Windows hold on every system, so that a snapshot made here
can be copied there, and so that no check exists on one system only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from modelcask.errors import PolicyError
from modelcask.printable import display

MAX_PATH_BYTES = 1024
MAX_COMPONENT_BYTES = 255

_FORBIDDEN = frozenset('<>:"|?*\\')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SPLIT_PART = re.compile(r"(?P<stem>.*)-(?P<part>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)
_MAX_PARTS = 4096


def check_relpath(name: str) -> str:
    """Return ``name`` if it may become a path below a folder of ours.

    Raises:
        PolicyError: it is absolute, climbs out, is too long, or holds what a system reads as something else.
    """
    reason = fault_of(name)
    if reason is not None:
        raise PolicyError(
            f"the file name {display(name)!r} is refused: {reason}; leave it out with --exclude, or ask its publisher"
        )
    return name


def check_no_collisions(names: Iterable[str]) -> None:
    """Raise PolicyError if two names are one file on a system that folds case or composes Unicode.

    A name that another one needs as a folder counts too.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_folded(name), name)
        if other != name:
            raise _collision(other, name)
    for folded, name in seen.items():
        end = folded.find("/")
        while end >= 0:
            if folded[:end] in seen:
                raise _collision(seen[folded[:end]], name)
            end = folded.find("/", end + 1)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _collision(one: str, other: str) -> PolicyError:
    return PolicyError(
        f"the file names {display(one)!r} and {display(other)!r} are in each other's way on some systems; "
        "leave one out with --exclude"
    )


def gguf_parts(name: str) -> tuple[str, ...]:
    """Return the names of all parts of the split GGUF that ``name`` belongs to, or ``name`` alone.

    The pattern is llama.cpp's: ``<stem>-<part>-of-<count>.gguf``, both numbers of five digits, from 1.
    """
    match = _SPLIT_PART.fullmatch(name)
    if match is None:
        return (name,)
    part, count = int(match["part"]), int(match["count"])
    if not 1 <= part <= count <= _MAX_PARTS:
        return (name,)
    return tuple(f"{match['stem']}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1))


def fault_of(name: str) -> str | None:  # noqa: PLR0911 - one return a rule reads best
    """Return why ``name`` may not become a path, None if it may."""
    if not name:
        return "it is empty"
    if any(unicodedata.category(char) in _UNSEEN for char in name):
        return "it holds a control, bidi or invisible character"
    if len(name.encode()) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    for part in name.split("/"):
        if part in {"", ".", ".."}:
            return "it is absolute, or has an empty, '.' or '..' component"
        if len(part.encode()) > MAX_COMPONENT_BYTES:
            return f"a component is longer than {MAX_COMPONENT_BYTES} bytes"
        if not _FORBIDDEN.isdisjoint(part):
            return "it holds one of " + " ".join(sorted(_FORBIDDEN))
        if part[-1] in ". " or part[0] == " ":
            return "a component begins or ends with a space, or ends with a dot"
        if _RESERVED.fullmatch(part):
            return f"{part!r} is a device on Windows"
    return None
