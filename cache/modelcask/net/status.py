"""What an answer that is not the file means to the person who asked: one error for each kind.

The Hub adds ``X-Error-Code`` and ``X-Error-Message`` to the status (huggingface_hub, ``utils/_http.py``). Both
come from a stranger: the code is compared, the message passes through ``display``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from modelcask.errors import AccessDeniedError, CacheError, ModelNotFoundError, ResponseError, RevisionNotFoundError
from modelcask.printable import SafeURL, display

MAX_RETRY_AFTER_S: Final = 300.0
_RETRYABLE = frozenset({408, 425, 429})
_PAGES = frozenset({"text/html", "application/xhtml+xml"})
_PAGE_SUFFIXES = (".html", ".htm", ".xhtml")
_RATE_LIMIT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})", re.ASCII)
_SECONDS = re.compile(r"\d{1,9}(?:\.\d+)?", re.ASCII)


def status_error(
    status: int,
    headers: Mapping[str, str],
    url: SafeURL,
    *,
    uri: str | None = None,
    revision: str | None = None,
    page: str | None = None,
    now: datetime | None = None,
) -> CacheError:
    """Return (not raise) the error for an answer that is not the file.

    Args:
        status: the HTTP status.
        headers: case-insensitive, as :attr:`modelcask.net.client.Response.headers`.
        url: where the answer came from.
        uri: what the user asked for, if that is known.
        revision: the ref or commit that was asked for.
        page: the repository's web page, where its terms can be accepted; guessed from a Hub's file URL.
        now: for tests; ``Retry-After`` may be a date.
    """
    code = headers.get("X-Error-Code", "")
    told = display(headers.get("X-Error-Message", "").strip())
    says = f" (it says: {told})" if told else ""
    what = uri or str(url)
    page = page or (str(url).partition("/resolve/")[0] if "/resolve/" in url else str(url))
    if code in {"RevisionNotFound", "RepoNotFound"}:
        return _missing(code, what, revision)
    if code == "GatedRepo" or status in {401, 403}:
        return _denied(code, status, what, page, says)
    if status in {404, 410}:
        return ModelNotFoundError(what, f"{what}: the source has no such file ({status}){says}; check the name")
    if status not in _RETRYABLE and not 500 <= status <= 599:  # noqa: PLR2004 - the class of server errors
        return ResponseError(
            f"{url} answered {status}{says}, which is not the file; check the URI, or open it in a browser",
            status=status,
            retryable=False,
        )
    wait_s = retry_after_s(headers, now=now)
    when = "later" if wait_s is None else f"in {wait_s:.0f} s, as it asks"
    return ResponseError(
        f"{url} answered {status}{says}; try again {when}", status=status, retryable=True, retry_after=wait_s
    )


def is_unasked_page(headers: Mapping[str, str], name: str, *, promised: bool) -> bool:
    """Say whether a success brings a web page where a file was asked for: a login, an error or a consent in disguise.

    Nearly every answer that is not the file comes so, and the status says 200.

    Args:
        headers: as for :func:`status_error`.
        name: the last segment of the path that was asked for; where that names a page, a page is right.
        promised: whether a digest is known, by a pin or from the source: then the bytes will tell.
    """
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in _PAGES and not promised and not name.lower().endswith(_PAGE_SUFFIXES)


def page_error(url: SafeURL, name: str, status: int) -> ResponseError:
    """Return (not raise) the error for a page that :func:`is_unasked_page` found in place of the file ``name``."""
    return ResponseError(
        f"{url} is a web page, not the file {display(name)}: it may ask for a login; open it in a browser, and copy "
        "the address of the download itself, or pin the content with #sha256=…",
        status=status,
        retryable=False,
    )


def _missing(code: str, what: str, revision: str | None) -> CacheError:
    if code == "RevisionNotFound":
        named = f" {revision!r}" if revision else ""
        return RevisionNotFoundError(what, revision or "", f"{what}: the source has no revision{named}; check its name")
    # The Hub says this with 401 to the anonymous and with 404 to the known: it does not tell whether it exists.
    return ModelNotFoundError(
        what,
        f"{what}: there is no such repository, or it is private; check the name, and for a private one "
        "set HF_TOKEN to a token that may read it",
    )


def _denied(code: str, status: int, what: str, page: str, says: str) -> AccessDeniedError:
    if code == "GatedRepo":
        step = f"is gated{says}; accept its terms at {page} and set HF_TOKEN to a token of that account"
    elif status == 401:  # noqa: PLR2004 - a status is its own name
        step = f"needs a valid token (401){says}; for a Hub set HF_TOKEN or run: hf auth login"
    else:
        step = f"is refused (403){says}; check that your token may read it, or that a signed URL has not run out"
    return AccessDeniedError(f"{what} {step}", status=status)


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Return how long the server asks to wait, in seconds from 0 to 300; None if it does not say, or not readably.

    Read are ``Retry-After`` (RFC 9110, section 10.2.3: seconds or a date) and, where its bucket is empty
    (``r=0``), the ``RateLimit`` of draft-ietf-httpapi-ratelimit-headers-09, which the Hub sends with a 429.
    """
    limit = _RATE_LIMIT.search(headers.get("RateLimit", ""))
    if limit is not None:
        return min(float(limit[1]) + 1.0, MAX_RETRY_AFTER_S)  # + 1: ``t`` is rounded down
    text = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max((at - (now or datetime.now(UTC))).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
