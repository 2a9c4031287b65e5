"""What the catalog answers: lists, totals, and who refers to what."""

import contextlib
import random
import sqlite3

import pytest

from catalog.catalog_samples import (
    SOURCE,
    Clock,
    blake3,
    fill,
    git_sha1,
    held,
    known,
    new_blob,
    random_catalog,
    record,
    sha256,
)
from modelcask.catalog.catalog import Catalog
from modelcask.catalog.reads import Sort
from modelcask.catalog.rows import Counts, SnapshotRow
from modelcask.layout import Layout
from modelcask.types import ReplicaState, TrustLevel


def test_a_snapshot_tells_what_is_held_of_it(catalog: Catalog, clock: Clock) -> None:
    """One row a revision of which something is held, with its names, its counts, its size and its proofs."""
    catalog.record_blobs([new_blob(10), new_blob(20), new_blob(30)])
    entries = (held("a", 10, TrustLevel.FIRST_USE), held("b", 20, TrustLevel.PINNED), held("b2", 20), known("c", 5))
    number = catalog.record_revision(record("k", *entries, listed=False, refs={"v1": "", "main": ""}))
    catalog.record_revision(record("nothing-held", known("a", 1), refs={"next": ""}))
    catalog.set_state(blake3(10), ReplicaState.QUARANTINED, expected=[ReplicaState.PRESENT])
    catalog.delete_replica(blake3(30))

    assert catalog.list_snapshots() == [
        SnapshotRow(
            id=number,
            source=SOURCE,
            revision="k",
            refs=("main", "v1"),
            listed=False,
            files_held=3,
            files_known=4,
            files_damaged=1,
            size_bytes=50,
            fetched_at=clock.now,
            last_used_at=clock.now,
            trust=(TrustLevel.PINNED, TrustLevel.UPSTREAM_SHA256, TrustLevel.FIRST_USE),
        )
    ]
    catalog.delete_replica(blake3(20))
    assert catalog.list_snapshots()[0].files_damaged == 3


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, {"hf://org/a_b", "hf://org/aXb", "hf://Org/a%b", "https://h/x.gguf", "file:///a\\b"}),
        ("*", {"hf://org/a_b", "hf://org/aXb", "hf://Org/a%b", "https://h/x.gguf", "file:///a\\b"}),
        ("hf://*", {"hf://org/a_b", "hf://org/aXb", "hf://Org/a%b"}),
        ("hf://org/a_b", {"hf://org/a_b"}),
        ("hf://org/a?b", {"hf://org/a_b", "hf://org/aXb"}),
        ("hf://Org/*", {"hf://Org/a%b"}),
        ("hf://Org/a%b", {"hf://Org/a%b"}),
        ("HF://ORG/*", set()),
        ("%", set()),
        ("*.gguf", {"https://h/x.gguf"}),
        ("https://h/x?gguf", {"https://h/x.gguf"}),
        ("hf://org/[a]*", set()),
        ("hf", set()),
        ("'; DROP TABLE source; --", set()),
        ("\\", set()),
        ("file:///a\\b", {"file:///a\\b"}),
    ],
)
def test_a_pattern_is_a_glob_over_the_whole_uri(catalog: Catalog, pattern: str | None, expected: set[str]) -> None:
    """``*`` and ``?`` are wild, everything else is itself, case included."""
    catalog.record_blobs([new_blob(1)])
    for source in ("hf://org/a_b", "hf://org/aXb", "hf://Org/a%b", "https://h/x.gguf", "file:///a\\b"):
        catalog.record_revision(record("k", held("a", 1), source=source))

    rows = catalog.list_snapshots(pattern)

    assert {row.source for row in rows} == expected
    assert all(row.refs == ("main",) and row.trust == (TrustLevel.UPSTREAM_SHA256,) for row in rows)


def test_snapshots_are_sorted(catalog: Catalog, clock: Clock) -> None:
    """By name forwards; by size, by last use and by age the largest or latest first, equal ones by name."""
    for source, key, numbers in (("b:", "1", [5]), ("a:", "2", [9]), ("a:", "1", [5]), ("c:", "1", [1])):
        clock.advance(1)
        fill(catalog, key, numbers, source=source, refs={})
    catalog.record_use(revisions=[2], at=clock.now * 2)

    def order(sort: Sort) -> list[str]:
        return [row.source + row.revision for row in catalog.list_snapshots(sort=sort)]

    assert order("name") == ["a:1", "a:2", "b:1", "c:1"]
    assert order("size") == ["a:2", "a:1", "b:1", "c:1"]
    assert order("added") == ["c:1", "a:1", "a:2", "b:1"]
    assert order("used") == ["a:2", "c:1", "a:1", "b:1"]


def test_blobs_come_oldest_proof_first(catalog: Catalog, layout: Layout, clock: Clock) -> None:
    """Those never proved come before all; proving one while iterating does not bring it up again."""
    for number in (3, 1, 2):
        clock.advance(1)
        catalog.record_blobs([new_blob(number)])
    with contextlib.closing(sqlite3.connect(layout.catalog, isolation_level=None)) as connection:
        connection.execute("UPDATE replica SET verified_at = NULL WHERE size_bytes = 2")
    seen = []
    for row in catalog.iter_blobs():
        clock.advance(1)
        catalog.refresh_stamp(row.digest, row.stamp, verified=True)
        seen.append(row.size_bytes)

    assert seen == [2, 3, 1]
    assert [row.size_bytes for row in catalog.iter_blobs()] == [2, 3, 1]


def test_blobs_are_chosen_by_state(catalog: Catalog) -> None:
    """Only the states asked for come, and a blob that goes while iterating is left out."""
    catalog.record_blobs([new_blob(number) for number in range(1, 4)])
    catalog.set_state(blake3(2), ReplicaState.MISSING, expected=[ReplicaState.PRESENT])

    assert [row.digest for row in catalog.iter_blobs([ReplicaState.MISSING])] == [blake3(2)]
    assert list(catalog.iter_blobs([])) == []

    catalog.record_blobs([new_blob(number) for number in range(10, 600)])
    rows = catalog.iter_blobs()
    next(rows)
    catalog.delete_replica(blake3(599))
    assert blake3(599) not in {row.digest for row in rows}


def test_uses_are_listed(catalog: Catalog) -> None:
    """Every path of every revision that refers to a blob, by any of its computed digests."""
    fill(catalog, "k", [1, 2])
    fill(catalog, "j", [1], source="https://h/x", refs={})
    uses = [(SOURCE, "k", "file-1"), ("https://h/x", "j", "file-1")]

    for digest in (blake3(1), sha256(1), git_sha1(1)):
        assert catalog.list_uses(digest) == uses
    assert catalog.list_uses(blake3(9)) == []


def test_the_totals_count_states_and_entries(catalog: Catalog) -> None:
    """Blobs and bytes by state, revisions, and entries held and known."""
    assert catalog.counts() == Counts({}, {}, 0, 0, 0)
    fill(catalog, "k", [10, 20, 30])
    catalog.record_revision(record("j", known("a", 1), held("b", 10)))
    catalog.set_state(blake3(30), ReplicaState.TRASH, expected=[ReplicaState.PRESENT])

    assert catalog.counts() == Counts(
        {ReplicaState.PRESENT: 2, ReplicaState.TRASH: 1}, {ReplicaState.PRESENT: 30, ReplicaState.TRASH: 30}, 2, 4, 5
    )


@pytest.mark.parametrize("seed", range(4))
def test_listing_agrees_with_the_entries(catalog: Catalog, seed: int) -> None:
    """Over random catalogs the list says of each revision what its entries add up to."""
    random_catalog(catalog, random.Random(seed))
    total = 0
    for row in catalog.list_snapshots():
        entries = catalog.list_entries(row.id)
        held_entries = [entry for entry in entries if entry.blob is not None]
        assert (row.files_held, row.files_known) == (len(held_entries), len(entries))
        assert row.size_bytes == sum(entry.size_bytes or 0 for entry in held_entries)
        assert set(row.trust) == {entry.trust for entry in held_entries}
        for name in row.refs:
            pointed = catalog.find_revision(row.source, ref=name)
            assert pointed is not None
            assert pointed.id == row.id
        total += row.files_held
    assert total == catalog.counts().entries_held


def test_a_quick_check_finds_structural_damage(catalog: Catalog, layout: Layout) -> None:
    """A sound file has no fault; one with an overwritten page has."""
    fill(catalog, "k", range(1, 20))
    assert catalog.quick_check() is None
    catalog.close()
    with contextlib.closing(sqlite3.connect(layout.catalog)) as connection:
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entry'").fetchall()
    with layout.catalog.open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(b"\xff" * 4096)

    with Catalog.open(layout) as damaged:
        fault = damaged.quick_check()

    assert fault is not None
    assert "Page" in fault
