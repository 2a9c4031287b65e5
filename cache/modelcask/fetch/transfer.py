"""What a server's answer means for the bytes at hand: pure functions, no I/O.

The protocol is RFC 9110: sections 13.1.5 (If-Range), 14 (ranges), 15.3.7 (206) and 15.5.17 (416). Everything
here serves one rule: **two bodies are joined only with proof that they are parts of one object.** Proof is a
strong ETag that the server repeats, or a strong digest that the source promised, which the store checks at the
end. Without either, every answer starts at zero. Where there is such a digest, ETags are not looked at: the machines
of one cluster often make them up from their own inodes. Which bytes to ask for is ``plan``'s to say.

What an answer leads to::

    206                    unit, start, end, total, length and ETag are as asked → Accept
                           anything not as asked, or not asked for, or multipart → Refuse
                           another total → wrong size (below); another ETag and no digest → RemoteChangedError
    200                    Accept as a whole: the object changed, or the server does not do ranges
    200 + Content-Range    read as what it says: some model hubs answer a Range with 200 and the rest
    416 ``bytes */start``  Finished, with the same proof as a 206
    416 otherwise          Fail, RemoteChangedError
    another status         Fail, ``status.status_error``

A wrong size is a SizeMismatchError where the source promised a digest: content that is named by its digest
cannot change, so whoever sends another size sends something else. Without one it is a RemoteChangedError: the
object behind the name was most likely replaced after it was resolved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from modelcask.digest import first_strong
from modelcask.errors import (
    CacheError,
    ConnectionInterruptedError,
    RemoteChangedError,
    ResponseError,
    SizeMismatchError,
)
from modelcask.net.status import is_unasked_page, page_error, status_error
from modelcask.printable import SafeURL, display
from modelcask.types import RemoteFile

_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]+"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII | re.IGNORECASE)
_CURRENT_SIZE = re.compile(r"bytes \*/(\d{1,19})", re.ASCII | re.IGNORECASE)
_MULTIPART: Final = "multipart/byteranges"


@dataclass(frozen=True, slots=True)
class Held:
    """The object that the bytes at hand are a part of, as far as its servers have said."""

    total: int | None
    """Its size in bytes."""
    etag: str | None
    """Its strong validator, quotes included."""

    @classmethod
    def of(cls, file: RemoteFile) -> Held:
        """Start from what the source resolved: an earlier process's bytes are of that object."""
        return cls(file.size_bytes, strong(file.etag))


@dataclass(frozen=True, slots=True)
class Request:
    """One GET: the bytes from ``offset`` to ``end``, to the file's end if that is None.

    The whole file is asked for without a Range header: a server that does not do ranges never notices.
    """

    offset: int
    end: int | None = None
    etag: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that ask for it."""
        if self.is_whole:
            return {}
        headers = {"Range": f"bytes={self.offset}-{'' if self.end is None else self.end - 1}"}
        if self.etag is not None:
            headers["If-Range"] = self.etag
        return headers

    @property
    def is_whole(self) -> bool:
        """Whether it asks for the whole file."""
        return self.offset == 0 and self.end is None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came before the body: its status, its headers (looked up without regard to case), and from where."""

    status: int
    headers: Mapping[str, str]
    url: SafeURL

    @property
    def media_type(self) -> str:
        """The Content-Type in lower case, without its parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def chunked(self) -> bool:
        """Whether the body marks its own end."""
        return "chunked" in self.headers.get("Transfer-Encoding", "").lower()

    @property
    def length(self) -> int | None:
        """The Content-Length where it frames the body: beside Transfer-Encoding it means nothing (RFC 9112, 6.3)."""
        text = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (text.isascii() and text.isdigit()):
            return None
        return int(text)


@dataclass(frozen=True, slots=True)
class Accept:
    """Write this answer's body."""

    held: Held
    """What the bytes at hand are a part of from now on."""
    whole: bool = False
    """Whether it brings the file from its start to its end, whatever was asked: throw away what is at hand first."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing is missing."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Write nothing: this body cannot be joined to the bytes at hand.

    The first time it may be one bad proxy among many, and the bytes are worth another try. A server that does
    it again does not do ranges, and only a transfer without them can ever end.
    """

    error: ResponseError


@dataclass(frozen=True, slots=True)
class Fail:
    """Write nothing: the error says whether asking again makes sense."""

    error: CacheError


Action = Accept | Finished | Refuse | Fail


def strong(etag: str | None) -> str | None:
    """Return the ETag if it may prove that two bodies are of one object: not weak, not empty, well quoted."""
    return etag if etag is not None and _STRONG_ETAG.fullmatch(etag) else None


def may_resume(file: RemoteFile, held: Held) -> bool:
    """Say whether bytes at hand may be joined to those of a later answer."""
    return held.etag is not None or proven_by_digest(file)


def judge(file: RemoteFile, held: Held, request: Request, answer: Answer) -> Action:
    """Return what ``answer`` to ``request`` means for the bytes at hand, which are a part of ``held``."""
    if answer.status == _UNSATISFIABLE and not request.is_whole:
        return _judge_unsatisfiable(file, held, request, answer)
    if answer.status not in {_OK, _PARTIAL}:
        return Fail(status_error(answer.status, answer.headers, answer.url))
    content_range = answer.headers.get("Content-Range")
    if answer.status == _OK and content_range is None and answer.media_type != _MULTIPART:
        return _judge_whole(file, answer)
    return _judge_part(file, held, request, answer, content_range or "")


def wrong_size(file: RemoteFile, announced: int, found: int) -> CacheError:
    """Return the error for a file that has, or an answer that would bring it to, another size in bytes."""
    if file.digests and file.size_bytes is not None:
        return SizeMismatchError(display(file.path), announced, found)
    return _changed(file, f"{announced:,} bytes were announced, and there are {found:,}")


def _judge_whole(file: RemoteFile, answer: Answer) -> Action:
    size, length = file.size_bytes, answer.length
    fits = size is None or length is None or length == size
    if is_unasked_page(answer.headers, file.path, promised=fits and bool(file.digests)):
        return Fail(page_error(answer.url, file.path, answer.status))
    if size is not None and length is not None and length != size:
        return Fail(wrong_size(file, size, length))
    etag, promised = strong(answer.headers.get("ETag")), strong(file.etag)
    if not file.digests and promised and etag and etag != promised:
        # These bytes would be published as the revision that was resolved, and that is another one.
        return Fail(_changed(file, "its ETag is not the one it was resolved with"))
    if size is None and length is None and not answer.chunked and not proven_by_digest(file):
        error = ConnectionInterruptedError(
            f"{answer.url} does not say how long {display(file.path)} is, so a lost connection would look like its "
            "end; pin its digest with #sha256=… and pull again"
        )
        error.retryable = False
        return Fail(error)
    # Not the promised ETag where this body came without: what follows would not be proved to belong to it.
    return Accept(Held(length if size is None else size, etag), whole=True)


def _judge_part(file: RemoteFile, held: Held, request: Request, answer: Answer, content_range: str) -> Action:
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is None or answer.media_type == _MULTIPART:
        return _refuse(file, answer, "which bytes it brings cannot be read")
    start, end, total = (int(number) for number in match.groups())
    if answer.status == _OK and (start, end) == (0, total - 1):
        return _judge_whole(file, answer)
    last = total - 1 if request.end is None else min(request.end, total) - 1
    as_asked = not request.is_whole and (start, end) == (request.offset, last)
    if not as_asked or answer.length not in {None, end + 1 - start}:
        asked = "the whole file" if request.is_whole else request.headers["Range"].replace("=", " ")
        return _refuse(file, answer, f"it brings bytes {start}-{end} of {total}, asked for was {asked}")
    if (other := _other_object(file, held, answer)) is not None:
        return other
    if held.total not in {None, total}:
        return Fail(wrong_size(file, held.total or 0, total))
    return Accept(Held(total, held.etag or strong(answer.headers.get("ETag"))))


def _judge_unsatisfiable(file: RemoteFile, held: Held, request: Request, answer: Answer) -> Action:
    match = _CURRENT_SIZE.fullmatch(answer.headers.get("Content-Range", ""))
    size = int(match[1]) if match else None
    if size != request.offset or held.total not in {None, size}:
        now = "does not have the rest" if size is None else f"has {size:,} in all"
        return Fail(_changed(file, f"{request.offset:,} bytes of it are at hand, and the server {now}"))
    return _other_object(file, held, answer) or Finished()


def _other_object(file: RemoteFile, held: Held, answer: Answer) -> Action | None:
    """Return what to do if the answer is not proved to be about the object held.

    If-Range should have settled it, but servers that ignore it answer 206 whatever they hold now.
    """
    etag = answer.headers.get("ETag")
    if held.etag is None or etag == held.etag or proven_by_digest(file):
        return None
    if etag is not None:
        return Fail(_changed(file, "its ETag is not the one that the bytes at hand came with"))
    return _refuse(file, answer, "it does not repeat the ETag, and there is no digest to prove the joint")


def proven_by_digest(file: RemoteFile) -> bool:
    """Say whether wrong bytes of a file would be found out."""
    return first_strong(file.digests) is not None


def _refuse(file: RemoteFile, answer: Answer, reason: str) -> Refuse:
    return Refuse(
        ResponseError(
            f"the answer {answer.status} for {display(file.path)} cannot be used: {reason}; nothing of it was "
            "written; if this repeats, the server or a proxy on the way does not do ranges properly",
            status=answer.status,
            retryable=True,
        )
    )


def _changed(file: RemoteFile, detail: str) -> RemoteChangedError:
    return RemoteChangedError(
        f"{display(file.path)} changed at its source while it was fetched: {detail}; pull again to get the new one"
    )
