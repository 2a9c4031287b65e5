"""A fragment that was meant as a pin holds the content, or is refused: it is never passed over."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcask.digest import Digest
from modelcask.errors import InvalidURIError
from modelcask.uri import parse_uri

SHA = "a1" * 32
OTHER = "b2" * 32
SRI = base64.b64encode(bytes.fromhex(SHA)).decode()
SRI_URL = base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode()

MEANT = [
    # the fragment, the part that is named, and the fragment that is suggested
    ("checksum=abc", "#checksum=", None),
    ("checksum", None, None),
    (f"checksum={SHA}", "#checksum=", f"sha256={SHA}"),
    (f"checksum=sha256:{SHA.upper()}", "#checksum=", f"sha256={SHA}"),
    (f"checksum=blake3:{SHA}", "#checksum=", f"blake3={SHA}"),
    ("checksum=md5:0123", "#checksum=", None),
    (f"checksum%3Dsha256%3A{SHA}", "#checksum%3D", f"sha256={SHA}"),
    (f"sum={SHA}", "#sum=", f"sha256={SHA}"),
    (f"hash={SHA}", "#hash=", f"sha256={SHA}"),
    (f"digest=sha-256={SHA}", "#digest=", f"sha256={SHA}"),
    (f"file_sha256={SHA}", "#sha256=", f"sha256={SHA}"),
    (f"sha256sum={SHA}", "#sha256=", f"sha256={SHA}"),
    (f"integrity=sha256-{SRI}", "#integrity=", f"sha256={SHA}"),
    (f"sha256-{SRI}", "#sha256-", f"sha256={SHA}"),
    (f"sha256-{SRI_URL}", "#sha256-", "sha256=" + "fbff" * 16),
    (f"sha256={SRI}", "#sha256=", f"sha256={SHA}"),
    (f"sha-256=:{SRI}:", "#sha-256=", f"sha256={SHA}"),
    (f"integrity=sha512-{SRI}{SRI}", "#integrity=", None),
    ("sha256", "#sha256", None),
    ("SHA-512", "#SHA-512", None),
    ("md5", "#md5", None),
    ("blake3", "#blake3", None),
    (f"x&sha256={SHA}", "sha256=", f"sha256={SHA}"),
    (f"readme#sha256={SHA}", "sha256=", f"sha256={SHA}"),
    (f"sha256={SHA}&x=1", "#sha256=", f"sha256={SHA}"),
    (f"egg=x&sha256={SHA}&md5=" + "0" * 32, "sha256=", f"sha256={SHA}"),
    (f"sha256={SHA}&blake3={SHA}", "#sha256=", None),
    (f"sha256={SHA}&sha256={OTHER}", "#sha256=", None),
    (f"sha256={SHA}0", f"#sha256={SHA}0", None),
    ("sha1=" + "a" * 40, "#sha1=", None),
    ("sha=" + "a" * 40, "#sha=", None),
    ("md5=" + "a" * 32, "#md5=", None),
    ("crc32=deadbeef", "#crc32=", None),
    (f"sha512={SHA}{SHA}", "#sha512=", None),
    (f"sha3-256={SHA}", "#sha3-256=", None),
    (f"blake2s={SHA}", "#blake2s=", None),
    (f"b3sum={SHA}", "#b3sum=", f"blake3={SHA}"),
    ("0" * 32, "#" + "0" * 32, None),
    ("0" * 40, "#" + "0" * 40, None),
    (SHA, f"#{SHA}", f"sha256={SHA}"),
    (f"\u017fha256={SHA}", "#", None),
    # under a name that says nothing the digits may be a token: refused, but not repeated
    (f"access_token={SHA}", "#", None),
]

ANCHORS = ["readme", "L10-L20", "page=2", "files", "model-card", "how-to-check-the-sha256", "hash-tables", "v1.0"]

PLACES = ["https://host/m.gguf", "http://127.0.0.1:8000/m", "file:///m.gguf", "s3://bucket/m.gguf"]


def _ids(row: object) -> str:
    return ascii(row)[:40]


@pytest.mark.parametrize(("fragment", "part", "right"), MEANT, ids=_ids)
@pytest.mark.parametrize("place", PLACES)
def test_what_was_meant_as_a_pin_is_refused(place: str, fragment: str, part: str | None, right: str | None) -> None:
    """The message has the right form, in full where the digest can be read from what was written."""
    if part is None:
        assert parse_uri(f"{place}#{fragment}").pin is None
        return
    with pytest.raises(InvalidURIError, match="64 hex digits") as caught:
        parse_uri(f"{place}#{fragment}")
    error = caught.value
    assert (error.part, error.suggestion) == (part, right and f"{place}#{right}")
    assert "#" not in error.text


@pytest.mark.parametrize("fragment", ANCHORS)
@pytest.mark.parametrize("place", PLACES)
def test_a_plain_anchor_is_dropped_and_told(place: str, fragment: str) -> None:
    """It was never sent to a server, and nobody takes it for a pin."""
    uri = parse_uri(f"{place}#{fragment}")
    assert (uri.canonical, uri.pin) == (place, None)
    assert any("fragment was dropped" in note for note in uri.notes)


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        (f"hf://org/repo/m.gguf#checksum={SHA}", f"hf://org/repo/m.gguf#sha256={SHA}"),
        ("hf:org/repo/m.gguf#sha256", None),
        ("hf:org/repo:Q4_K_M#md5=0123", None),
        (f"hf.co/org/repo/m.gguf#x&sha256={SHA}", f"hf://models/org/repo@main/m.gguf#sha256={SHA}"),
        (
            f"https://huggingface.co/org/repo/blob/main/m.gguf?download=true#integrity=sha256-{SRI}",
            f"hf://models/org/repo@main/m.gguf#sha256={SHA}",
        ),
        (f"https://host/m.gguf?a=1&token=secret#hash={SHA}", f"https://host/m.gguf?a=1#sha256={SHA}"),
        (f"https://user:secret@host/m.gguf#hash={SHA}", f"https://host/m.gguf#sha256={SHA}"),
    ],
)
def test_the_right_form_is_the_whole_uri_without_its_secrets(text: str, suggestion: str | None) -> None:
    """It can be pasted as it is, for the Hub's spellings too."""
    with pytest.raises(InvalidURIError) as caught:
        parse_uri(text)
    assert caught.value.suggestion == suggestion
    assert "secret" not in str(caught.value)


def test_a_commit_behind_a_hub_uri_is_no_pin() -> None:
    """40 hex digits are a revision there; with another algorithm's length they are refused."""
    commit = "0123456789abcdef" * 2 + "01234567"
    assert parse_uri(f"hf:org/repo/m.gguf#{commit}").revision == commit
    with pytest.raises(InvalidURIError):
        parse_uri(f"hf:org/repo/m.gguf#{SHA}")


hex_text = st.integers(20, 140).flatmap(lambda count: st.text("0123456789abcdefABCDEF", min_size=count, max_size=count))
name = st.sampled_from(
    ["checksum", "sum", "HASH", "digest", "integrity", "sha1", "sha-256", "SHA512", "md5", "blake2b"]
)
around = st.sampled_from(["", "x", "readme", "a=1", "L10"])


@settings(deadline=None, max_examples=200)
@given(around, name, st.sampled_from(["=", ":", "%3D", "%3a"]), hex_text, around, st.sampled_from(["&", ";", ",", "#"]))
def test_a_named_digest_anywhere_in_a_fragment_is_refused(  # noqa: PLR0917 - hypothesis passes them
    before: str, name: str, mark: str, digits: str, after: str, between: str
) -> None:
    """Whatever stands around it; what is suggested is pinned by a digest that was written there."""
    fragment = between.join(part for part in (before, f"{name}{mark}{digits}", after) if part)
    with pytest.raises(InvalidURIError) as caught:
        parse_uri(f"https://host/m.gguf#{fragment}")
    suggestion = caught.value.suggestion
    if suggestion is not None:
        assert parse_uri(suggestion).pin == Digest("sha256", digits.lower())


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40).map(lambda text: re.sub(r"\s", "", text)))
def test_a_fragment_is_a_pin_or_dropped_or_refused(fragment: str) -> None:
    """Nothing else comes of any text."""
    try:
        uri = parse_uri(f"https://host/m.gguf#{fragment}")
    except InvalidURIError:
        return
    assert uri.canonical == "https://host/m.gguf" + (f"#{uri.pin.algorithm}={uri.pin.hex}" if uri.pin else "")
