"""The table of misbehaving servers: what each does, and what has to come of it for all that a source may promise."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from behaviours import (
    ChangingETag,
    Chunked,
    CloseFramed,
    ContentLength,
    ContentRange,
    CutAfter,
    Drip,
    ETag,
    FlipByte,
    Gzip,
    HeaderFlood,
    IgnoreIfRange,
    IgnoreRange,
    LoginPage,
    Multipart,
    Normal,
    NotSatisfiable,
    RangeAs200,
    Redirect,
    Replaced,
    StallAfter,
    Status,
    Unasked206,
    WeakETag,
    hang_up_at_once,
    never_answer,
)
from crowd_behaviours import Behind, Crowded, OpenEnd, SignedURL
from modelcask.digest import Digest
from modelcask.ranges import ByteRange
from modelcask.types import HTTPLocation, RemoteFile
from origin import Script
from reply import etag_of

CONTENT = random.Random(1).randbytes(20_000)
OTHER = random.Random(2).randbytes(20_000)
LONGER = CONTENT + b"more"
SHORTER = CONTENT[:-5]
TINY = OTHER[:500]
SAME_ETAG = ETag(etag_of(CONTENT))
MODES = {
    "fresh": [],
    "resumed": [ByteRange(0, 7_000)],
    "holed": [ByteRange(0, 3_000), ByteRange(9_000, 12_500)],
    "ranged": [],
    "ranged, holed": [ByteRange(1_500, 4_000), ByteRange(9_000, 12_500)],
}
"""What an earlier process left: more than a cut answer brings."""
SHA256 = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())

PROMISES = {
    "all": RemoteFile("m.gguf", len(CONTENT), (SHA256,), HTTPLocation(""), etag_of(CONTENT)),
    "digest": RemoteFile("m.gguf", None, (SHA256,), HTTPLocation("")),
    "etag": RemoteFile("m.gguf", len(CONTENT), (), HTTPLocation(""), etag_of(CONTENT)),
    "nothing": RemoteFile("m.gguf", None, (), HTTPLocation("")),
}
"""``etag`` comes with the size; nothing was known of ``nothing`` before its first answer."""

RIGHT = "right"
WHOLE = "another object, whole"
"""Nobody had promised which one it would be."""
TOLD = "wrong, as the promised digest tells"
UNSEEN = "wrong under the right size and ETag, and no digest to tell"
MIXED = "WRONG"
INTERRUPTED, CHANGED, SIZE = "ConnectionInterruptedError", "RemoteChangedError", "SizeMismatchError"
RESPONSE, DENIED, NOT_FOUND = "ResponseError", "AccessDeniedError", "ModelNotFoundError"

Outcomes = str | tuple[str, ...]
"""Or (with nothing at hand, with a beginning, with holes). ``a|b``: which of them it is, is a race of packets."""


@dataclass(frozen=True, slots=True)
class Row:
    """One behaviour, and what comes of it for each promise."""

    script: Script
    expected: dict[str, Outcomes]
    ranged: dict[str, Outcomes]
    """Where several ranges are fetched at a time, if that makes a difference."""
    ranges_only: bool
    host: str | None
    """Under which name the origin is asked, if not its address."""


TABLE: dict[str, Row] = {}


def play(
    name: str,
    script: Script,
    *,
    expect: Outcomes,
    ranged: dict[str, Outcomes] | None = None,
    ranges_only: bool = False,
    host: str | None = None,
    **but: Outcomes,
) -> None:
    """Add a row: what comes out in every cell, but for the promises named."""
    assert name not in TABLE
    TABLE[name] = Row(script, dict.fromkeys(PROMISES, expect) | but, ranged or {}, ranges_only, host)


CUT = CutAfter(1000)

play("a good server", [], expect=RIGHT)
play("FIN in the body", [CUT, Normal()], expect=RIGHT)
play("FIN in every body, a little further each time", [CUT], expect=RIGHT)
play("FIN in every body, no ranges", [(IgnoreRange(), CUT)], expect=INTERRUPTED)
play("FIN before the head", [hang_up_at_once(), Normal()], expect=RIGHT)
play("FIN before every head", [hang_up_at_once()], expect=INTERRUPTED)
play("RST in the body", [CutAfter(1000, reset=True), Normal()], expect=RIGHT)
play("RST after every head", [CutAfter(0, reset=True)], expect=INTERRUPTED)
play("stall in the body", [StallAfter(1000), Normal()], expect=RIGHT)
play("stall before the head", [never_answer(), Normal()], expect=RIGHT)
play("stall in every body, no ranges", [(IgnoreRange(), StallAfter(1000))], expect="TransferTimeoutError")
play("slow", [Drip(3000, 0.001)], expect=RIGHT)

play("announces too much", [ContentLength(+5)], expect=CHANGED, all=SIZE, ranged={"digest": SIZE})
play("announces too little", [ContentLength(-5)], expect=f"{CHANGED}|{RESPONSE}", all=f"{SIZE}|{RESPONSE}",
     digest=f"{TOLD}|{RESPONSE}", nothing=f"{WHOLE}|{RESPONSE}")  # fmt: skip
play("announces too little of a rest", [CUT, ContentLength(-5), Normal()], expect=f"{RIGHT}|{RESPONSE}")
play("chunked", [Chunked()], expect=RIGHT)
play("chunked, cut", [(Chunked(), CUT), Chunked()], expect=RIGHT)
play("chunked, cut before the last chunk", [(Chunked(), CutAfter(20_000)), Chunked()], expect=RIGHT)
play("chunked, ends early in good order", [(Replaced(SHORTER), SAME_ETAG, Chunked()), Normal()],
     expect=RIGHT, digest=(TOLD, TOLD, CHANGED), nothing=WHOLE, all=(RIGHT, SIZE), etag=(RIGHT, CHANGED),
     ranged={"all": SIZE, "digest": SIZE, "etag": CHANGED, "nothing": RIGHT})  # fmt: skip
play("close-framed", [CloseFramed()], expect=RIGHT, nothing=INTERRUPTED, ranged={"nothing": RIGHT})
play(
    "close-framed, cut",
    [(CloseFramed(), CUT), CloseFramed()],
    expect=RIGHT,
    digest=(TOLD, RIGHT),
    nothing=INTERRUPTED,
    ranged={"digest": RIGHT, "nothing": RIGHT},
)
play("gzip", [Gzip()], expect=RESPONSE)
play("gzip of a rest", [CUT, Gzip()], expect=RESPONSE)
play("a flood of headers", [HeaderFlood()], expect=RESPONSE)

play("no ranges", [CUT, IgnoreRange()], expect=RIGHT)
play("206 from one byte later", [CUT, ContentRange(start=1)], expect=RIGHT)
play("206 to one byte less", [CUT, ContentRange(end=-1)], expect=RIGHT)
play(
    "206 of a larger total",
    [CUT, ContentRange(total=1)],
    expect=RIGHT,
    all=(RIGHT, RIGHT, SIZE),
    digest=(RIGHT, RIGHT, CHANGED),
    etag=(RIGHT, RIGHT, CHANGED),
    ranged={"all": SIZE, "digest": SIZE, "etag": CHANGED, "nothing": f"{CHANGED}|{RIGHT}"},
)
play(
    "206 of a larger total, once",
    [CUT, ContentRange(total=1), Normal()],
    expect=RIGHT,
    all=(RIGHT, RIGHT, SIZE),
    digest=(RIGHT, RIGHT, CHANGED),
    etag=(RIGHT, RIGHT, CHANGED),
    ranged={"all": SIZE, "digest": SIZE, "etag": CHANGED, "nothing": f"{CHANGED}|{RIGHT}"},
)
play("206 in another unit", [CUT, ContentRange(line="items 1-2/3")], expect=RIGHT)
play("206 in several parts", [CUT, Multipart()], expect=RIGHT)
play("206 that nobody asked for, once", [Unasked206(), Normal()], expect=RIGHT)
play(
    "206 that nobody asked for",
    [Unasked206()],
    expect=(RESPONSE, RIGHT),
    nothing=RESPONSE,
    ranged={"all": RIGHT, "digest": RIGHT, "etag": RIGHT},
)
play(
    "206 with a piece that nobody asked for",
    [Unasked206(500)],
    expect=(RESPONSE, RIGHT),
    nothing=RESPONSE,
    ranged={"all": RIGHT, "digest": RIGHT, "etag": RIGHT},
)
play("200 with the rest and its Content-Range", [CUT, RangeAs200()], expect=RIGHT)
play("416", [CUT, NotSatisfiable()], expect=CHANGED)
play("416 with the size", [CUT, NotSatisfiable(20_000)], expect=CHANGED)
play("416 once, where everything is at hand", [(Chunked(), CutAfter(20_000)), Normal()], expect=RIGHT)

play("another ETag each time", [ChangingETag()], expect=RIGHT, etag=CHANGED)
play("another ETag each time, cut", [(ChangingETag(), CUT), ChangingETag()], expect=RIGHT, etag=CHANGED)
play("another ETag each time, no If-Range", [(ChangingETag(), CUT), (ChangingETag(), IgnoreIfRange())],
     expect=RIGHT, etag=CHANGED, nothing=CHANGED)  # fmt: skip
play("weak ETag, cut", [(WeakETag(), CUT), WeakETag()], expect=RIGHT)
play("no ETag, cut", [(ETag(None), CUT), ETag(None)], expect=RIGHT)
play("no ETag, then one", [(ETag(None), CUT), Normal()], expect=RIGHT)
play("ETag, then none in the 206", [CUT, (ETag(None), IgnoreIfRange())], expect=RIGHT)

play("replaced", [Replaced(OTHER)], expect=WHOLE, all=TOLD, digest=TOLD, etag=CHANGED)
play(
    "replaced by something longer",
    [Replaced(LONGER)],
    expect=WHOLE,
    all=SIZE,
    digest=TOLD,
    etag=CHANGED,
    ranged={"digest": SIZE, "nothing": CHANGED},
)
play(
    "replaced by something shorter",
    [Replaced(SHORTER)],
    expect=WHOLE,
    all=SIZE,
    digest=TOLD,
    etag=CHANGED,
    ranged={"digest": SIZE, "nothing": CHANGED},
)
play("replaced by something longer, unannounced", [(Replaced(LONGER), Chunked())],
     expect=WHOLE, all=SIZE, digest=TOLD, etag=CHANGED, ranged={"digest": SIZE, "nothing": CHANGED})  # fmt: skip
play("longer under the same ETag, unannounced", [(Replaced(LONGER), SAME_ETAG, Chunked())],
     expect=WHOLE, all=SIZE, digest=TOLD, etag=CHANGED, ranged={"digest": SIZE, "nothing": CHANGED})  # fmt: skip
play("replaced in mid-transfer", [CUT, Replaced(OTHER)], expect=WHOLE, all=TOLD, digest=TOLD, etag=CHANGED)
play("replaced in mid-transfer, no If-Range", [CUT, (Replaced(OTHER), IgnoreIfRange())],
     expect=CHANGED, all=TOLD, digest=TOLD)  # fmt: skip
play("longer in mid-transfer under the same ETag", [CUT, (Replaced(LONGER), SAME_ETAG)], expect=CHANGED, all=SIZE,
     digest=(CHANGED, CHANGED), ranged={"digest": SIZE})  # fmt: skip
play("replaced in mid-transfer, no ETag, no If-Range",
     [(ETag(None), CUT), (Replaced(OTHER), ETag(None), IgnoreIfRange())],
     expect=WHOLE, all=TOLD, digest=TOLD)  # fmt: skip
play(
    "replaced in mid-transfer by something tiny",
    [CUT, Replaced(TINY)],
    expect=WHOLE,
    all=CHANGED,
    digest=CHANGED,
    etag=CHANGED,
    ranged={"nothing": CHANGED},
)
play("one byte flipped", [FlipByte(14_000)], expect=UNSEEN, all=TOLD, digest=TOLD)

play("401", [CUT, Status(401)], expect=DENIED)
play("403 in mid-transfer", [CUT, Status(403)], expect=DENIED)
play("404", [Status(404)], expect=NOT_FOUND)
play("418", [Status(418)], expect=RESPONSE)
play("429, then well", [Status(429, retry_after="1"), Normal()], expect=RIGHT)
play("500 in mid-transfer, then well", [CUT, Status(500), Normal()], expect=RIGHT)
play("503 for ever", [Status(503)], expect=RESPONSE)
play("a login page", [LoginPage()], expect=RESPONSE, digest=TOLD, ranged={"digest": RESPONSE})
play("a login page in mid-transfer", [CUT, LoginPage()], expect=RESPONSE, digest=TOLD, ranged={"digest": RESPONSE})
play(
    "a login page of unknown length",
    [(LoginPage(), Chunked())],
    expect=RESPONSE,
    all=INTERRUPTED,
    digest=TOLD,
    ranged={"digest": INTERRUPTED},
)
play("a redirect", [Redirect("/elsewhere")], expect=RIGHT)
play("a redirect in mid-transfer", [CUT, Redirect("/elsewhere")], expect=RIGHT)
play("a redirect to nowhere", [Redirect(None)], expect=RESPONSE)
play("a redirect to itself", [Redirect("?again")], expect=RESPONSE)
play("a name that nobody knows", [Redirect("https://name.invalid/m")], expect=INTERRUPTED)
play("a name that nobody knows, for a moment", [CUT, Redirect("https://name.invalid/m"), Normal()], expect=RIGHT)
play("a name whose IPv6 address is dead", [CUT, Normal()], expect=RIGHT, host="both.localhost")
play("drips", [Drip(8, 0.001), Normal()], expect=RIGHT)
play("drips for ever, no ranges", [(IgnoreRange(), Drip(8, 0.001))], expect="TransferTimeoutError")
play("a signed URL that runs out", [(SignedURL(2), CUT)], expect=RIGHT)
play("a signed URL that has always run out", [SignedURL(0)], expect=DENIED)
play("429 with a date", [CUT, Status(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), Normal()], expect=RIGHT)
play("503 twice, then well", [Status(503), Status(503, retry_after="2"), Normal()], expect=RIGHT)


def play_ranges(name: str, script: Script, *, expect: Outcomes, nothing: Outcomes = RIGHT, **but: Outcomes) -> None:
    """Add a row of what only a transfer of several ranges can meet: without any proof there are none."""
    play(name, script, expect=expect, ranges_only=True, ranged={"nothing": nothing, **but})


SLOW = Drip(500, 0.002)

play_ranges("a good server, slowly", [SLOW], expect=RIGHT)
play_ranges("another ETag behind the middle", [Behind(8_000, (ChangingETag(),))], expect=RIGHT, etag=CHANGED)
play_ranges("another ETag behind the middle, no If-Range", [Behind(8_000, (ETag('"b"'), IgnoreIfRange()))],
            expect=CHANGED, all=RIGHT, digest=RIGHT)  # fmt: skip
play_ranges("another object behind the middle", [Behind(8_000, (Replaced(OTHER),))],
            expect=CHANGED, all=TOLD, digest=TOLD)  # fmt: skip
play_ranges("another object behind the middle, no If-Range", [Behind(8_000, (Replaced(OTHER), IgnoreIfRange()))],
            expect=CHANGED, all=TOLD, digest=TOLD)  # fmt: skip
play_ranges("no ETag behind the middle", [Behind(8_000, (ETag(None), IgnoreIfRange()))], expect=RIGHT)
play_ranges("206 at first, 200 behind the middle", [Behind(8_000, (IgnoreRange(),))], expect=RIGHT)
play_ranges("206 at first, 200 later", [Normal(), Normal(), Normal(), IgnoreRange()], expect=RIGHT)
play_ranges("206 at first, 200 once", [Normal(), Normal(), IgnoreRange(), Normal()], expect=RIGHT)
play_ranges("200 to some, slowly", [SLOW, (IgnoreRange(), SLOW), SLOW, (IgnoreRange(), SLOW), SLOW], expect=RIGHT)
play_ranges("206 from one byte later in the third", [Normal(), Normal(), ContentRange(start=1), Normal()], expect=RIGHT)
play_ranges("206 from one byte later behind the middle", [Behind(8_000, (ContentRange(start=1),))], expect=RIGHT)
play_ranges(
    "206 of a larger total behind the middle",
    [Behind(8_000, (ContentRange(total=1),))],
    expect=CHANGED,
    all=SIZE,
    digest=SIZE,
)
play_ranges("206 in several parts behind the middle", [Behind(8_000, (Multipart(),))], expect=RIGHT)
play_ranges("206 of the whole rest behind the middle", [Behind(8_000, (OpenEnd(),))], expect=RIGHT)
play_ranges("416 behind the middle", [Behind(8_000, (NotSatisfiable(20_000),))], expect=CHANGED)
play_ranges("a login page behind the middle", [Behind(8_000, (LoginPage(),))], expect=RESPONSE)
play_ranges("404 behind the middle", [Behind(8_000, (Status(404),))], expect=NOT_FOUND)
play_ranges("gzip behind the middle", [Behind(8_000, (Gzip(),))], expect=RESPONSE)
play_ranges("one byte flipped in one range", [Behind(8_000, (FlipByte(14_000),))], expect=UNSEEN, all=TOLD, digest=TOLD)
play_ranges("one connection of four stalls", [SLOW, SLOW, StallAfter(1_000), SLOW], expect=RIGHT)
play_ranges("one connection of four stalls before the head", [SLOW, SLOW, never_answer(), SLOW], expect=RIGHT)
play_ranges("one connection of four drips", [SLOW, SLOW, Drip(8, 0.001), SLOW], expect=RIGHT)
play_ranges("one connection of four is reset", [SLOW, SLOW, CutAfter(1_000, reset=True), SLOW], expect=RIGHT)
play_ranges(
    "one range is reset each time, a little further", [Behind(8_000, (CutAfter(500, reset=True),))], expect=RIGHT
)
play_ranges(
    "the ranges behind the middle are reset each time", [Behind(8_000, (CutAfter(0, reset=True),))], expect=INTERRUPTED
)
play_ranges("every connection is cut", [CutAfter(700)], expect=RIGHT)
for code in (429, 503):
    play_ranges(f"two connections, {code} to others", [(SLOW, Crowded(2, code))], expect=RIGHT)
    play_ranges(f"two connections, {code} with Retry-After to others", [(SLOW, Crowded(2, code, "0"))], expect=RIGHT)
play_ranges("one connection, reset for others", [(SLOW, Crowded(1, 500))], expect=RIGHT)
play_ranges("a signed URL that runs out in mid-file", [SignedURL(2)], expect=RIGHT)
play_ranges("a signed URL that runs out, slowly", [(SLOW, SignedURL(3))], expect=RIGHT)
play_ranges(
    "signed URLs that never work again", [SignedURL(2), SignedURL(2), SignedURL(2), SignedURL(0)], expect=DENIED
)
play_ranges("a redirect for some", [Redirect("/elsewhere"), Normal(), Redirect("/elsewhere"), Normal()], expect=RIGHT)
play_ranges("a name whose IPv6 address is dead, for many", [SLOW], expect=RIGHT)
