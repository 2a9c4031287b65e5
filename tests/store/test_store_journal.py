"""The journal of an ingest claims only what a reader can believe, however it was cut or damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelcask.digest import Digest
from modelcask.errors import StorageError
from modelcask.store import fs, journal
from modelcask.store.journal import Identity, Segment

SHA, OTHER = Digest("sha256", "a" * 64), Digest("sha256", "b" * 64)
B3 = Digest("blake3", "c" * 64)
GIT = Digest("git-sha1", "d" * 40)
RECORD = 32

segments = st.builds(
    Segment,
    offset=st.integers(0, 2**64 - 1),
    length=st.integers(0, 2**32 - 1),
    check=st.binary(min_size=16, max_size=16),
)


def chain(*lengths: int, start: int = 0, check: bytes = b"x" * 16) -> list[Segment]:
    found: list[Segment] = []
    for length in lengths:
        found.append(Segment(start, length, check))
        start += length
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(segments, max_size=5), max_size=4))
def test_what_is_appended_is_read_back_in_order(tmp_path: Path, groups: list[list[Segment]]) -> None:
    """Offsets to 2^64, lengths to 2^32, in as many groups as it takes."""
    path = tmp_path / "journal"
    path.unlink(missing_ok=True)
    for group in groups:
        journal.append(path, group)
    assert journal.read(path) == [segment for group in groups for segment in group]


def test_a_journal_that_is_not_there_claims_nothing(tmp_path: Path) -> None:
    """Neither does a folder in its place."""
    assert journal.read(tmp_path / "none") == []
    assert journal.read(tmp_path) == []


def test_a_torn_tail_is_dropped_and_then_overwritten(tmp_path: Path) -> None:
    """Cut at each byte of the last record: what is before it stands, and the next append is read again."""
    path = tmp_path / "journal"
    before, after = chain(8, 8, 8), chain(8, start=24)
    journal.append(path, before)
    whole = path.read_bytes()
    assert len(whole) == 3 * RECORD
    for size in range(2 * RECORD, 3 * RECORD):
        path.write_bytes(whole[:size])
        assert journal.read(path) == before[:2]
        journal.append(path, after)
        assert journal.read(path) == [*before[:2], *after]


def test_a_damaged_record_ends_the_reading_but_not_the_writing(tmp_path: Path) -> None:
    """A flipped bit anywhere: nothing behind it is believed, and what is claimed later is not lost behind it."""
    path = tmp_path / "journal"
    before, after = chain(8, 8, 8), chain(8, start=8)
    journal.append(path, before)
    whole = path.read_bytes()
    for at in range(RECORD, 2 * RECORD):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert journal.read(path) == before[:1]
        journal.append(path, after)
        assert journal.read(path) == [*before[:1], *after]


def test_zeros_are_no_record(tmp_path: Path) -> None:
    """What a power cut leaves in place of a record claims nothing."""
    path = tmp_path / "journal"
    path.write_bytes(bytes(4 * RECORD))
    assert journal.contiguous(journal.read(path)) == []


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    """Nobody makes us append to a file outside."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = tmp_path / "journal"
    path.symlink_to(victim)
    with pytest.raises(StorageError):
        journal.append(path, chain(8))
    assert victim.read_bytes() == b"precious"


CHAINS: dict[str, tuple[list[Segment], list[tuple[int, int]]]] = {
    "none": ([], []),
    "in order": (chain(8, 8, 3), [(0, 8), (8, 8), (16, 3)]),
    "out of order": (list(reversed(chain(8, 8, 3))), [(0, 8), (8, 8), (16, 3)]),
    "a gap": ([*chain(8), *chain(8, start=16)], [(0, 8)]),
    "not from the start": (chain(8, 8, start=8), []),
    "no bytes": (chain(0, 8), [(0, 8)]),
    "no bytes only": (chain(0), []),
    "an overlap is no chain": ([*chain(8), *chain(8, start=4)], [(0, 8)]),
    "a longer tail was written later": ([*chain(3), *chain(8, 8)], [(0, 8), (8, 8)]),
    "taken up in the middle": ([*chain(3), *chain(5, 8, start=3)], [(0, 3), (3, 5), (8, 8)]),
    "fetched again and cut earlier": ([*chain(8, 8), *chain(3)], [(0, 3)]),
}


@pytest.mark.parametrize(("claimed", "expected"), CHAINS.values(), ids=CHAINS.keys())
def test_the_prefix_is_what_follows_without_a_gap(claimed: list[Segment], expected: list[tuple[int, int]]) -> None:
    """From offset 0, each segment where the one before ends."""
    assert [(segment.offset, segment.length) for segment in journal.contiguous(claimed)] == expected


def test_a_segment_that_was_fetched_again_is_held_to_its_new_check() -> None:
    """The record of the damaged bytes would fail for ever."""
    old, new = Segment(0, 8, b"old" + bytes(13)), Segment(0, 8, b"new" + bytes(13))
    assert journal.contiguous([old, *chain(8, start=8), new])[0] is new


IDENTITY = Identity("https://host/m", "r1", "m", 100, '"e1"', ())
SAME: dict[str, tuple[Identity, Identity, bool]] = {
    "everything equal, strong validator": (IDENTITY, IDENTITY, True),
    "another source": (IDENTITY, replace(IDENTITY, source="https://host/n"), False),
    "another revision": (IDENTITY, replace(IDENTITY, revision="r2"), False),
    "another path": (IDENTITY, replace(IDENTITY, path="n"), False),
    "another size": (IDENTITY, replace(IDENTITY, size_bytes=101), False),
    "size now unknown": (IDENTITY, replace(IDENTITY, size_bytes=None), False),
    "another validator": (IDENTITY, replace(IDENTITY, etag='"e2"'), False),
    "validator gone": (IDENTITY, replace(IDENTITY, etag=None), False),
    "nothing that proves equality": (replace(IDENTITY, etag=None), replace(IDENTITY, etag=None), False),
    "a weak digest proves nothing": (
        replace(IDENTITY, etag=None, digests=(GIT,)),
        replace(IDENTITY, etag=None, digests=(GIT,)),
        False,
    ),
    "a weak digest beside a validator": (replace(IDENTITY, digests=(GIT,)), replace(IDENTITY, digests=(GIT,)), True),
    "same strong digest from elsewhere": (
        replace(IDENTITY, digests=(SHA,)),
        Identity("hf://models/o/r", "c", "x.bin", 100, None, (SHA,)),
        True,
    ),
    "one of several strong digests": (replace(IDENTITY, digests=(SHA, B3)), replace(IDENTITY, digests=(B3,)), True),
    "same digest, size not known before": (
        replace(IDENTITY, digests=(SHA,), size_bytes=None),
        replace(IDENTITY, digests=(SHA,)),
        True,
    ),
    "same digest, another size": (
        replace(IDENTITY, digests=(SHA,)),
        replace(IDENTITY, digests=(SHA,), size_bytes=99),
        False,
    ),
    "another strong digest": (replace(IDENTITY, digests=(SHA,)), replace(IDENTITY, digests=(OTHER,)), False),
    "a digest that is new": (IDENTITY, replace(IDENTITY, digests=(SHA,)), False),
}


@pytest.mark.parametrize(("written", "wanted", "same"), SAME.values(), ids=SAME.keys())
def test_bytes_are_joined_only_if_they_must_be_the_same(
    tmp_path: Path, written: Identity, wanted: Identity, same: bool
) -> None:
    """A strong digest that will be checked, or everything equal under a strong validator."""
    path = tmp_path / "meta"
    journal.write_meta(path, written)
    assert journal.same_content(path, wanted) is same


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"format": 1}', b"\xff\xfe", b'"text"'])
def test_a_description_that_cannot_be_read_is_of_nothing(tmp_path: Path, content: bytes | None) -> None:
    """Torn, foreign or absent: the ingest begins again."""
    path = tmp_path / "meta"
    if content is not None:
        path.write_bytes(content)
    assert not journal.same_content(path, IDENTITY)


def test_a_description_of_another_format_is_of_nothing(tmp_path: Path) -> None:
    """A newer modelcask may mean something else by its journal."""
    path = tmp_path / "meta"
    journal.write_meta(path, IDENTITY)
    assert journal.same_content(path, IDENTITY)
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))
    assert not journal.same_content(path, IDENTITY)


def test_nothing_is_claimed_before_it_is_durable(tmp_path: Path) -> None:
    """The journal is synced before ``append`` returns, whether it is new or not."""
    seen: list[str] = []
    fs.on_step(seen.append)
    try:
        journal.append(tmp_path / "journal", chain(8))
        journal.append(tmp_path / "journal", chain(8, start=8))
    finally:
        fs.on_step(None)
    written = [name for name in seen if name.endswith((".write", ".fdatasync"))]
    assert written == ["partial.journal.write", "partial.journal.fdatasync"] * 2
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600
