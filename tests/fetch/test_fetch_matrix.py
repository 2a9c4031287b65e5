"""Every way to misbehave, fresh and resumed, for all that a source may promise: no wrong byte in any cell."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

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
from memory_sink import MemorySink
from modelcask.config import Settings
from modelcask.digest import Digest
from modelcask.errors import CacheError
from modelcask.fetch.download import download
from modelcask.net.client import Client
from modelcask.types import HTTPLocation, Phase, RemoteFile
from origin import Origin, Script
from reply import etag_of

CONTENT = random.Random(1).randbytes(20_000)
OTHER = random.Random(2).randbytes(20_000)
LONGER = CONTENT + b"more"
SHORTER = CONTENT[:-5]
TINY = OTHER[:500]
SAME_ETAG = ETag(etag_of(CONTENT))
AT_HAND = 7_000
"""What an earlier process left, in the resumed cells: more than a cut answer brings."""
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

Outcomes = str | tuple[str, str]
"""For both cells of a promise, or (fresh, resumed). ``a|b``: which of them it is, is a race in the client's parser."""
TABLE: dict[str, tuple[Script, dict[str, Outcomes]]] = {}


def play(name: str, script: Script, *, expect: Outcomes, **but: Outcomes) -> None:
    """Add a row: what comes out in every cell, but for the promises named."""
    TABLE[name] = script, dict.fromkeys(PROMISES, expect) | but


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

play("announces too much", [ContentLength(+5)], expect=CHANGED, all=SIZE)
play("announces too little", [ContentLength(-5)], expect=f"{CHANGED}|{RESPONSE}", all=f"{SIZE}|{RESPONSE}",
     digest=f"{TOLD}|{RESPONSE}", nothing=f"{WHOLE}|{RESPONSE}")  # fmt: skip
play("announces too little of a rest", [CUT, ContentLength(-5), Normal()], expect=f"{RIGHT}|{RESPONSE}")
play("chunked", [Chunked()], expect=RIGHT)
play("chunked, cut", [(Chunked(), CUT), Chunked()], expect=RIGHT)
play("chunked, cut before the last chunk", [(Chunked(), CutAfter(20_000)), Chunked()], expect=RIGHT)
play("chunked, ends early in good order", [(Replaced(SHORTER), SAME_ETAG, Chunked()), Normal()],
     expect=RIGHT, digest=(TOLD, TOLD), nothing=WHOLE, all=(RIGHT, SIZE), etag=(RIGHT, CHANGED))  # fmt: skip
play("close-framed", [CloseFramed()], expect=RIGHT, nothing=INTERRUPTED)
play(
    "close-framed, cut", [(CloseFramed(), CUT), CloseFramed()], expect=RIGHT, digest=(TOLD, RIGHT), nothing=INTERRUPTED
)
play("gzip", [Gzip()], expect=RESPONSE)
play("gzip of a rest", [CUT, Gzip()], expect=RESPONSE)
play("a flood of headers", [HeaderFlood()], expect=RESPONSE)

play("no ranges", [CUT, IgnoreRange()], expect=RIGHT)
play("206 from one byte later", [CUT, ContentRange(start=1)], expect=RIGHT)
play("206 to one byte less", [CUT, ContentRange(end=-1)], expect=RIGHT)
play("206 of a larger total", [CUT, ContentRange(total=1)], expect=RIGHT)
play("206 of a larger total, once", [CUT, ContentRange(total=1), Normal()], expect=RIGHT)
play("206 in another unit", [CUT, ContentRange(line="items 1-2/3")], expect=RIGHT)
play("206 in several parts", [CUT, Multipart()], expect=RIGHT)
play("206 that nobody asked for, once", [Unasked206(), Normal()], expect=RIGHT)
play("206 that nobody asked for", [Unasked206()], expect=(RESPONSE, RIGHT), nothing=RESPONSE)
play("206 with a piece that nobody asked for", [Unasked206(500)], expect=(RESPONSE, RIGHT), nothing=RESPONSE)
play("200 with the rest and its Content-Range", [CUT, RangeAs200()], expect=RIGHT)
play("416", [CUT, NotSatisfiable()], expect=CHANGED)
play("416 with the size", [CUT, NotSatisfiable(20_000)], expect=CHANGED)
play("416 once, where everything is at hand", [(Chunked(), CutAfter(20_000)), Normal()], expect=RIGHT)

play("another ETag each time", [ChangingETag()], expect=RIGHT, etag=CHANGED)
play("another ETag each time, cut", [(ChangingETag(), CUT), ChangingETag()], expect=RIGHT, etag=CHANGED)
play("another ETag each time, no If-Range", [(ChangingETag(), CUT), (ChangingETag(), IgnoreIfRange())], expect=CHANGED)
play("weak ETag, cut", [(WeakETag(), CUT), WeakETag()], expect=RIGHT)
play("no ETag, cut", [(ETag(None), CUT), ETag(None)], expect=RIGHT)
play("no ETag, then one", [(ETag(None), CUT), Normal()], expect=RIGHT)
play("ETag, then none in the 206", [CUT, (ETag(None), IgnoreIfRange())], expect=RIGHT)

play("replaced", [Replaced(OTHER)], expect=WHOLE, all=TOLD, digest=TOLD, etag=CHANGED)
play("replaced by something longer", [Replaced(LONGER)], expect=WHOLE, all=SIZE, digest=TOLD, etag=CHANGED)
play("replaced by something shorter", [Replaced(SHORTER)], expect=WHOLE, all=SIZE, digest=TOLD, etag=CHANGED)
play("replaced by something longer, unannounced", [(Replaced(LONGER), Chunked())],
     expect=WHOLE, all=SIZE, digest=TOLD, etag=CHANGED)  # fmt: skip
play("longer under the same ETag, unannounced", [(Replaced(LONGER), SAME_ETAG, Chunked())],
     expect=WHOLE, all=SIZE, digest=TOLD, etag=CHANGED)  # fmt: skip
play("replaced in mid-transfer", [CUT, Replaced(OTHER)], expect=WHOLE, all=TOLD, digest=TOLD, etag=CHANGED)
play("replaced in mid-transfer, no If-Range", [CUT, (Replaced(OTHER), IgnoreIfRange())], expect=CHANGED)
play("longer in mid-transfer under the same ETag", [CUT, (Replaced(LONGER), SAME_ETAG)], expect=CHANGED, all=SIZE,
     digest=(CHANGED, CHANGED))  # fmt: skip
play("replaced in mid-transfer, no ETag, no If-Range",
     [(ETag(None), CUT), (Replaced(OTHER), ETag(None), IgnoreIfRange())],
     expect=WHOLE, all=TOLD, digest=TOLD)  # fmt: skip
play(
    "replaced in mid-transfer by something tiny",
    [CUT, Replaced(TINY)],
    expect=WHOLE,
    all=SIZE,
    digest=TOLD,
    etag=CHANGED,
)
play("one byte flipped", [FlipByte(9_000)], expect=UNSEEN, all=TOLD, digest=TOLD)

play("401", [CUT, Status(401)], expect=DENIED)
play("403 in mid-transfer", [CUT, Status(403)], expect=DENIED)
play("404", [Status(404)], expect=NOT_FOUND)
play("418", [Status(418)], expect=RESPONSE)
play("429, then well", [Status(429, retry_after="1"), Normal()], expect=RIGHT)
play("500 in mid-transfer, then well", [CUT, Status(500), Normal()], expect=RIGHT)
play("503 for ever", [Status(503)], expect=RESPONSE)
play("a login page", [LoginPage()], expect=RESPONSE, digest=TOLD)
play("a login page in mid-transfer", [CUT, LoginPage()], expect=RESPONSE, digest=TOLD)
play("a login page of unknown length", [(LoginPage(), Chunked())], expect=RESPONSE, all=INTERRUPTED, digest=TOLD)
play("a redirect", [Redirect("/elsewhere")], expect=RIGHT)
play("a redirect in mid-transfer", [CUT, Redirect("/elsewhere")], expect=RIGHT)
play("a redirect to nowhere", [Redirect(None)], expect=RESPONSE)
play("a redirect to itself", [Redirect("?again")], expect=RESPONSE)


@pytest.mark.parametrize("name", TABLE)
async def test_no_server_makes_a_wrong_file(origin: Origin, name: str) -> None:
    """Each cell ends in right bytes or in the typed error of the table; never in a mixture of two objects."""
    script, expected = TABLE[name]
    settings = Settings(home=Path("unused"), retries=3, stall_timeout_s=0.3 if "stall" in name else 60.0)
    cells = [(promise, at_hand) for promise in PROMISES for at_hand in (0, AT_HAND)]
    origin.add("/elsewhere", CONTENT)
    async with Client(settings) as client:

        async def outcome(promise: str, at_hand: int) -> str:
            url = origin.add(f"/{promise}-{at_hand}.gguf", CONTENT, behaviours=script)
            return await _outcome(replace(PROMISES[promise], location=HTTPLocation(url)), at_hand, client, settings)

        found = dict(zip(cells, await asyncio.gather(*(outcome(*cell) for cell in cells)), strict=True))
    surprises = {cell: outcome for cell, outcome in found.items() if outcome not in _wanted(expected, *cell)}

    assert not surprises
    assert MIXED not in found.values()


def _wanted(expected: dict[str, Outcomes], promise: str, at_hand: int) -> list[str]:
    outcomes = expected[promise]
    return (outcomes if isinstance(outcomes, str) else outcomes[at_hand > 0]).split("|")


async def _outcome(file: RemoteFile, at_hand: int, client: Client, settings: Settings) -> str:
    sink = MemorySink(CONTENT[:at_hand])
    try:
        await download(file, sink, client=client, settings=settings, report=_ignore, sleep=_no_sleep)
    except CacheError as error:
        return type(error).__name__
    if sink.content == CONTENT:
        return RIGHT
    if file.digests:
        return TOLD  # the store hashes what came and finds out
    if sink.content in {OTHER, LONGER, SHORTER, TINY}:
        return WHOLE
    flipped = bytes(byte ^ (0xFF * (offset == 9_000)) for offset, byte in enumerate(CONTENT))
    return UNSEEN if sink.content == flipped else MIXED


def _ignore(phase: Phase, message: str) -> None: ...


async def _no_sleep(seconds: float) -> None: ...
