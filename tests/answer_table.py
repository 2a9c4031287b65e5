"""The table of answers: what each means for the bytes at hand, fresh, resumed, and to a range with an end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
from modelcask.fetch.transfer import Accept, Action, Fail, Finished, Held, Refuse, Request, may_resume
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
MIRRORED = remote(SHA256, etag=None)
"""As a mirror knows it: what the source said of its own ETag says nothing here."""


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

Asked = int | tuple[int, int]
"""From where on, and perhaps up to where."""
Row = tuple[str, RemoteFile, Asked, int, dict[str, str], Action | Is]


def request_of(file: RemoteFile, asked: Asked) -> Request:
    """Return the request for the bytes from an offset on, or the plain one where they could not be joined."""
    start, end = (asked, None) if isinstance(asked, int) else asked
    if not may_resume(file, Held.of(file)) or (start, end) == (0, None):
        return Request(0)
    return Request(start, end, Held.of(file).etag)


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
    ("200", PLAIN, 0, 200, whole(), Accept(HELD, whole=True)),
    ("200 with a digest", PINNED, 0, 200, whole(), Accept(HELD, whole=True)),
    ("200 teaches size and ETag", UNKNOWN, 0, 200, whole(7, '"x"'), Accept(Held(7, '"x"'), whole=True)),
    (
        "200 with a weak ETag proves nothing later",
        PLAIN,
        0,
        200,
        whole(etag='W/"a"'),
        Accept(Held(100, None), whole=True),
    ),
    ("200 without ETag proves nothing later", PLAIN, 0, 200, whole(etag=None), Accept(Held(100, None), whole=True)),
    ("200 with an unquoted ETag", UNKNOWN, 0, 200, whole(7, "x"), Accept(Held(7, None), whole=True)),
    ("200 with another ETag", PLAIN, 0, 200, whole(etag='"b"'), CHANGED),
    ("200 with another ETag and a digest", PINNED, 0, 200, whole(etag='"b"'), Accept(Held(100, '"b"'), whole=True)),
    (
        "200 with another ETag and a git SHA-1",
        remote(GIT_SHA1),
        0,
        200,
        whole(etag='"b"'),
        Accept(Held(100, '"b"'), whole=True),
    ),
    ("200 shorter", PLAIN, 0, 200, whole(99), CHANGED),
    ("200 longer", PLAIN, 0, 200, whole(101), CHANGED),
    ("200 shorter, with a digest", PINNED, 0, 200, whole(99), WRONG_SIZE),
    ("200 longer, with a digest", PINNED, 0, 200, whole(101), WRONG_SIZE),
    ("200 shorter, with a git SHA-1", GIT_ONLY, 0, 200, whole(99), WRONG_SIZE),
    ("200 empty", EMPTY, 0, 200, whole(0), Accept(Held(0, '"a"'), whole=True)),
    ("200 not empty as promised", EMPTY, 0, 200, whole(5), CHANGED),
    ("200 chunked", PLAIN, 0, 200, whole(None, more=CHUNKED), Accept(HELD, whole=True)),
    ("200 chunked, size unknown", ETAG_ONLY, 0, 200, whole(None, more=CHUNKED), Accept(Held(None, '"a"'), whole=True)),
    ("200 chunked beats its length", ETAG_ONLY, 0, 200, whole(5, more=CHUNKED), Accept(Held(None, '"a"'), whole=True)),
    ("200 without framing, size known", PLAIN, 0, 200, whole(None), Accept(HELD, whole=True)),
    ("200 without framing, digest known", DIGEST_ONLY, 0, 200, whole(None, None), Accept(Held(None, None), whole=True)),
    ("200 without framing, ETag known", ETAG_ONLY, 0, 200, whole(None), UNFRAMED),
    ("200 without framing, git SHA-1", remote(GIT_SHA1, size=None), 0, 200, whole(None), UNFRAMED),
    ("200 without framing, nothing known", UNKNOWN, 0, 200, whole(None, None), UNFRAMED),
    ("200 with an unreadable length", UNKNOWN, 0, 200, whole(None, more={"Content-Length": "-5"}), UNFRAMED),
    ("200 page for a model", PLAIN, 0, 200, whole(more=HTML), PAGE),
    ("200 page for a model of unknown size", UNKNOWN, 0, 200, whole(None, None, HTML | CHUNKED), PAGE),
    ("200 page of the wrong size for a pinned model", PINNED, 0, 200, whole(9, more=HTML), PAGE),
    ("200 mistyped as a page, digest will tell", PINNED, 0, 200, whole(more=HTML), Accept(HELD, whole=True)),
    ("200 page for a page", remote(path="a.html"), 0, 200, whole(more=HTML), Accept(HELD, whole=True)),
    ("200 XHTML for JSON", remote(path="a.JSON"), 0, 200, whole(more={"Content-Type": "application/xhtml+xml"}), PAGE),
    ("200 in parts", PLAIN, 0, 200, whole(more={"Content-Type": "multipart/byteranges; boundary=x"}), REFUSED),
    ("200 that says it is whole", PLAIN, 0, 200, part("bytes 0-99/100"), Accept(HELD, whole=True)),
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
    ("206 as asked", PLAIN, 40, 206, part("bytes 40-99/100", 60), Accept(HELD)),
    ("206 as asked, chunked", PLAIN, 40, 206, part("bytes 40-99/100", more=CHUNKED), Accept(HELD)),
    ("206 in other capitals", PLAIN, 40, 206, part("Bytes 40-99/100"), Accept(HELD)),
    ("206 with a digest and no ETag", PINNED, 40, 206, part("bytes 40-99/100", etag=None), Accept(HELD)),
    ("206 teaches the size", ETAG_ONLY, 40, 206, part("bytes 40-99/100"), Accept(HELD)),
    ("206 teaches size and ETag", DIGEST_ONLY, 40, 206, part("bytes 40-99/100"), Accept(HELD)),
    ("206 with no ETag and no digest", PLAIN, 40, 206, part("bytes 40-99/100", etag=None), REFUSED),
    ("206 with another ETag", PLAIN, 40, 206, part("bytes 40-99/100", etag='"b"'), CHANGED),
    ("206 with another ETag and a digest", PINNED, 40, 206, part("bytes 40-99/100", etag='"b"'), Accept(HELD)),
    ("206 with the ETag gone weak", PLAIN, 40, 206, part("bytes 40-99/100", etag='W/"a"'), CHANGED),
    ("206 with another ETag and another total", PLAIN, 40, 206, part("bytes 40-199/200", etag='"b"'), CHANGED),
    ("206 of another total and ETag, and a digest", PINNED, 40, 206, part("bytes 40-199/200", etag='"b"'), WRONG_SIZE),
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
    ("200: no ranges here", PLAIN, 40, 200, whole(), Accept(HELD, whole=True)),
    ("200: changed", PLAIN, 40, 200, whole(etag='"b"'), CHANGED),
    ("200: changed, but a digest decides", PINNED, 40, 200, whole(etag='"b"'), Accept(Held(100, '"b"'), whole=True)),
    ("200 of another size", PLAIN, 40, 200, whole(60), CHANGED),
    ("200 of another size, with a digest", PINNED, 40, 200, whole(60), WRONG_SIZE),
    ("200 page", PLAIN, 40, 200, whole(more=HTML), PAGE),
    ("200 with the rest and its Content-Range", PLAIN, 40, 200, part("bytes 40-99/100", 60), Accept(HELD)),
    ("200 with the rest, changed", PLAIN, 40, 200, part("bytes 40-99/100", 60, '"b"'), CHANGED),
    (
        "200 with everything and its Content-Range",
        PLAIN,
        40,
        200,
        part("bytes 0-99/100", 100),
        Accept(HELD, whole=True),
    ),
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

FIRST, MIDDLE, LAST = (0, 40), (40, 60), (60, 100)

RANGED: list[Row] = [
    ("206 of the first part", PLAIN, FIRST, 206, part("bytes 0-39/100", 40), Accept(HELD)),
    ("206 of a part in the middle", PLAIN, MIDDLE, 206, part("bytes 40-59/100", 20), Accept(HELD)),
    ("206 of the last part", PLAIN, LAST, 206, part("bytes 60-99/100", 40), Accept(HELD)),
    ("206 of a part, chunked", PLAIN, MIDDLE, 206, part("bytes 40-59/100", more=CHUNKED), Accept(HELD)),
    (
        "206 teaches the ETag of a mirror",
        MIRRORED,
        FIRST,
        206,
        part("bytes 0-39/100", 40, '"m"'),
        Accept(Held(100, '"m"')),
    ),
    ("206 teaches a mirror's size", DIGEST_ONLY, FIRST, 206, part("bytes 0-39/100", 40), Accept(HELD)),
    ("206 of a file that is shorter than the range", DIGEST_ONLY, (0, 200), 206, part("bytes 0-99/100"), Accept(HELD)),
    ("206 of a shorter file than was promised", PLAIN, LAST, 206, part("bytes 60-79/80", 20), CHANGED),
    ("206 goes on to the end of the file", PLAIN, MIDDLE, 206, part("bytes 40-99/100", 60), REFUSED),
    ("206 ends one byte early", PLAIN, MIDDLE, 206, part("bytes 40-58/100", 19), REFUSED),
    ("206 ends one byte late", PLAIN, MIDDLE, 206, part("bytes 40-60/100", 21), REFUSED),
    ("206 starts one byte early", PLAIN, MIDDLE, 206, part("bytes 39-59/100", 21), REFUSED),
    ("206 of another part", PLAIN, MIDDLE, 206, part("bytes 0-39/100", 40), REFUSED),
    ("206 of the first part for the last", PINNED, LAST, 206, part("bytes 0-39/100", 40), REFUSED),
    ("206 of another length", PLAIN, MIDDLE, 206, part("bytes 40-59/100", 60), REFUSED),
    ("206 with no ETag and no digest", PLAIN, MIDDLE, 206, part("bytes 40-59/100", 20, None), REFUSED),
    ("206 with no ETag and a digest", PINNED, MIDDLE, 206, part("bytes 40-59/100", 20, None), Accept(HELD)),
    ("206 with another ETag", PLAIN, MIDDLE, 206, part("bytes 40-59/100", 20, '"b"'), CHANGED),
    ("206 with another ETag and a digest", PINNED, MIDDLE, 206, part("bytes 40-59/100", 20, '"b"'), Accept(HELD)),
    ("206 with the ETag gone weak", PLAIN, MIDDLE, 206, part("bytes 40-59/100", 20, 'W/"a"'), CHANGED),
    ("206 of another total", PLAIN, MIDDLE, 206, part("bytes 40-59/101", 20), CHANGED),
    ("206 of another total, with a digest", PINNED, MIDDLE, 206, part("bytes 40-59/101", 20), WRONG_SIZE),
    ("206 without a total", PLAIN, MIDDLE, 206, part("bytes 40-59/*", 20), REFUSED),
    ("206 without a Content-Range", PLAIN, MIDDLE, 206, part(None, 20), REFUSED),
    (
        "206 in parts",
        PLAIN,
        MIDDLE,
        206,
        part(None, more={"Content-Type": "multipart/byteranges; boundary=x"}),
        REFUSED,
    ),
    ("206 to a file that proves nothing", SIZE_ONLY, MIDDLE, 206, part("bytes 40-59/100", 20), REFUSED),
    ("200: no ranges here", PLAIN, MIDDLE, 200, whole(), Accept(HELD, whole=True)),
    ("200 to the first part", PLAIN, FIRST, 200, whole(), Accept(HELD, whole=True)),
    ("200: changed", PLAIN, MIDDLE, 200, whole(etag='"b"'), CHANGED),
    (
        "200: changed, but a digest decides",
        PINNED,
        MIDDLE,
        200,
        whole(etag='"b"'),
        Accept(Held(100, '"b"'), whole=True),
    ),
    ("200 of the part's size, without its Content-Range", PLAIN, MIDDLE, 200, whole(20), CHANGED),
    ("200 with the part and its Content-Range", PLAIN, MIDDLE, 200, part("bytes 40-59/100", 20), Accept(HELD)),
    ("200 with the rest and its Content-Range", PLAIN, MIDDLE, 200, part("bytes 40-99/100", 60), REFUSED),
    ("200 with everything and its Content-Range", PLAIN, MIDDLE, 200, part("bytes 0-99/100"), Accept(HELD, whole=True)),
    ("416 for what is there", PLAIN, MIDDLE, 416, part("bytes */100"), CHANGED),
    ("416: it is shorter now", PLAIN, LAST, 416, part("bytes */50"), CHANGED),
    ("416: it ends where this part starts", PINNED, LAST, 416, part("bytes */60"), CHANGED),
    ("416 to the first part", PLAIN, FIRST, 416, part("bytes */0"), CHANGED),
    ("403: too many connections, or a signed URL ran out", PINNED, MIDDLE, 403, {}, DENIED),
    ("429: too many connections", PLAIN, LAST, 429, {"Retry-After": "1"}, LATER),
    ("503: too many connections", PLAIN, LAST, 503, {}, LATER),
]
