"""What an answer that is not the file means: one typed error each, with the next step and no raw remote text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict

from modelcask.errors import AccessDeniedError, CacheError, ModelNotFoundError, ResponseError, RevisionNotFoundError
from modelcask.net.status import is_unasked_page, retry_after_s, status_error
from modelcask.printable import SafeURL

URL = SafeURL("https://hub.example/org/name/resolve/main/model.gguf?token=secret")
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "code", "error", "says"),
    [
        (401, "", AccessDeniedError, "HF_TOKEN"),
        (403, "", AccessDeniedError, "token may read it"),
        (401, "GatedRepo", AccessDeniedError, "accept its terms at https://hub.example/org/name and set HF_TOKEN"),
        (403, "GatedRepo", AccessDeniedError, "accept its terms at https://hub.example/org/name and set HF_TOKEN"),
        (401, "RepoNotFound", ModelNotFoundError, "private"),
        (404, "RepoNotFound", ModelNotFoundError, "check the name"),
        (404, "RevisionNotFound", RevisionNotFoundError, "'v9'"),
        (404, "EntryNotFound", ModelNotFoundError, "no such file"),
        (404, "", ModelNotFoundError, "no such file"),
        (410, "", ModelNotFoundError, "no such file"),
    ],
)
def test_a_refusal_has_its_type_and_the_next_step(status: int, code: str, error: type[CacheError], says: str) -> None:
    """Who lacks a token, who misspelt a name and who must accept terms are told apart."""
    headers = CIMultiDict({"x-error-code": code} if code else {})
    found = status_error(status, headers, URL, revision="v9")
    assert type(found) is error
    assert says in str(found)
    assert not found.retryable
    assert "secret" not in str(found)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_a_busy_server_is_worth_another_try(status: int) -> None:
    """Overload and faults of the server are retryable, and carry the wait that it asks for."""
    found = status_error(status, CIMultiDict({"Retry-After": "7"}), URL)
    assert isinstance(found, ResponseError)
    assert (found.status, found.retryable, found.retry_after) == (status, True, 7.0)
    assert "7 s" in str(found)


@pytest.mark.parametrize("status", [204, 206, 300, 304, 400, 405, 409, 416, 418, 451, 600])
def test_an_answer_that_stays_wrong_is_not_tried_again(status: int) -> None:
    """Anything else is final, even with a Retry-After."""
    found = status_error(status, CIMultiDict({"Retry-After": "7"}), URL)
    assert isinstance(found, ResponseError)
    assert (found.status, found.retryable, found.retry_after) == (status, False, None)


def test_the_servers_own_words_are_shown_harmless() -> None:
    """An error message from outside can neither steer a terminal nor forge a line."""
    headers = CIMultiDict({"X-Error-Message": "no\x1b[31m\nERROR done \u202e" + "x" * 1000})
    shown = str(status_error(403, headers, URL))
    assert shown.isprintable()
    assert "\\x1b[31m\\nERROR" in shown
    assert len(shown) < 500


def test_the_uri_of_the_user_is_named_where_it_is_known() -> None:
    """The message speaks of what was asked for, the attribute carries it."""
    found = status_error(404, CIMultiDict(), URL, uri="hf://models/org/name@main/model.gguf")
    assert isinstance(found, ModelNotFoundError)
    assert found.uri == "hf://models/org/name@main/model.gguf"
    assert found.uri in str(found)


@pytest.mark.parametrize(
    ("kind", "name", "promised", "unasked"),
    [
        ("text/html", "m.gguf", False, True),
        ("Text/HTML ; charset=utf-8", "download", False, True),
        ("application/xhtml+xml", "m", False, True),
        ("text/html", "m.gguf", True, False),
        ("text/html", "Index.HTML", False, False),
        ("text/html", "index.htm", False, False),
        ("text/html", "index.xhtml", False, False),
        ("text/plain", "m.gguf", False, False),
        ("application/octet-stream", "m.gguf", False, False),
        ("", "m.gguf", False, False),
    ],
)
def test_a_page_is_right_only_where_one_was_named(kind: str, name: str, *, promised: bool, unasked: bool) -> None:
    """HTML is the file if its name says so, or if a digest will tell; else it is something in the file's place."""
    headers = CIMultiDict({"content-type": kind} if kind else {})
    assert is_unasked_page(headers, name, promised=promised) is unasked


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "120"}, 120.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "99999999"}, 300.0),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "٣"}, None),
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"Retry-After": "Sun, 22 Nov 2999 12:00:00 GMT"}, 300.0),
        ({"Retry-After": "Sun, 99 Nov 2026 99:99:99 GMT"}, None),
        ({"RateLimit": '"api";r=0;t=41'}, 42.0),
        ({"RateLimit": '"resolvers"; r=0; t=9999'}, 300.0),
        ({"RateLimit": '"api";r=5;t=41'}, None),
        ({"RateLimit": '"api";r=5;t=41', "Retry-After": "3"}, 3.0),
        ({"RateLimit": '"api";r=0;t=41', "Retry-After": "3"}, 42.0),
    ],
)
def test_a_wait_is_read_strictly_and_capped(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, dates and the Hub's rate limit count up to five minutes; nonsense counts as nothing."""
    assert retry_after_s(CIMultiDict(headers), now=NOW) == seconds
