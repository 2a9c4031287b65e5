"""The query of a URL: which of its parameters choose the file, and which are secrets that only the server may see.

A signed URL is good for everybody who has it, so nothing of the signature may be kept; and what changes with each
signing goes along, so that two signed URLs of one file are one key. Told apart by their names alone: those of the
object stores (SigV2 and SigV4 of S3, the like of Google, Alibaba, Tencent and Huawei; CloudFront; Azure's SAS) and
those that keys, tokens and sessions usually have.

A parameter that is left out cannot choose the file any more. Names that often do (``id``, ``file``, ``md5``) stay.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

_SECRET: Final = re.compile(
    r"""
    (?: x-(?:amz|goog|oss|cos|obs|tos|bce)-.*
      | q-(?:ak|signature|sign-algorithm|sign-time|key-time|header-list|url-param-list)
      | .*(?:token|secret|signature|passw(?:or)?d|passphrase|credentials?|accessid|sess(?:ion)?[-_.]?id)
      | .*(?:api|access|account|auth|client|encryption|function|license|master|private|session|shared|storage
            |subscription|user)[-_.]?key(?:[-_]?id)?
      | .*(?:access|auth|invite|session)[-_.]?code
      | (?:.*[-_.])?(?:sig|sign|pass|pwd|jwt|otp|sas|auth|authorization|bearer|cookie|hmac|hdnt[sel]a?)
      | key | code | session | sid | ticket | key-pair-id | gda
    )
    (?:[-_.]?v?[0-9]+)?
    """,
    re.DOTALL | re.VERBOSE,
)
_SIGNATURE: Final = re.compile(r"(?:.*[-_.])?(?:signature|sign|sig|hmac)", re.DOTALL)

# Ordinary words where there is no secret; beside one they belong to it.
_WITH_SECRET: Final = frozenset({"expires", "expire", "expiry", "expiration", "exp"})
_WITH_SIGNATURE: Final = re.compile(r"policy|hash-algorithm|algorithm|nonce|timestamp|ts|x-id|response-.*", re.DOTALL)
_WITH_SIG: Final = frozenset(
    {"se", "sp", "sv", "st", "sr", "spr", "sip", "si", "ss", "srt", "sdd", "ses", "scid", "saoid", "suoid"}
    | {"skoid", "sktid", "skt", "ske", "sks", "skv", "rscc", "rscd", "rsce", "rscl", "rsct"}
)
# The signature of nginx's secure_link module; each alone is an ordinary word.
_SECURE_LINK: Final = frozenset({"md5", "expires"})

_FILE_SUFFIX = re.compile(r".*\w\.[a-z][a-z0-9]{0,11}", re.DOTALL | re.IGNORECASE)


def strip_secrets(query: str) -> tuple[str, tuple[str, ...]]:
    """Return the query without its secrets and all that belongs to them, and the names of what was left out.

    What is left is spelled as before, and has nothing more to leave out.
    """
    pieces = re.split(r"([&;])", query)
    pairs = list(zip(["", *pieces[1::2]], pieces[::2], strict=True))
    names = [_bare(unquote(pair.partition("=")[0])) for _, pair in pairs]
    secrets = {name for name, (_, pair) in zip(names, pairs, strict=True) if _is_secret(name, pair.partition("=")[2])}
    left_out = secrets | _companions(secrets, set(names))
    kept = ""
    stripped: list[str] = []
    for (separator, pair), name in zip(pairs, names, strict=True):
        if name in left_out and (name not in secrets or _is_secret(name, pair.partition("=")[2])):
            stripped.append(unquote(pair.partition("=")[0]))
            continue
        clean, inner = _strip_inner_url(pair)
        stripped += inner
        kept += separator + clean
    return (kept.lstrip("&;") if stripped else kept), tuple(stripped)


def _bare(name: str) -> str:
    """Return what a parameter's name says: ``user[token][]`` and ``__token__`` end in ``token``."""
    return name.lower().replace("[]", "").replace("[", ".").replace("]", "").strip("_")


def _is_secret(name: str, value: str) -> bool:
    if _SECRET.fullmatch(name) is None:
        return False
    # The name of an object in a store is called its key, too.
    return name != "key" or not _is_file_name(unquote(value))


def _is_file_name(value: str) -> bool:
    # Base64 has slashes as well; what fills its end up is in no name.
    return ("/" in value and not value.endswith("=")) or _FILE_SUFFIX.fullmatch(value) is not None


def _companions(secrets: set[str], names: set[str]) -> set[str]:
    """Return the names of what belongs to the secrets."""
    found = set(_SECURE_LINK) if names >= _SECURE_LINK else set()
    if secrets:
        found |= _WITH_SECRET
    if any(_SIGNATURE.fullmatch(name) for name in secrets):
        found |= {name for name in names if _WITH_SIGNATURE.fullmatch(name)}
    if "sig" in secrets:
        found |= _WITH_SIG
    return found


def _strip_inner_url(pair: str) -> tuple[str, tuple[str, ...]]:
    """Return a parameter without the secrets of the URL that is its value: a mirror may be asked for a signed one."""
    name, _, value = pair.partition("=")
    url, mark, query = unquote(value).partition("?")
    kept, stripped = strip_secrets(query) if mark else ("", ())
    if not stripped:
        return pair, ()
    return f"{name}={quote(url + (mark if kept else '') + kept, safe='/:')}", stripped
