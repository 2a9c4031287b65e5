"""The journal of an ingest claims only what a reader can believe, however it was cut or damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingests import failing
from modelcask.digest import Digest
from modelcask.errors import StorageError, StoreFullError
from modelcask.store import fs, journal
from modelcask.store.journal import Identity, Journal, Segment

SHA, OTHER = Digest("sha256", "a" * 64), Digest("sha256", "b" * 64)
B3 = Digest("blake3", "c" * 64)
GIT = Digest("git-sha1", "d" * 40)
RECORD = 32
IDENTITY = Identity("https://host/m", "r1", "m", 100, '"e1"', ())

segments = st.builds(
    Segment,
    offset=st.integers(0, 2**64 - 1),
    length=st.integers(1, 2**32 - 1),
    check=st.binary(min_size=16, max_size=16),
)


def chain(*lengths: int, start: int = 0, check: bytes = b"x" * 16) -> list[Segment]:
    found: list[Segment] = []
    for length in lengths:
        found.append(Segment(start, length, check))
        start += length
    return found


def claim(folder: Path, *groups: Sequence[Segment], found: Sequence[Segment] = ()) -> None:
    """Claim in a folder what one process does: group by group."""
    log = Journal(folder, IDENTITY, found=found)
    for group in groups:
        for segment in group:
            log.add(segment)
        log.write()
    log.close()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(segments, max_size=5), max_size=4), st.booleans())
def test_what_is_claimed_is_read_back_in_order(tmp_path: Path, groups: list[list[Segment]], at_once: bool) -> None:
    """Offsets to 2^64, lengths to 2^32, in as many groups as it takes, by one process or by several."""
    (tmp_path / "journal").unlink(missing_ok=True)
    if at_once:
        claim(tmp_path, *groups)
    else:
        for group in groups:
            claim(tmp_path, group)
    assert journal.read(tmp_path / "journal") == [segment for group in groups for segment in group]


def test_a_journal_that_is_not_there_claims_nothing(tmp_path: Path) -> None:
    """Neither does a folder in its place."""
    assert journal.read(tmp_path / "none") == []
    assert journal.read(tmp_path) == []


def test_a_torn_tail_is_dropped_and_then_overwritten(tmp_path: Path) -> None:
    """Cut at each byte of the last record: what is before it stands, and the next claim is read again."""
    path = tmp_path / "journal"
    before, after = chain(8, 8, 8), chain(8, start=24)
    claim(tmp_path, before)
    whole = path.read_bytes()
    assert len(whole) == 3 * RECORD
    for size in range(2 * RECORD, 3 * RECORD):
        path.write_bytes(whole[:size])
        assert journal.read(path) == before[:2]
        claim(tmp_path, after, found=before[:2])
        assert journal.read(path) == [*before[:2], *after]


def test_a_damaged_record_is_passed_over(tmp_path: Path) -> None:
    """A flipped bit anywhere costs its own claim: those before and behind it, and later ones, are each proved alone."""
    path = tmp_path / "journal"
    before, after = chain(8, 8, 8), chain(8, start=8)
    claim(tmp_path, before)
    whole = path.read_bytes()
    for at in range(RECORD, 2 * RECORD):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert journal.read(path) == [before[0], before[2]]
        claim(tmp_path, after)
        assert journal.read(path) == [before[0], before[2], *after]


def test_zeros_are_no_record(tmp_path: Path) -> None:
    """What a power cut leaves in place of records claims nothing, and what is behind them counts."""
    path = tmp_path / "journal"
    claim(tmp_path, chain(8))
    path.write_bytes(bytes(4 * RECORD) + path.read_bytes())
    assert journal.read(path) == chain(8)


def test_no_bytes_are_no_claim(tmp_path: Path) -> None:
    """A record that is whole and of nothing proves nothing."""
    claim(tmp_path, [Segment(8, 0, b"x" * 16)])
    assert journal.read(tmp_path / "journal") == []


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    """Nobody makes us append to a file outside."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "journal").symlink_to(victim)
    with pytest.raises(StorageError):
        claim(tmp_path, chain(8))
    assert victim.read_bytes() == b"precious"


def test_claims_that_could_not_be_written_wait_for_the_next_time(tmp_path: Path) -> None:
    """They are neither lost nor there twice, whichever of the files could not be made or written."""
    for step in ("partial.meta.create", "partial.meta.rename", "partial.journal.create", "partial.journal.write"):
        for path in tmp_path.iterdir():
            path.unlink()
        log = Journal(tmp_path, IDENTITY)
        log.add(chain(8)[0])
        fs.on_step(failing(step, 28))
        with pytest.raises(StoreFullError):
            log.write()
        assert log.is_empty
        log.add(chain(8, 8)[1])
        log.write()
        assert not log.is_empty
        assert journal.read(tmp_path / "journal") == log.claims == chain(8, 8)
        log.close()


def test_claims_are_replaced_in_one_step(tmp_path: Path) -> None:
    """Killed at any moment, the old ones are there or the new ones; later claims come behind them."""
    path = tmp_path / "journal"
    before, after = chain(8, 8, 8), chain(8, start=16)
    claim(tmp_path, before)
    log = Journal(tmp_path, IDENTITY, found=before)
    fs.on_step(lambda name: seen.append((name, journal.read(path))))
    seen: list[tuple[str, list[Segment]]] = []
    log.replace(after)
    fs.on_step(None)
    assert seen[-1] == ("partial.journal.fsync-folder", after)
    assert {tuple(claims) for _, claims in seen[:-1]} == {tuple(before)}
    log.add(before[0])
    log.write()
    log.close()
    assert journal.read(path) == [*after, before[0]]


def test_what_waits_can_be_replaced_too(tmp_path: Path) -> None:
    """Nothing is on disk before the first write."""
    log = Journal(tmp_path, IDENTITY)
    log.add(chain(8)[0])
    log.replace(chain(3))
    assert list(tmp_path.iterdir()) == []
    log.write()
    log.close()
    assert journal.read(tmp_path / "journal") == chain(3)


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Written, replaced, written again and closed."""
    before = len(list(Path("/dev/fd").iterdir()))
    log = Journal(tmp_path, IDENTITY)
    for _ in range(3):
        log.add(chain(8)[0])
        log.write()
        log.replace(chain(8, 8))
        log.add(chain(8)[0])
        log.write()
    log.close()
    log.close()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_the_last_that_waits_is_given_up_first(tmp_path: Path) -> None:
    """To make room on a full disk: what is told is where the bytes end that are still claimed."""
    log = Journal(tmp_path, IDENTITY)
    for segment in chain(8, 8, 8):
        log.add(segment)
    assert [log.give_up_last() for _ in range(4)] == [16, 8, 0, 0]
    log = Journal(tmp_path, IDENTITY, found=chain(8, start=40))
    log.add(chain(8)[0])
    assert [log.give_up_last() for _ in range(2)] == [48, 48]
    assert log.claims == chain(8, start=40)


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


def describe(folder: Path, identity: Identity) -> None:
    log = Journal(folder, identity)
    log.add(chain(8)[0])
    log.write()
    log.close()


@pytest.mark.parametrize(("written", "wanted", "same"), SAME.values(), ids=SAME.keys())
def test_bytes_are_joined_only_if_they_must_be_the_same(
    tmp_path: Path, written: Identity, wanted: Identity, same: bool
) -> None:
    """A strong digest that will be checked, or everything equal under a strong validator."""
    describe(tmp_path, written)
    assert journal.same_content(tmp_path / "meta", wanted) is same


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
    describe(tmp_path, IDENTITY)
    assert journal.same_content(path, IDENTITY)
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))
    assert not journal.same_content(path, IDENTITY)


def test_a_claim_never_comes_before_what_it_is_a_claim_of(tmp_path: Path) -> None:
    """The description is durable before the first claim; a claim is durable after ``sync``. Both are private."""
    seen: list[str] = []
    fs.on_step(seen.append)
    try:
        log = Journal(tmp_path, IDENTITY)
        log.sync()
        for number in range(2):
            log.add(chain(8, start=8 * number)[0])
            log.write()
        log.sync()
        log.close()
    finally:
        fs.on_step(None)
    meta = [f"partial.meta.{verb}" for verb in ("create", "write", "fsync", "rename", "fsync-folder")]
    assert seen[:5] == meta
    assert seen[5:] == [f"partial.journal.{verb}" for verb in ("create", "write", "write", "fdatasync")]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
