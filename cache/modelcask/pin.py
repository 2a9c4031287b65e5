"""Pins: the digest behind the ``#`` of a URI, and what was meant as one and is none.

No server ever sees a fragment, so an anchor (``#readme``) means nothing here. But who writes ``#checksum=…`` believes
that the content is held to it from now on: whatever looks like that is refused, never passed over.
"""

from __future__ import annotations

import binascii
import re
from typing import Final
from urllib.parse import unquote

from modelcask.digest import HEX_LENGTHS, Digest
from modelcask.refusal import Refusal

# ASCII: else U+017F, the long s, would count as an s and make an algorithm that nobody knows.
_ANY_CASE: Final = re.IGNORECASE | re.ASCII
_PIN: Final = re.compile(r"(sha256|blake3)=([0-9a-f]{64})", _ANY_CASE)
_PIECES: Final = re.compile(r"[&;,?#\s]|%(?:26|3B|2C|3F|23|20)", _ANY_CASE)
_MARK: Final = r"(?:[=:]|%3[AD])"

_ALGORITHM: Final = (
    r"sha3?[-_]?[0-9]+|md[2-6]|blake[-_]?[0-9]\w*|(?<![a-z])b[23](?:sum)?(?![a-z])|(?<![a-z])crc[0-9]+c?"
)
_WORD: Final = rf"{_ALGORITHM}|ch?e?c?ksum|hash|digest|integrity|fingerprint|(?<![a-z])(?:sums?|sha(?:sum)?)(?![a-z])"
_MEANT: Final = re.compile(
    r"\A(?P<integrity>sha[-_]?(?:1|224|256|384|512)-)"
    rf"|(?P<word>{_WORD})[^=:%]*(?P<mark>{_MARK})"
    r"|\A(?P<alone>(?:sha3?[-_]?[0-9]+|md5|blake[0-9]\w*)(?:sums?)?)\Z"
    r"|(?<![0-9a-z])(?P<hex>[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{56}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})(?![0-9a-z])",
    _ANY_CASE,
)
_ENDS_IN_HEX: Final = re.compile(rf"(?P<before>|.*(?:{_MARK}|-))(?P<hex>[0-9a-f]{{64}})", _ANY_CASE)
# Of Subresource Integrity (sha256-…), and of RFC 9530 (sha-256=:…:). What is hex digits alone is a digest cut short.
_ENDS_IN_BASE64: Final = re.compile(r".*sha-?256[-=:]+(?![0-9a-f]+\Z)(?P<base64>[A-Za-z0-9+/_-]{43})=?:?", _ANY_CASE)


def read_pin(fragment: str) -> Digest | None:
    """Read ``sha256=…`` or ``blake3=…``, in letters of either case; None for a fragment that names no digest.

    Raises:
        Refusal: it looks as if it were meant as a digest. Nothing of it is repeated but known words and hex digits.
    """
    pin = _PIN.fullmatch(fragment)
    if pin is not None:
        return Digest(pin[1].lower(), pin[2].lower())
    pieces = _PIECES.split(fragment)
    for number, piece in enumerate(pieces):
        meant = _MEANT.search(piece)
        if meant is not None:
            mark = "" if number else "#"
            raise _refusal(fragment, mark + _shown(meant, piece), [_digest_of(piece) for piece in pieces])
    return None


def _refusal(fragment: str, part: str, digests: list[Digest | None]) -> Refusal:
    found = {digest for digest in digests if digest is not None}
    suggestion = None
    if len(found) == 1:
        [digest] = found
        suggestion = f"#{digest.algorithm}={digest.hex}"
    almost = re.match(r"(sha256|blake3)=([0-9a-f]*)", fragment, _ANY_CASE)
    if almost is not None and len(almost[2]) != HEX_LENGTHS["sha256"]:
        return Refusal(f"{almost[1].lower()} takes 64 hex digits", f"#{almost[0]}", suggestion)
    return Refusal("a digest is pinned as #sha256=<64 hex digits> or #blake3=<64 hex digits>", part, suggestion)


def _shown(meant: re.Match[str], piece: str) -> str:
    """Return as much of a piece as may be repeated: digits under another name may be a token."""
    if meant["hex"] is not None:
        return piece if meant["hex"] == piece else ""
    return f"{meant['word']}{meant['mark']}" if meant["word"] else meant[0]


def _digest_of(piece: str) -> Digest | None:
    """Return the digest that a piece most likely means, None where that is not clear."""
    in_hex = _ENDS_IN_HEX.fullmatch(piece)
    if in_hex is not None:
        algorithm = _algorithm_of(in_hex["before"].lower())
        return None if algorithm is None else Digest(algorithm, in_hex["hex"].lower())
    in_base64 = _ENDS_IN_BASE64.fullmatch(unquote(piece))
    if in_base64 is not None:
        plain = in_base64["base64"].replace("-", "+").replace("_", "/")
        return Digest("sha256", binascii.a2b_base64(f"{plain}=").hex())
    return None


def _algorithm_of(name: str) -> str | None:
    """Return the algorithm that a name of 64 hex digits says; sha256 where it says no more than that it is a digest."""
    said = set(re.findall(_ALGORITHM, name))
    if not name or (not said and re.search(_WORD, name)):
        return "sha256"
    if said in ({"sha256"}, {"sha-256"}, {"sha_256"}):
        return "sha256"
    return "blake3" if said and said <= {"blake3", "blake-3", "b3", "b3sum"} else None
