"""The decision part of a transfer, as a table: what is asked for, and what each answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from modelcask.digest import Digest
from modelcask.errors import (
    AccessDeniedError,
    CacheError,
    ConnectionInterruptedError,
    ModelNotFoundError,
    RemoteChangedError,
    ResponseError,
    SizeMismatchError,
)
from modelcask.fetch.transfer import (
    Accept,
    Action,
    Answer,
    Fail,
    Finished,
    Held,
    Refuse,
    Request,
    judge,
    next_request,
    strong,
    wrong_size,
)
from modelcask.printable import SafeURL
from modelcask.types import HTTPLocation, RemoteFile

URL = SafeURL("https://host/model.gguf")
SHA256 = Digest("sha256", "0" * 64)
GIT_SHA1 = Digest("git-sha1", "0" * 40)


def remote(*digests: Digest, size: int | None = 100, etag: str | None = '"a"', path: str = "model.gguf") -> RemoteFile:
    return RemoteFile(path, size, digests, HTTPLocation("https://host/model.gguf?s3cret"), etag)


PLAIN = remote()
"""Size and ETag, no digest."""
PINNED = remote(SHA256)
"""Size, ETag and a strong digest."""
DIGEST_ONLY = remote(SHA256, size=None, etag=None)
GIT_ONLY = remote(GIT_SHA1, etag=None)
SIZE_ONLY = remote(etag=None)
ETAG_ONLY = remote(size=None)
UNKNOWN = remote(size=None, etag=None)
EMPTY = remote(size=0)


ASKED = [
    ("nothing at hand", PLAIN, 0, {}),
    ("an ETag guards the joint", PLAIN, 40, {"Range": "bytes=40-", "If-Range": '"a"'}),
    ("an ETag and a digest", PINNED, 40, {"Range": "bytes=40-", "If-Range": '"a"'}),
    ("the size need not be known", ETAG_ONLY, 40, {"Range": "bytes=40-", "If-Range": '"a"'}),
    ("a digest alone will tell", DIGEST_ONLY, 40, {"Range": "bytes=40-"}),
    ("a digest and a weak ETag", remote(SHA256, etag='W/"a"'), 40, {"Range": "bytes=40-"}),
    ("neither ETag nor digest", SIZE_ONLY, 40, {}),
    ("a git SHA-1 is no proof", GIT_ONLY, 40, {}),
    ("a weak ETag is no proof", remote(etag='W/"a"'), 40, {}),
    ("an empty ETag is no proof", remote(etag='""'), 40, {}),
    ("more at hand than the file has", PLAIN, 101, {}),
    ("everything at hand without proof", SIZE_ONLY, 100, {}),
    ("an empty file is asked for", EMPTY, 0, {}),
    ("everything at hand", PLAIN, 100, None),
    ("everything at hand, by digest", remote(SHA256, etag=None), 100, None),
]


@pytest.mark.parametrize(("file", "front", "headers"), [row[1:] for row in ASKED], ids=[row[0] for row in ASKED])
def test_asks_only_for_what_can_be_joined(file: RemoteFile, front: int, headers: dict[str, str] | None) -> None:
    """A Range is sent where a strong ETag or digest proves the joint; nothing is asked when nothing is missing."""
    request = next_request(file, Held.of(file), front)

    assert (request.headers if isinstance(request, Request) else None) == headers


@dataclass(frozen=True)
class Is:
    """The error that is expected, and whether the tries go on."""

    action: type[Fail | Refuse]
    error: type[CacheError]
    retryable: bool


CHANGED = Is(Fail, RemoteChangedError, retryable=True)
WRONG_SIZE = Is(Fail, SizeMismatchError, retryable=False)
REFUSED = Is(Refuse, ResponseError, retryable=True)
PAGE = Is(Fail, ResponseError, retryable=False)
UNFRAMED = Is(Fail, ConnectionInterruptedError, retryable=False)
DENIED = Is(Fail, AccessDeniedError, retryable=False)
LATER = Is(Fail, ResponseError, retryable=True)
NO = Is(Fail, ResponseError, retryable=False)

Row = tuple[str, RemoteFile, int, int, dict[str, str], Action | Is]


def whole(length: int | None = 100, etag: str | None = '"a"', more: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the headers of a whole file."""
    given = {"Content-Length": None if length is None else str(length), "ETag": etag}
    given |= {"Content-Type": "application/octet-stream", **more}
    return {name: value for name, value in given.items() if value is not None}


def part(
    content_range: str | None, length: int | None = None, etag: str | None = '"a"', more: Mapping[str, str] = {}
) -> dict[str, str]:
    """Return the headers of a part of a file."""
    return whole(length, etag, ({} if content_range is None else {"Content-Range": content_range}) | dict(more))


CHUNKED = {"Transfer-Encoding": "chunked"}
HTML = {"Content-Type": "text/html; charset=utf-8"}
HELD = Held(100, '"a"')

FRESH: list[Row] = [
    ("200", PLAIN, 0, 200, whole(), Accept(0, HELD)),
    ("200 with a digest", PINNED, 0, 200, whole(), Accept(0, HELD)),
    ("200 teaches size and ETag", UNKNOWN, 0, 200, whole(7, '"x"'), Accept(0, Held(7, '"x"'))),
    ("200 with a weak ETag proves nothing later", PLAIN, 0, 200, whole(etag='W/"a"'), Accept(0, Held(100, None))),
    ("200 without ETag proves nothing later", PLAIN, 0, 200, whole(etag=None), Accept(0, Held(100, None))),
    ("200 with an unquoted ETag", UNKNOWN, 0, 200, whole(7, "x"), Accept(0, Held(7, None))),
    ("200 with another ETag", PLAIN, 0, 200, whole(etag='"b"'), CHANGED),
    ("200 with another ETag and a digest", PINNED, 0, 200, whole(etag='"b"'), Accept(0, Held(100, '"b"'))),
    ("200 with another ETag and a git SHA-1", remote(GIT_SHA1), 0, 200, whole(etag='"b"'), Accept(0, Held(100, '"b"'))),
    ("200 shorter", PLAIN, 0, 200, whole(99), CHANGED),
    ("200 longer", PLAIN, 0, 200, whole(101), CHANGED),
    ("200 shorter, with a digest", PINNED, 0, 200, whole(99), WRONG_SIZE),
    ("200 longer, with a digest", PINNED, 0, 200, whole(101), WRONG_SIZE),
    ("200 shorter, with a git SHA-1", GIT_ONLY, 0, 200, whole(99), WRONG_SIZE),
    ("200 empty", EMPTY, 0, 200, whole(0), Accept(0, Held(0, '"a"'))),
    ("200 not empty as promised", EMPTY, 0, 200, whole(5), CHANGED),
    ("200 chunked", PLAIN, 0, 200, whole(None, more=CHUNKED), Accept(0, HELD)),
    ("200 chunked, size unknown", ETAG_ONLY, 0, 200, whole(None, more=CHUNKED), Accept(0, Held(None, '"a"'))),
    ("200 chunked beats its length", ETAG_ONLY, 0, 200, whole(5, more=CHUNKED), Accept(0, Held(None, '"a"'))),
    ("200 without framing, size known", PLAIN, 0, 200, whole(None), Accept(0, HELD)),
    ("200 without framing, digest known", DIGEST_ONLY, 0, 200, whole(None, None), Accept(0, Held(None, None))),
    ("200 without framing, ETag known", ETAG_ONLY, 0, 200, whole(None), UNFRAMED),
    ("200 without framing, git SHA-1", remote(GIT_SHA1, size=None), 0, 200, whole(None), UNFRAMED),
    ("200 without framing, nothing known", UNKNOWN, 0, 200, whole(None, None), UNFRAMED),
    ("200 with an unreadable length", UNKNOWN, 0, 200, whole(None, more={"Content-Length": "-5"}), UNFRAMED),
    ("200 page for a model", PLAIN, 0, 200, whole(more=HTML), PAGE),
    ("200 page for a model of unknown size", UNKNOWN, 0, 200, whole(None, None, HTML | CHUNKED), PAGE),
    ("200 page of the wrong size for a pinned model", PINNED, 0, 200, whole(9, more=HTML), PAGE),
    ("200 mistyped as a page, digest will tell", PINNED, 0, 200, whole(more=HTML), Accept(0, HELD)),
    ("200 page for a page", remote(path="a.html"), 0, 200, whole(more=HTML), Accept(0, HELD)),
    ("200 XHTML for JSON", remote(path="a.JSON"), 0, 200, whole(more={"Content-Type": "application/xhtml+xml"}), PAGE),
    ("200 in parts", PLAIN, 0, 200, whole(more={"Content-Type": "multipart/byteranges; boundary=x"}), REFUSED),
    ("200 that says it is whole", PLAIN, 0, 200, part("bytes 0-99/100"), Accept(0, HELD)),
    ("200 that says it is a part", PLAIN, 0, 200, part("bytes 0-49/100"), REFUSED),
    ("200 that says nonsense", PLAIN, 0, 200, part("octets all"), REFUSED),
    ("206 not asked for", PLAIN, 0, 206, part("bytes 0-99/100", 100), REFUSED),
    ("206 not asked for, of a part", PINNED, 0, 206, part("bytes 0-49/100", 50), REFUSED),
    ("206 not asked for, in parts", PLAIN, 0, 206, part(None, more={"Content-Type": "multipart/byteranges"}), REFUSED),
    ("204", PLAIN, 0, 204, {}, NO),
    ("304", PLAIN, 0, 304, {}, NO),
    ("401", PLAIN, 0, 401, {}, DENIED),
    ("404", PLAIN, 0, 404, {}, Is(Fail, ModelNotFoundError, retryable=False)),
    ("416 to no Range", PLAIN, 0, 416, part("bytes */100"), NO),
]

RESUMED: list[Row] = [
    ("206 as asked", PLAIN, 40, 206, part("bytes 40-99/100", 60), Accept(40, HELD)),
    ("206 as asked, chunked", PLAIN, 40, 206, part("bytes 40-99/100", more=CHUNKED), Accept(40, HELD)),
    ("206 in other capitals", PLAIN, 40, 206, part("Bytes 40-99/100"), Accept(40, HELD)),
    ("206 with a digest and no ETag", PINNED, 40, 206, part("bytes 40-99/100", etag=None), Accept(40, HELD)),
    ("206 teaches the size", ETAG_ONLY, 40, 206, part("bytes 40-99/100"), Accept(40, HELD)),
    ("206 teaches size and ETag", DIGEST_ONLY, 40, 206, part("bytes 40-99/100"), Accept(40, HELD)),
    ("206 with no ETag and no digest", PLAIN, 40, 206, part("bytes 40-99/100", etag=None), REFUSED),
    ("206 with another ETag", PLAIN, 40, 206, part("bytes 40-99/100", etag='"b"'), CHANGED),
    ("206 with another ETag and a digest", PINNED, 40, 206, part("bytes 40-99/100", etag='"b"'), CHANGED),
    ("206 with the ETag gone weak", PLAIN, 40, 206, part("bytes 40-99/100", etag='W/"a"'), CHANGED),
    ("206 with another ETag and another total", PINNED, 40, 206, part("bytes 40-199/200", etag='"b"'), CHANGED),
    ("206 starts early", PLAIN, 40, 206, part("bytes 39-99/100"), REFUSED),
    ("206 starts late", PLAIN, 40, 206, part("bytes 41-99/100"), REFUSED),
    ("206 starts at zero", PINNED, 40, 206, part("bytes 0-99/100"), REFUSED),
    ("206 ends early", PLAIN, 40, 206, part("bytes 40-98/100"), REFUSED),
    ("206 ends late", PLAIN, 40, 206, part("bytes 40-100/100"), REFUSED),
    ("206 ends before it starts", PLAIN, 40, 206, part("bytes 40-39/100"), REFUSED),
    ("206 of another total", PLAIN, 40, 206, part("bytes 40-100/101"), CHANGED),
    ("206 of another total, with a digest", PINNED, 40, 206, part("bytes 40-100/101"), WRONG_SIZE),
    ("206 without a total", PLAIN, 40, 206, part("bytes 40-99/*"), REFUSED),
    ("206 without a Content-Range", PLAIN, 40, 206, part(None, 60), REFUSED),
    ("206 in another unit", PLAIN, 40, 206, part("items 40-99/100"), REFUSED),
    ("206 with an empty figure", PLAIN, 40, 206, part("bytes -99/100"), REFUSED),
    ("206 with two ranges", PLAIN, 40, 206, part("bytes 40-99/100, 0-1/100"), REFUSED),
    ("206 with foreign digits", PLAIN, 40, 206, part("bytes ٤٠-99/100"), REFUSED),
    ("206 with an endless figure", PLAIN, 40, 206, part(f"bytes 40-99/{'1' * 5000}"), REFUSED),
    ("206 of another length", PLAIN, 40, 206, part("bytes 40-99/100", 61), REFUSED),
    ("206 in parts", PLAIN, 40, 206, part(None, more={"Content-Type": "multipart/byteranges; boundary=x"}), REFUSED),
    (
        "206 in parts, with a range",
        PLAIN,
        40,
        206,
        part("bytes 40-99/100", more={"Content-Type": "Multipart/Byteranges"}),
        REFUSED,
    ),
    ("206 to a plain request without proof", SIZE_ONLY, 40, 206, part("bytes 40-99/100"), REFUSED),
    ("200: no ranges here", PLAIN, 40, 200, whole(), Accept(0, HELD)),
    ("200: changed", PLAIN, 40, 200, whole(etag='"b"'), CHANGED),
    ("200: changed, but a digest decides", PINNED, 40, 200, whole(etag='"b"'), Accept(0, Held(100, '"b"'))),
    ("200 of another size", PLAIN, 40, 200, whole(60), CHANGED),
    ("200 of another size, with a digest", PINNED, 40, 200, whole(60), WRONG_SIZE),
    ("200 page", PLAIN, 40, 200, whole(more=HTML), PAGE),
    ("200 with the rest and its Content-Range", PLAIN, 40, 200, part("bytes 40-99/100", 60), Accept(40, HELD)),
    ("200 with the rest, changed", PLAIN, 40, 200, part("bytes 40-99/100", 60, '"b"'), CHANGED),
    ("200 with everything and its Content-Range", PLAIN, 40, 200, part("bytes 0-99/100", 100), Accept(0, HELD)),
    ("200 with something and its Content-Range", PLAIN, 40, 200, part("bytes 20-99/100", 80), REFUSED),
    ("416: nothing is missing", ETAG_ONLY, 40, 416, part("bytes */40"), Finished()),
    ("416: nothing is missing, by digest", DIGEST_ONLY, 40, 416, part("bytes */40", etag=None), Finished()),
    ("416: nothing is missing, without proof", ETAG_ONLY, 40, 416, part("bytes */40", etag=None), REFUSED),
    ("416: nothing is missing, of another", ETAG_ONLY, 40, 416, part("bytes */40", etag='"b"'), CHANGED),
    ("416: it is shorter now", PLAIN, 40, 416, part("bytes */30"), CHANGED),
    ("416: it ends here, against the promise", PLAIN, 40, 416, part("bytes */40"), CHANGED),
    ("416: it ends here, against the promise, with a digest", PINNED, 40, 416, part("bytes */40"), CHANGED),
    ("416 without a size", PLAIN, 40, 416, part(None), CHANGED),
    ("416 with an unreadable size", PLAIN, 40, 416, part("bytes */*"), CHANGED),
    ("403: a signed URL ran out", PINNED, 40, 403, {}, DENIED),
    ("412", PLAIN, 40, 412, {}, NO),
    ("429", PLAIN, 40, 429, {}, LATER),
    ("500", PLAIN, 40, 500, {}, LATER),
    ("503", PLAIN, 40, 503, {}, LATER),
]


@pytest.mark.parametrize("row", [*FRESH, *RESUMED], ids=lambda row: f"{'resumed' if row[2] else 'fresh'}: {row[0]}")
def test_decides_by_the_table(row: Row) -> None:
    """Every answer leads to what the table says, and no refused or failed one to a written byte."""
    _, file, front, status, headers, expected = row
    request = next_request(file, Held.of(file), front)
    assert isinstance(request, Request)

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
    """The table has at least sixty rows, no two of which ask the same question."""
    rows = [
        (file, front, status, tuple(sorted(headers.items()))) for _, file, front, status, headers, _ in FRESH + RESUMED
    ]

    assert len(rows) >= 60
    assert len(rows) == len(set(rows))


def test_retry_after_survives_the_judgement() -> None:
    """What a busy server asks for reaches the one who waits."""
    answer = Answer(503, CIMultiDict({"Retry-After": "7"}), URL)

    action = judge(PLAIN, Held.of(PLAIN), Request(0), answer)

    assert isinstance(action, Fail)
    assert isinstance(action.error, ResponseError)
    assert action.error.retry_after == 7


def test_what_a_body_taught_replaces_what_was_held() -> None:
    """After a 200 of another object, its size and ETag are asked for, not those of the bytes thrown away."""
    held = Held(50, '"old"')

    action = judge(UNKNOWN, held, Request(40, '"old"'), Answer(200, CIMultiDict(whole(60, '"new"')), URL))

    assert action == Accept(0, Held(60, '"new"'))
    assert next_request(UNKNOWN, action.held, 10) == Request(10, '"new"')


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
    front=_FIGURES,
    status=st.sampled_from([200, 206, 416, 500]),
    content_range=_CONTENT_RANGES,
    etag=_ETAGS,
    length=st.none() | _FIGURES,
)
def test_nothing_is_ever_joined_without_proof(
    *, file: RemoteFile, front: int, status: int, content_range: str | None, etag: str | None, length: int | None
) -> None:
    """Whatever comes back, bytes at hand are kept only with an equal strong ETag or a strong promised digest."""
    held = Held.of(file)
    request = next_request(file, held, front)
    if isinstance(request, Finished):
        assert front == file.size_bytes
        assert held.etag or SHA256 in file.digests
        return
    action = judge(file, held, request, Answer(status, CIMultiDict(part(content_range, length, etag)), URL))

    if isinstance(action, Accept) and action.offset:
        total = action.held.total
        assert action.offset == front
        assert content_range == f"bytes {front}-{(total or 0) - 1}/{total}"
        assert file.size_bytes in {None, total}
        assert SHA256 in file.digests or (held.etag is not None and etag == held.etag)
        assert held.etag is None or etag in {held.etag, None}
    elif isinstance(action, Accept):
        assert status == 200
        assert length is None or file.size_bytes in {None, length}
