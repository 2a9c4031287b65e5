"""What an answer means for the bytes at hand: the rows of ``answer_table``, and what holds for any answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from answer_table import (
    DIGEST_ONLY,
    FRESH,
    GIT_ONLY,
    GIT_SHA1,
    PINNED,
    PLAIN,
    RANGED,
    RESUMED,
    SHA256,
    SIZE_ONLY,
    UNKNOWN,
    URL,
    Is,
    Row,
    part,
    remote,
    request_of,
    whole,
)
from modelcask.errors import RemoteChangedError, ResponseError, SizeMismatchError
from modelcask.fetch.transfer import (
    Accept,
    Answer,
    Fail,
    Finished,
    Held,
    Refuse,
    Request,
    judge,
    may_resume,
    strong,
    wrong_size,
)
from modelcask.types import RemoteFile


def _name_of(row: Row) -> str:
    kind = "ranged" if isinstance(row[2], tuple) else "resumed" if row[2] else "fresh"
    return f"{kind}: {row[0]}"


@pytest.mark.parametrize("row", [*FRESH, *RESUMED, *RANGED], ids=_name_of)
def test_decides_by_the_table(row: Row) -> None:
    """Every answer leads to what the table says, and no refused or failed one to a written byte."""
    _, file, asked, status, headers, expected = row
    request = request_of(file, asked)

    action = judge(file, Held.of(file), request, Answer(status, CIMultiDict(headers), URL))

    if isinstance(expected, Is):
        assert isinstance(action, Fail | Refuse)
        assert (type(action), type(action.error), action.error.retryable) == (
            expected.action,
            expected.error,
            expected.retryable,
        )
        assert "s3cret" not in str(action.error)
    else:
        assert action == expected


def test_table_is_as_long_as_promised() -> None:
    """The table has at least a hundred rows, no two of which ask the same question."""
    rows = [
        (file, asked, status, tuple(sorted(headers.items())))
        for _, file, asked, status, headers, _ in [*FRESH, *RESUMED, *RANGED]
    ]

    assert len(rows) >= 100
    assert len(rows) == len(set(rows))


def test_retry_after_survives_the_judgement() -> None:
    """What a busy server asks for reaches the one who waits."""
    answer = Answer(503, CIMultiDict({"Retry-After": "7"}), URL)

    action = judge(PLAIN, Held.of(PLAIN), Request(0), answer)

    assert isinstance(action, Fail)
    assert isinstance(action.error, ResponseError)
    assert action.error.retry_after == 7


def test_what_a_body_taught_replaces_what_was_held() -> None:
    """After a 200 of another object, its size and ETag are held, not those of the bytes thrown away."""
    answer = Answer(200, CIMultiDict(whole(60, '"new"')), URL)

    action = judge(UNKNOWN, Held(50, '"old"'), Request(40, None, '"old"'), answer)

    assert action == Accept(Held(60, '"new"'), whole=True)


ASKED = [
    (Request(0), {}),
    (Request(0, None, '"a"'), {}),
    (Request(40), {"Range": "bytes=40-"}),
    (Request(40, None, '"a"'), {"Range": "bytes=40-", "If-Range": '"a"'}),
    (Request(40, 60), {"Range": "bytes=40-59"}),
    (Request(0, 60, '"a"'), {"Range": "bytes=0-59", "If-Range": '"a"'}),
    (Request(0, 1), {"Range": "bytes=0-0"}),
]


@pytest.mark.parametrize(("request_", "headers"), ASKED)
def test_a_request_says_what_it_wants(request_: Request, headers: dict[str, str]) -> None:
    """The last byte is named, not the one behind it; the whole file is asked for without any Range."""
    assert request_.headers == headers
    assert request_.is_whole is (not headers)


PROOFS = [
    ("an ETag", PLAIN, True),
    ("a digest", DIGEST_ONLY, True),
    ("a digest and a weak ETag", remote(SHA256, etag='W/"a"'), True),
    ("neither", SIZE_ONLY, False),
    ("a git SHA-1", GIT_ONLY, False),
    ("a weak ETag", remote(etag='W/"a"'), False),
    ("an empty ETag", remote(etag='""'), False),
]


@pytest.mark.parametrize(("file", "joins"), [row[1:] for row in PROOFS], ids=[row[0] for row in PROOFS])
def test_only_what_proves_the_joint_lets_bytes_be_joined(file: RemoteFile, joins: bool) -> None:
    """A strong ETag or a strong promised digest; nothing else does."""
    assert may_resume(file, Held.of(file)) is joins


@pytest.mark.parametrize("etag", [None, "", '""', 'W/"a"', "a", '"a"b"', '"a\n"'])
def test_only_a_strong_etag_proves_anything(etag: str | None) -> None:
    """Weak, empty and badly quoted ETags never guard a joint; any other does."""
    assert strong(etag) is None
    assert strong('"a-ü"') == '"a-ü"'


def test_a_wrong_size_is_the_sources_change_unless_a_digest_names_the_content() -> None:
    """With a digest the bytes are wrong; without one the object behind the name is another."""
    assert isinstance(wrong_size(PINNED, 100, 101), SizeMismatchError)
    assert isinstance(wrong_size(PLAIN, 100, 101), RemoteChangedError)
    assert isinstance(wrong_size(replace(PINNED, size_bytes=None), 100, 101), RemoteChangedError)


_FIGURES = st.sampled_from([0, 1, 39, 40, 41, 60, 98, 99, 100, 101])
_CONTENT_RANGES = st.none() | st.just("garbage") | st.builds("bytes {}-{}/{}".format, _FIGURES, _FIGURES, _FIGURES)
_ETAGS = st.sampled_from([None, '"a"', '"b"', 'W/"a"', '""'])
_FILES = st.builds(
    lambda digests, size, etag: remote(*digests, size=size, etag=etag),
    st.sampled_from([(), (SHA256,), (GIT_SHA1,)]),
    st.sampled_from([None, 0, 40, 100]),
    _ETAGS,
)


@given(
    file=_FILES,
    start=_FIGURES,
    end=st.none() | _FIGURES,
    status=st.sampled_from([200, 206, 416, 500]),
    content_range=_CONTENT_RANGES,
    etag=_ETAGS,
    length=st.none() | _FIGURES,
)
def test_nothing_is_ever_joined_without_proof(
    *,
    file: RemoteFile,
    start: int,
    end: int | None,
    status: int,
    content_range: str | None,
    etag: str | None,
    length: int | None,
) -> None:
    """Whatever comes back, bytes at hand are kept only with an equal strong ETag or a strong promised digest."""
    held = Held.of(file)
    request = request_of(file, start if end is None else (min(start, end), max(start, end) + 1))
    action = judge(file, held, request, Answer(status, CIMultiDict(part(content_range, length, etag)), URL))

    if isinstance(action, Accept) and action.whole:
        assert status == 200
        assert length is None or file.size_bytes in {None, length}
    elif isinstance(action, Accept):
        total = action.held.total
        assert total is not None
        last = total - 1 if request.end is None else min(request.end, total) - 1
        assert content_range == f"bytes {request.offset}-{last}/{total}"
        assert length in {None, last + 1 - request.offset}
        assert file.size_bytes in {None, total}
        assert SHA256 in file.digests or (held.etag is not None and etag == held.etag)
        assert held.etag is None or etag in {held.etag, None}
    elif isinstance(action, Finished):
        assert request.offset > 0
        assert content_range == f"bytes */{request.offset}"
