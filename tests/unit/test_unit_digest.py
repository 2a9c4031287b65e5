"""Digests are read in one form only, and hashes are those that the field means."""

from __future__ import annotations

import hashlib

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from modelcask.digest import HEX_LENGTHS, STRONG, Digest, new_hash
from modelcask.errors import InvalidDigestError

HEX = "0123456789abcdef"
digests = st.sampled_from(sorted(HEX_LENGTHS)).flatmap(
    lambda name: st.text(HEX, min_size=HEX_LENGTHS[name], max_size=HEX_LENGTHS[name]).map(lambda h: Digest(name, h))
)


@given(digests)
def test_a_digest_reads_back_as_itself(digest: Digest) -> None:
    """Text and raw bytes are two faces of one value."""
    assert Digest.parse(str(digest)) == digest
    assert Digest.from_bytes(digest.algorithm, digest.value) == digest
    assert len(digest.value) * 2 == HEX_LENGTHS[digest.algorithm]


@given(st.text())
def test_what_can_be_read_is_printed_the_same(text: str) -> None:
    """No two texts are one digest, and nothing but InvalidDigestError is raised."""
    try:
        digest = Digest.parse(text)
    except InvalidDigestError:
        return
    assert str(digest) == text


SHA = "a" * 64
WRONG = [
    "",
    ":",
    "sha256",
    "sha256:",
    SHA,
    f":{SHA}",
    f"SHA256:{SHA}",
    f"Sha256:{SHA}",
    f"sha256:{SHA.upper()}",
    f"sha256:{SHA[:-1]}",
    f"sha256:{SHA}0",
    f"sha256:{SHA}\n",
    f"sha256: {SHA[1:]}",
    f" sha256:{SHA}",
    f"sha256:{SHA[:-1]}g",
    f"sha256:0x{SHA[2:]}",
    f"sha256:{SHA[:-1]}\u0660",  # a digit to Python, but no hex digit
    "sha256:" + "\u0661" * 64,
    "sha256:" + "a" * 32 + ":" + "a" * 31,
    f"sha-256:{SHA}",
    f"sha256={SHA}",
    f"sha512:{SHA * 2}",
    f"sha1:{'a' * 40}",
    f"blake3:{'a' * 40}",
    f"git-sha1:{SHA}",
    f"md5:{'a' * 31}",
    "blake3:../../../../../../../../../../../../../../../../../../../etc",
    "sha256:" + "a" * 63 + "\0",
]


@pytest.mark.parametrize("text", WRONG)
def test_another_form_is_refused(text: str) -> None:
    """Short, long, upper-case, unnamed or unknown: a digest that is nearly right is wrong."""
    with pytest.raises(InvalidDigestError):
        Digest.parse(text)


def test_the_refusal_is_short_however_long_the_text() -> None:
    """A megabyte that was meant as a digest does not become a megabyte of message."""
    with pytest.raises(InvalidDigestError) as caught:
        Digest.parse("x" * 1_000_000)
    assert len(str(caught.value)) < 300


def test_only_algorithms_without_known_collisions_are_strong() -> None:
    """Equality of SHA-1 or MD5 proves nothing against somebody who wants to deceive."""
    assert {"blake3", "sha256"} == STRONG
    assert [Digest(name, "0").strong for name in ("blake3", "sha256", "git-sha1", "md5")] == [True, True, False, False]


@given(st.binary(max_size=5000))
def test_hashes_are_the_ones_that_the_names_say(content: bytes) -> None:
    """Against hashlib and blake3; git-sha1 is what ``git hash-object`` prints."""
    expected = {
        "blake3": blake3(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
        "git-sha1": hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest(),
    }
    assert set(expected) == set(HEX_LENGTHS)
    for name, value in expected.items():
        running = new_hash(name, size=len(content))
        running.update(content[:100])
        running.update(memoryview(content)[100:])
        assert running.hexdigest() == value


def test_the_git_hash_of_a_known_blob() -> None:
    """A fixed point from git itself: the blob ``hello\\n``."""
    running = new_hash("git-sha1", size=6)
    running.update(b"hello\n")
    assert running.hexdigest() == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_git_sha1_cannot_begin_without_the_size() -> None:
    """Its first bytes are the size."""
    with pytest.raises(ValueError, match="size"):
        new_hash("git-sha1")
