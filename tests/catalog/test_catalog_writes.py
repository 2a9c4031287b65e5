"""What is written: whole or not at all, twice like once, and never at the cost of what was known."""

import contextlib
import itertools
import sqlite3
from collections.abc import Callable
from dataclasses import replace

import pytest

from catalog.catalog_samples import (
    HOUR_US,
    SOURCE,
    Clock,
    blake3,
    fill,
    git_sha1,
    held,
    known,
    new_blob,
    record,
    sha256,
    stamp,
)
from modelcask.catalog.catalog import Catalog
from modelcask.catalog.rows import BlobRow
from modelcask.digest import Digest
from modelcask.errors import CorruptStoreError, StorageError
from modelcask.layout import Layout
from modelcask.types import Entry, ReplicaState, TrustLevel

PRESENT, CONDEMNED, TRASH = ReplicaState.PRESENT, ReplicaState.CONDEMNED, ReplicaState.TRASH


def dump(layout: Layout) -> list[str]:
    """Return every row of the catalog."""
    with contextlib.closing(sqlite3.connect(layout.catalog)) as connection:
        return list(connection.iterdump())


def run(layout: Layout, statement: str, *values: object) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(layout.catalog, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def state(catalog: Catalog, number: int) -> ReplicaState | None:
    row = catalog.find_blob(blake3(number))
    return None if row is None else row.state


WRITES: dict[str, Callable[[Catalog], object]] = {
    "record_blobs": lambda c: c.record_blobs([new_blob(number) for number in (1, 8, 9)]),
    "record_revision": lambda c: c.record_revision(
        record("new", held("a", 1), known("b", 9), refs={"main": "a", "v2": ""})
    ),
    "refresh_stamp": lambda c: c.refresh_stamp(blake3(1), stamp(5), verified=True),
    "set_state": lambda c: c.set_state(blake3(1), TRASH, expected=[PRESENT, TRASH]),
    "forget_some": lambda c: c.forget_entries(1, ["file-1"]),
    "forget_all": lambda c: c.forget_entries(1, None),
    "condemn": lambda c: c.condemn([blake3(1), blake3(3), blake3(99)]),
    "delete_replica": lambda c: c.delete_replica(blake3(3)),
    "record_use": lambda c: c.record_use(digests=[blake3(1)], revisions=[1], at=2 * 10**15),
    "set_meta": lambda c: c.set_meta("store", "x"),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_done_twice_is_done_once(catalog: Catalog, layout: Layout, name: str) -> None:
    """Who was killed and does not know whether it was before or after the commit simply does it again."""
    fill(catalog, "k", [1, 2])
    catalog.record_blobs([new_blob(3)])
    before = dump(layout)

    WRITES[name](catalog)
    once = dump(layout)
    WRITES[name](catalog)

    assert once != before
    assert dump(layout) == once


def test_a_recorded_blob_is_found_by_each_strong_digest(catalog: Catalog, clock: Clock) -> None:
    """A blob comes back with everything computed from it, by its BLAKE3 or its SHA-256, never by a weak digest."""
    catalog.record_blobs([new_blob(1)])

    row = BlobRow(blake3(1), 1, (blake3(1), sha256(1), git_sha1(1)), PRESENT, stamp(1), clock.now)
    assert catalog.find_blob(blake3(1)) == row
    assert catalog.find_blob(sha256(1)) == row
    assert catalog.find_blob(git_sha1(1)) is None
    assert catalog.find_blob(blake3(2)) is None


def test_a_blob_may_have_no_name_but_its_own(catalog: Catalog) -> None:
    """The BLAKE3 alone is enough to record a blob; an empty group records nothing."""
    catalog.record_blobs([])
    catalog.record_blobs([replace(new_blob(1), digests=(blake3(1),))])

    row = catalog.find_blob(blake3(1))
    assert row is not None
    assert row.digests == (blake3(1),)
    assert catalog.find_blob(sha256(1)) is None


def test_more_blobs_than_one_statement_takes(catalog: Catalog) -> None:
    """Any number of blobs and entries is recorded, forgotten and condemned, all in one transaction each."""
    numbers = range(1, 1203)
    revision = fill(catalog, "k", numbers)

    assert len(catalog.list_entries(revision)) == 1202
    assert [row.digest for row in catalog.iter_blobs()] == [blake3(number) for number in numbers]
    digests = catalog.forget_entries(revision, [f"file-{number}" for number in numbers])
    assert len(digests) == 1202
    assert catalog.condemn(digests) == digests
    assert catalog.counts().blobs == {CONDEMNED: 1202}


def test_two_blobs_with_one_sha256_are_refused(catalog: Catalog, layout: Layout) -> None:
    """A contradiction is an error, and nothing of its group is recorded."""
    catalog.record_blobs([new_blob(1)])
    before = dump(layout)
    liar = replace(new_blob(2), digests=(blake3(2), sha256(1)))

    with pytest.raises(CorruptStoreError, match="digest"):
        catalog.record_blobs([new_blob(3), liar])

    assert dump(layout) == before


def test_recording_again_makes_a_blob_present_and_proved(catalog: Catalog, clock: Clock) -> None:
    """Bytes that were lost, condemned or in the trash are present again with their new stamp and proof."""
    for number, lost in enumerate(ReplicaState):
        catalog.record_blobs([new_blob(number)])
        assert catalog.set_state(blake3(number), lost, expected=[PRESENT])
    clock.advance(5)
    catalog.record_blobs([replace(new_blob(number), stamp=stamp(number + 50)) for number in range(len(ReplicaState))])

    for number in range(len(ReplicaState)):
        row = catalog.find_blob(blake3(number))
        assert row is not None
        assert (row.state, row.stamp, row.verified_at) == (PRESENT, stamp(number + 50), clock.now)


def test_a_record_never_takes_back_what_is_held(catalog: Catalog) -> None:
    """What two pulls of one revision know is joined: held stays held, listed stays listed, promises stay."""
    catalog.record_blobs([new_blob(1), new_blob(2)])
    revision = catalog.record_revision(record("k", held("a", 1), known("b", 2)))

    again = catalog.record_revision(record("k", known("a", 1), held("b", 2), known("c", 3), listed=False))

    assert again == revision
    both = replace(held("b", 2), promised=(sha256(2), git_sha1(2)))
    first = replace(held("a", 1), promised=(sha256(1), git_sha1(1)))
    assert catalog.list_entries(revision) == [first, both, known("c", 3)]
    row = catalog.find_revision(SOURCE, revision="k")
    assert row is not None
    assert row.listed


def test_a_revision_becomes_listed(catalog: Catalog) -> None:
    """A pull of the whole after a pull of one file makes the revision whole."""
    catalog.record_revision(record("k", known("a", 1), listed=False))
    row = catalog.find_revision(SOURCE, revision="k")
    assert row is not None
    assert not row.listed

    catalog.record_revision(record("k", known("a", 1), known("b", 2)))

    row = catalog.find_revision(SOURCE, revision="k")
    assert row is not None
    assert row.listed


def test_the_same_bytes_keep_their_strongest_proof(catalog: Catalog) -> None:
    """A later pull without the pin weakens nothing; other bytes are as proved as they are."""
    catalog.record_blobs([new_blob(1), new_blob(2)])
    pairs = {f"{first}, {second}": (first, second) for first in TrustLevel for second in TrustLevel}

    def recorded(*entries: Entry) -> dict[str, tuple[Digest | None, TrustLevel | None]]:
        number = catalog.record_revision(record("k", *entries))
        return {entry.path: (entry.blob, entry.trust) for entry in catalog.list_entries(number)}

    recorded(*(held(path, 1, first) for path, (first, _) in pairs.items()))
    again = recorded(*(held(path, 1, second) for path, (_, second) in pairs.items()))
    other = recorded(*(held(path, 2, second) for path, (_, second) in pairs.items()))

    order = list(TrustLevel)
    assert again == {path: (blake3(1), min(pair, key=order.index)) for path, pair in pairs.items()}
    assert other == {path: (blake3(2), second) for path, (_, second) in pairs.items()}


def test_an_evicted_revision_lives_again_when_it_is_recorded(catalog: Catalog, layout: Layout) -> None:
    """Recording brings an evicted revision back, and does not call a degraded one sound."""
    for key in ("evicted", "degraded"):
        fill(catalog, key, [1])
    run(layout, "UPDATE revision SET state = key")

    for key, expected in (("evicted", "live"), ("degraded", "degraded")):
        fill(catalog, key, [1])
        row = catalog.find_revision(SOURCE, revision=key)
        assert row is not None
        assert row.state == expected


def test_a_ref_moves_and_its_way_is_remembered(catalog: Catalog, layout: Layout, clock: Clock) -> None:
    """History grows when a ref comes to point elsewhere, and only then."""
    for key in ("old", "old", "new", "new", "old"):
        clock.advance(1)
        fill(catalog, key, [1], refs={"main": "file-1" if key == "new" else ""})

    times = [clock.now - 4, clock.now - 2, clock.now]
    assert run(layout, "SELECT name, revision_id, at FROM ref_history ORDER BY id") == [
        ("main", number, at) for number, at in zip((1, 2, 1), times, strict=True)
    ]
    assert run(layout, "SELECT name, revision_id, entrypoint, checked_at FROM ref") == [("main", 1, "", clock.now)]


def test_an_entry_of_an_unknown_blob_is_refused(catalog: Catalog, layout: Layout) -> None:
    """A revision never names bytes that were collected meanwhile; nothing of it is recorded."""
    before = dump(layout)

    with pytest.raises(StorageError, match="collected meanwhile"):
        catalog.record_revision(record("k", known("a", 1), held("b", 1)))

    assert dump(layout) == before


def test_a_refreshed_stamp_is_a_proof_only_where_that_is_said(catalog: Catalog, clock: Clock) -> None:
    """The stamp that a hard link's removal changed is taken over, and when the bytes were proved stays."""
    fill(catalog, "k", [1])
    proved = clock.now
    clock.advance(9)
    catalog.refresh_stamp(blake3(1), stamp(41), verified=False)
    row = catalog.find_blob(blake3(1))
    assert row is not None
    assert (row.stamp, row.verified_at) == (stamp(41), proved)
    catalog.refresh_stamp(blake3(1), stamp(42), verified=True)
    row = catalog.find_blob(blake3(1))
    assert row is not None
    assert (row.stamp, row.verified_at) == (stamp(42), clock.now)


def test_a_state_changes_only_from_what_was_expected(catalog: Catalog) -> None:
    """A compare-and-set: whoever comes second sees that it lost, and changes nothing."""
    catalog.record_blobs([new_blob(1)])
    for before, new in itertools.product(ReplicaState, ReplicaState):
        catalog.set_state(blake3(1), before, expected=list(ReplicaState))

        assert not catalog.set_state(blake3(1), new, expected=[other for other in ReplicaState if other is not before])
        assert state(catalog, 1) is before
        assert catalog.set_state(blake3(1), new, expected=[before])
        assert state(catalog, 1) is new
    assert not catalog.set_state(blake3(2), PRESENT, expected=list(ReplicaState))


def test_forgetting_some_paths_leaves_the_others(catalog: Catalog) -> None:
    """A forgotten path stays known; its blob is free only if no other entry refers to it."""
    catalog.record_blobs([new_blob(1), new_blob(2)])
    first = catalog.record_revision(record("one", held("a", 1), held("b", 2)))
    catalog.record_revision(record("two", held("a", 1)))

    assert catalog.forget_entries(first, ["a", "nothing"]) == []
    assert catalog.list_entries(first) == [replace(held("a", 1), blob=None, trust=None), held("b", 2)]
    assert catalog.forget_entries(first, ["b"]) == [blake3(2)]
    assert catalog.find_revision(SOURCE, revision="one") is None
    assert catalog.find_revision(SOURCE, ref="main") is not None


def test_forgetting_all_takes_the_revision_and_its_refs(catalog: Catalog, layout: Layout) -> None:
    """A revision of which nothing is held is gone, with the names and the history that led to it."""
    revision = fill(catalog, "k", [1, 2, 3], refs={"main": "", "main:Q4": "file-1"})

    assert catalog.forget_entries(revision, None) == sorted([blake3(1), blake3(2), blake3(3)])

    for table in ("revision", "entry", "ref", "ref_history"):
        assert run(layout, f"SELECT * FROM {table}") == []
    assert [row.digest for row in catalog.iter_blobs()] == [blake3(1), blake3(2), blake3(3)]


@pytest.mark.parametrize(
    "root",
    [
        "INSERT INTO pin VALUES (1, 'revision', 1, NULL, NULL, NULL, '', 'me', '', 0, NULL)",
        "INSERT INTO pin VALUES (1, 'ref', NULL, 1, NULL, NULL, '', 'me', '', 0, NULL)",
        "INSERT INTO export VALUES (1, '/x', 'hf', 'symlink', 1, 0, 0)",
    ],
)
def test_a_pinned_or_exported_revision_keeps_its_row(catalog: Catalog, layout: Layout, root: str) -> None:
    """What a pin or an export names stays known, though its entries are forgotten."""
    revision = fill(catalog, "k", [1])
    run(layout, root)

    assert catalog.forget_entries(revision, None) == [blake3(1)]
    assert catalog.find_revision(SOURCE, ref="main") is not None


def test_only_what_nothing_protects_is_condemned(catalog: Catalog, layout: Layout, clock: Clock) -> None:
    """Entries, exports and pins that have not run out protect; so does any state but present."""
    fill(catalog, "k", [1])
    catalog.record_blobs([new_blob(number) for number in range(2, 8)])
    later, earlier = clock.now + 1, clock.now - 1
    ids = {number: run(layout, "SELECT id FROM blob WHERE size_bytes = ?", number)[0][0] for number in range(1, 8)}
    run(layout, "INSERT INTO export VALUES (1, '/x', 'hf', 'symlink', 1, 0, 0)")
    run(layout, "INSERT INTO export_entry VALUES (1, 'p', ?)", ids[2])
    for number, expires in ((3, None), (4, later), (5, earlier)):
        run(
            layout,
            "INSERT INTO pin VALUES (NULL, 'blob', NULL, NULL, ?, NULL, '', 'me', '', 0, ?)",
            ids[number],
            expires,
        )
    catalog.set_state(blake3(6), ReplicaState.MISSING, expected=[PRESENT])

    assert catalog.condemn([blake3(number) for number in range(9)]) == sorted([blake3(5), blake3(7)])

    assert {number: state(catalog, number) for number in range(1, 8)} == {
        1: PRESENT,
        2: PRESENT,
        3: PRESENT,
        4: PRESENT,
        5: CONDEMNED,
        6: ReplicaState.MISSING,
        7: CONDEMNED,
    }


def test_deleting_the_bytes_row_keeps_what_is_referred_to(catalog: Catalog, layout: Layout) -> None:
    """Without references blob and digests go with the replica; with one, the blob stays known."""
    fill(catalog, "k", [1])
    catalog.record_blobs([new_blob(2)])

    assert catalog.delete_replica(blake3(1))
    assert catalog.delete_replica(blake3(2))
    assert not catalog.delete_replica(blake3(2))

    assert run(layout, "SELECT size_bytes FROM blob") == [(1,)]
    assert run(layout, "SELECT count(*) FROM digest") == [(2,)]
    assert catalog.find_blob(blake3(1)) is None
    assert catalog.list_uses(blake3(1)) == [(SOURCE, "k", "file-1")]


def test_a_rescued_blob_is_not_deleted(catalog: Catalog) -> None:
    """Who deletes says what state it saw; a reader that rescued the blob meanwhile wins."""
    catalog.record_blobs([new_blob(1)])
    assert catalog.condemn([blake3(1)]) == [blake3(1)]
    assert catalog.set_state(blake3(1), PRESENT, expected=[CONDEMNED])

    assert not catalog.delete_replica(blake3(1), expected=[CONDEMNED, TRASH])
    assert state(catalog, 1) is PRESENT


def test_a_use_is_recorded_once_an_hour(catalog: Catalog, layout: Layout, clock: Clock) -> None:
    """Last use is coarse: a second one within the hour writes nothing, a later one does, and an earlier one never."""
    revision = fill(catalog, "k", [1])
    start = clock.now

    def use(at: int) -> list[tuple[object, ...]]:
        catalog.record_use(digests=[blake3(1)], revisions=[revision], at=at)
        return run(layout, "SELECT b.last_used_at, r.last_used_at FROM blob b, revision r")

    assert use(start + HOUR_US) == [(start, start)]
    assert use(start + HOUR_US + 1) == [(start + HOUR_US + 1,) * 2]
    assert use(start) == [(start + HOUR_US + 1,) * 2]
    catalog.record_use(at=start + 9 * HOUR_US)


def test_the_catalog_remembers_what_it_is_told_of_itself(catalog: Catalog) -> None:
    """Meta values are set, changed and read; an unknown key is None."""
    assert catalog.get_meta("store") is None
    catalog.set_meta("store", "one")
    catalog.set_meta("store", "two")

    assert catalog.get_meta("store") == "two"
    assert catalog.get_meta("min_reader") == "0001"


def test_digests_of_other_algorithms_are_no_names(catalog: Catalog) -> None:
    """An MD5 finds a blob only inside its source, and only if it was computed."""
    md5 = Digest("md5", "0" * 32)
    catalog.record_blobs([replace(new_blob(1), digests=(*new_blob(1).digests, md5))])
    assert catalog.find_blob_in_source(SOURCE, md5) is None

    catalog.record_revision(record("k", held("a", 1)))

    row = catalog.find_blob_in_source(SOURCE, md5)
    assert row is not None
    assert row.digest == blake3(1)
    assert catalog.find_blob(md5) is None
    assert catalog.find_blob_in_source("hf://org/other", md5) is None
