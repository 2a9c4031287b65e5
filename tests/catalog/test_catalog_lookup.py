"""Lookups: cheap, equal to the catalog's own answer, always of the latest commit."""

import contextlib
import itertools
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from catalog.catalog_samples import (
    SOURCE,
    SOURCES,
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
    stamp,
)
from modelcask import locks
from modelcask.catalog import lookup
from modelcask.catalog.catalog import Catalog
from modelcask.catalog.lookup import Found, FoundRevision, LookupReader
from modelcask.errors import CorruptStoreError, SchemaVersionError
from modelcask.layout import Layout
from modelcask.types import Entry, ReplicaState, StatStamp, TrustLevel


@pytest.fixture
def reader(catalog: Catalog, layout: Layout) -> Iterator[LookupReader]:  # noqa: ARG001 - made before it is read
    with contextlib.closing(LookupReader(layout)) as opened:
        yield opened


def found(revision: str, path: str, number: int, state: ReplicaState = ReplicaState.PRESENT) -> Found:
    return Found(revision, path, blake3(number), number, state, stamp(number), TrustLevel.UPSTREAM_SHA256)


def test_looking_up_imports_neither_sqlalchemy_nor_alembic() -> None:
    """A process that only looks things up pays for the standard library only."""
    script = (
        "import sys; from modelcask.catalog import lookup; "
        "sys.exit(bool({'sqlalchemy', 'alembic', 'asyncio', 'rich', 'aiohttp'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("seed", range(8))
def test_a_lookup_is_the_catalogs_own_answer(catalog: Catalog, reader: LookupReader, seed: int) -> None:
    """Over random catalogs the prepared statement and the SQLAlchemy query find the same, entry by entry."""
    rng = random.Random(seed)
    random_catalog(catalog, rng)

    hits = 0
    paths = ("", "a", "a/b", "b", "Q/é", "%", "_", "A")
    places = [("", None), ("main", None), ("v1", None), ("main:Q4", None), (None, None), (None, "k1"), ("main", "k2")]
    for source in (*SOURCES, "hf://nobody/nothing"):
        for path, (ref, revision) in rng.sample(list(itertools.product(paths, places)), 20):
            ours = reader.find_file(source, ref=ref, revision=revision, path=path)
            assert ours == catalog.find_file(source, ref=ref, revision=revision, path=path), (source, ref, path)
            hits += ours is not None
        for ref, revision in [("", None), ("main", None), ("v1", None), (None, "k1"), (None, None), ("v1", "k3")]:
            theirs = catalog.find_revision(source, ref=ref, revision=revision)
            mine = reader.find_revision(source, ref=ref, revision=revision)
            assert mine == (theirs and FoundRevision(theirs.id, theirs.key, theirs.listed, theirs.entrypoint))
            if mine is not None:
                listed = reader.list_files(mine.id)
                assert [entry for entry, _ in listed] == catalog.list_entries(mine.id)
                for entry, held_file in listed:
                    assert held_file == catalog.find_file(source, ref=None, revision=mine.key, path=entry.path)
    assert hits or seed, "the first catalog holds nothing: the comparison proved nothing"


def test_a_ref_finds_what_it_points_to_now(catalog: Catalog, reader: LookupReader) -> None:
    """A ref's file is that of the revision it was last moved to; the old revision is found by its key."""
    fill(catalog, "old", [1])
    catalog.record_blobs([new_blob(2)])
    catalog.record_revision(record("new", held("file-1", 2)))

    assert reader.find_file(SOURCE, ref="main", revision=None, path="file-1") == found("new", "file-1", 2)
    assert reader.find_file(SOURCE, ref="main", revision="old", path="file-1") == found("old", "file-1", 1)
    assert reader.find_revision(SOURCE, ref="main", revision="old") == FoundRevision(1, "old", True, "")


def test_an_empty_path_is_the_refs_entrypoint(catalog: Catalog, reader: LookupReader) -> None:
    """A quantisation tag finds its file; a ref without an entrypoint, or a revision, finds nothing by no path."""
    fill(catalog, "k", [1, 2], refs={"main": "", "main:Q4": "file-2"})

    assert reader.find_file(SOURCE, ref="main:Q4", revision=None, path="") == found("k", "file-2", 2)
    assert reader.find_file(SOURCE, ref="main:Q4", revision=None, path="file-1") == found("k", "file-1", 1)
    assert reader.find_file(SOURCE, ref="main", revision=None, path="") is None
    assert reader.find_file(SOURCE, ref="main:Q4", revision="k", path="") is None
    assert reader.find_revision(SOURCE, ref="main:Q4", revision=None) == FoundRevision(1, "k", True, "file-2")


def test_a_lookup_tells_the_state_and_the_whole_stamp(catalog: Catalog, reader: LookupReader) -> None:
    """Bytes that are not there are found with their state; inodes use all 64 bits on some file systems."""
    big = StatStamp(1, 2**64 - 1, 2**62, -1)
    fill(catalog, "k", [1])
    catalog.refresh_stamp(blake3(1), big, verified=False)
    catalog.set_state(blake3(1), ReplicaState.MISSING, expected=[ReplicaState.PRESENT])

    missing = reader.find_file(SOURCE, ref="main", revision=None, path="file-1")
    assert missing is not None
    assert (missing.state, missing.stamp) == (ReplicaState.MISSING, big)
    row = catalog.find_blob(blake3(1))
    assert row is not None
    assert row.stamp == big


def test_files_are_listed_by_folder(catalog: Catalog, reader: LookupReader) -> None:
    """A prefix is a path or a folder, never the beginning of a name, and holds no wildcard."""
    catalog.record_blobs([new_blob(1)])
    names = ["a", "a.b", "a/b", "a/c/d", "a0", "ab", "%", "A/x", "z_/q", "zx/q"]
    number = catalog.record_revision(record("k", *(known(name, 5) for name in names if name != "a/b"), held("a/b", 1)))

    def paths(prefix: str) -> list[str]:
        return [entry.path for entry, _ in reader.list_files(number, prefix)]

    assert paths("") == sorted(names)
    assert paths("a") == ["a", "a/b", "a/c/d"]
    assert paths("a/c") == ["a/c/d"]
    assert paths("%") == ["%"]
    assert paths("z_") == ["z_/q"]
    assert paths("a/") == []
    assert paths("nothing") == []
    listed = {entry.path: (entry, held_file) for entry, held_file in reader.list_files(number, "a")}
    assert listed["a/b"] == (held("a/b", 1), found("k", "a/b", 1))
    assert listed["a"] == (known("a", 5), None)
    assert reader.list_files(number + 1) == []


def test_an_entry_whose_bytes_are_forgotten_is_known_but_not_found(catalog: Catalog, reader: LookupReader) -> None:
    """Without a replica there is no file to look for, though the entry still names its blob."""
    number = fill(catalog, "k", [1])
    catalog.delete_replica(blake3(1))

    assert reader.list_files(number) == [(held("file-1", 1), None)]
    assert reader.find_file(SOURCE, ref="main", revision=None, path="file-1") is None


def test_a_pin_finds_the_newest_file_with_its_bytes(catalog: Catalog, reader: LookupReader, clock: Clock) -> None:
    """A BLAKE3 or a computed SHA-256 finds the bytes inside one source, at a path or at any."""
    fill(catalog, "old", [1], refs={})
    clock.advance(1)
    fill(catalog, "new", [1, 2], refs={})
    clock.advance(1)
    fill(catalog, "elsewhere", [1], source="hf://org/other", refs={})

    for pin in (blake3(1), sha256(1)):
        assert reader.find_file_by_pin(SOURCE, pin, "file-1") == found("new", "file-1", 1)
        assert reader.find_file_by_pin(SOURCE, pin, "") == found("new", "file-1", 1)
        assert reader.find_file_by_pin(SOURCE, pin, "file-2") is None
        assert reader.find_file_by_pin("hf://org/third", pin, "") is None
    assert reader.find_file_by_pin(SOURCE, git_sha1(1), "") is None
    assert reader.find_file_by_pin(SOURCE, sha256(99), "") is None


def test_a_claimed_digest_finds_nothing(catalog: Catalog, reader: LookupReader, layout: Layout) -> None:
    """What somebody said of a blob is no proof, in a lookup by pin or by digest."""
    fill(catalog, "k", [1])
    catalog.close()
    with contextlib.closing(sqlite3.connect(layout.catalog, isolation_level=None)) as connection:
        connection.execute("DELETE FROM digest")
        connection.execute("INSERT INTO digest VALUES (1, 'sha256', ?, 'claimed')", (sha256(1).value,))
        connection.execute("INSERT INTO digest VALUES (1, 'git-sha1', ?, 'claimed')", (git_sha1(1).value,))

    with Catalog.open(layout) as again:
        assert reader.find_file_by_pin(SOURCE, sha256(1), "") is None
        assert again.find_blob(sha256(1)) is None
        assert again.find_blob_in_source(SOURCE, git_sha1(1)) is None
        assert again.list_uses(sha256(1)) == []
        row = again.find_blob(blake3(1))
        assert row is not None
        assert row.digests == (blake3(1),)


def test_the_statements_search_by_index_only(reader: LookupReader) -> None:
    """No lookup reads a table from end to end, so it takes as long among a million refs as among ten."""
    statements = {
        name: text
        for name, text in vars(lookup).items()
        if name.isupper() and str(text).lstrip().startswith("SELECT") and "FROM" in str(text)
    }
    assert len(statements) == 9
    values = {"source": "", "ref": "", "revision": "", "path": "", "value": b"", "algorithm": "", "id": 1, "prefix": ""}
    assert reader.has_schema()
    connection = reader._connection
    assert connection is not None
    for name, text in statements.items():
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
        searches = [step for step in steps if step.startswith(("SEARCH", "SCAN"))]
        assert searches, name
        assert not any(step.startswith("SCAN") for step in searches), (name, steps)


def test_without_a_catalog_nothing_is_found(layout: Layout) -> None:
    """A root without a catalog answers "nothing" and gets none by being asked; one that comes later is seen."""
    with contextlib.closing(LookupReader(layout)) as reader:
        assert not reader.has_schema()
        assert reader.find_file(SOURCE, ref="main", revision=None, path="file-1") is None
        assert reader.list_files(1) == []
        assert not layout.catalog.exists()

        with Catalog.open(layout) as catalog:
            fill(catalog, "k", [1])
            assert reader.has_schema()
            assert reader.find_file(SOURCE, ref="main", revision=None, path="file-1") == found("k", "file-1", 1)


COMMIT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from catalog.catalog_samples import fill
from modelcask.catalog.catalog import Catalog
from modelcask.layout import Layout
with Catalog.open(Layout(Path(sys.argv[2]))) as catalog:
    for number, line in enumerate(sys.stdin):
        fill(catalog, f"k{number}", [number])
        print("committed", flush=True)
"""


def test_a_lookup_sees_what_another_process_has_just_committed(
    reader: LookupReader, layout: Layout, pytestconfig: pytest.Config
) -> None:
    """Each lookup is a new transaction: nothing committed before it is hidden from it."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMIT, str(pytestconfig.rootpath / "tests"), str(layout.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for number in range(5):
            assert reader.find_revision(SOURCE, ref=None, revision=f"k{number}") is None
            child.stdin.write("go\n")
            child.stdin.flush()
            assert child.stdout.readline() == "committed\n"
            assert reader.find_file(SOURCE, ref="main", revision=None, path=f"file-{number}") == found(
                f"k{number}", f"file-{number}", number
            )


def test_threads_may_share_a_reader(catalog: Catalog, reader: LookupReader) -> None:
    """Many threads on one reader all get right answers."""
    fill(catalog, "k", range(20))
    wrong: list[object] = []

    def look() -> None:
        for number in [*range(20)] * 10:
            answer = reader.find_file(SOURCE, ref="main", revision=None, path=f"file-{number}")
            if answer != found("k", f"file-{number}", number):
                wrong.append(answer)

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


FORK = """
import os, sys, traceback
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from catalog.catalog_samples import SOURCE, fill
from modelcask import locks
from modelcask.catalog.catalog import Catalog
from modelcask.catalog.lookup import LookupReader
from modelcask.layout import Layout

layout = Layout(Path(sys.argv[2]))
catalog, reader = Catalog.open(layout), LookupReader(layout)
unused_catalog, unused_reader = Catalog.open(layout), LookupReader(layout)
fill(catalog, "parent", [1])
look = lambda number: reader.find_file(SOURCE, ref="main", revision=None, path=f"file-{number}")
assert look(1)
inherited = reader._connection, catalog._database._writer, catalog._database._reader
reader._guard.acquire()  # as another thread would hold these at the moment of the fork
catalog._database._turn.acquire()
child = os.fork()
if child == 0:
    try:
        assert look(1).revision == "parent"
        assert reader._connection is not inherited[0]
        assert catalog._database._writer is not inherited[1]
        assert catalog._database._reader is not inherited[2]
        fill(catalog, "child", [2])
        assert look(2).revision == "child"
        assert locks.try_lock(layout.schema_lock) is None  # it holds a lock of its own, as its parent does
        for open_here in (catalog, reader, unused_catalog, unused_reader):
            open_here.close()
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    sys.exit(0)
reader._guard.release()
catalog._database._turn.release()
assert os.waitpid(child, 0)[1] == 0
assert look(2).revision == "child"
fill(catalog, "parent-again", [3])
assert look(3).revision == "parent-again"
for open_here in (catalog, reader, unused_catalog, unused_reader):
    open_here.close()
held = locks.try_lock(layout.schema_lock)
assert held is not None
held.release()
"""


def test_a_forked_child_gets_connections_of_its_own(
    catalog: Catalog, layout: Layout, pytestconfig: pytest.Config
) -> None:
    """Reader and catalog go on working on both sides of a fork, and neither side disturbs the other."""
    catalog.close()
    result = subprocess.run(
        [sys.executable, "-c", FORK, str(pytestconfig.rootpath / "tests"), str(layout.root)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_a_closed_reader_opens_again(catalog: Catalog, reader: LookupReader) -> None:
    """Closing frees the connection; the next lookup opens one again."""
    fill(catalog, "k", [1])
    assert reader.find_revision(SOURCE, ref="main", revision=None) is not None
    reader.close()
    reader.close()

    assert reader._connection is None
    assert reader.find_revision(SOURCE, ref="main", revision=None) is not None


def test_a_running_lookup_stops_nobody(catalog: Catalog, reader: LookupReader, layout: Layout) -> None:
    """A server that looks up for weeks holds no lock, so the catalog can be upgraded or rebuilt meanwhile."""
    fill(catalog, "k", [1])
    catalog.close()
    assert reader.find_revision(SOURCE, ref="main", revision=None) is not None

    with locks.locked(layout.schema_lock, timeout_s=0), locks.locked(layout.writer_lock, timeout_s=0):
        assert reader.find_revision(SOURCE, ref="main", revision=None) is not None


def test_a_rebuilt_catalog_is_seen_at_once(catalog: Catalog, reader: LookupReader, layout: Layout) -> None:
    """When another file takes the catalog's place or the file goes, the next lookup answers from what is there."""
    fill(catalog, "old", [1])
    catalog.close()
    assert reader.find_revision(SOURCE, ref=None, revision="old") is not None
    beside = replace(layout, catalog_name="rebuild")
    with Catalog.open(beside) as rebuilt:
        fill(rebuilt, "new", [2])

    beside.catalog.rename(layout.catalog)

    assert reader.find_revision(SOURCE, ref=None, revision="old") is None
    assert reader.find_file(SOURCE, ref="main", revision=None, path="file-2") == found("new", "file-2", 2)
    layout.catalog.unlink()
    assert reader.find_revision(SOURCE, ref=None, revision="new") is None
    assert not reader.has_schema()


def test_an_upgrade_beyond_a_running_reader_is_told(catalog: Catalog, reader: LookupReader, layout: Layout) -> None:
    """A column that changed its meaning has changed its name: the old statement fails, and says why."""
    fill(catalog, "k", [1])
    catalog.close()
    assert reader.find_revision(SOURCE, ref="main", revision=None) is not None
    with contextlib.closing(sqlite3.connect(layout.catalog, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE ref RENAME COLUMN entrypoint TO entrance")
        connection.execute("UPDATE alembic_version SET version_num = '0002'")
        connection.execute("UPDATE meta SET value = '0002'")

    with pytest.raises(SchemaVersionError):
        reader.find_revision(SOURCE, ref="main", revision=None)


def test_a_table_that_is_missing_is_damage(catalog: Catalog, reader: LookupReader, layout: Layout) -> None:
    """Without a newer version that would explain it, a failing statement means a damaged catalog."""
    fill(catalog, "k", [1])
    catalog.close()
    assert reader.find_revision(SOURCE, ref="main", revision=None) is not None
    with contextlib.closing(sqlite3.connect(layout.catalog, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE ref RENAME TO reference")
    with pytest.raises(CorruptStoreError):
        reader.find_revision(SOURCE, ref="main", revision=None)
    with contextlib.closing(sqlite3.connect(layout.catalog, isolation_level=None)) as connection:
        connection.execute("DROP TABLE alembic_version")
    with pytest.raises(CorruptStoreError):
        reader.find_revision(SOURCE, ref="main", revision=None)
    with contextlib.closing(sqlite3.connect(layout.catalog, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master")
        connection.execute("PRAGMA writable_schema = RESET")
    with pytest.raises(CorruptStoreError):
        reader.find_revision(SOURCE, ref="main", revision=None)


def test_a_damaged_catalog_is_told(catalog: Catalog, layout: Layout) -> None:
    """Pages that were overwritten behind our back end in an error that says what to do, never in an answer."""
    fill(catalog, "k", range(50))
    catalog.close()
    with contextlib.closing(sqlite3.connect(layout.catalog)) as connection:
        pages = connection.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'entry'").fetchall()
    with layout.catalog.open("r+b") as file:
        for (page,) in pages:
            file.seek(4096 * (page - 1))
            file.write(b"\xff" * 4096)

    with contextlib.closing(LookupReader(layout)) as reader, pytest.raises(CorruptStoreError, match="rebuild"):
        reader.find_file(SOURCE, ref="main", revision=None, path="file-7")
    with Catalog.open(layout) as damaged, pytest.raises(CorruptStoreError, match="rebuild"):
        damaged.list_snapshots()


def test_a_mistake_in_this_program_is_not_called_damage(reader: LookupReader) -> None:
    """A statement that SQLite cannot parse is our own fault, and shown as what it is."""
    with pytest.raises(sqlite3.OperationalError, match="syntax"):
        reader._rows("SELEKT", {})


def test_an_entry_keeps_what_its_source_promised(catalog: Catalog, reader: LookupReader) -> None:
    """The promises of a source come back as they went in, strongest first; sizes may be unknown."""
    entry = Entry("e", None, None, (git_sha1(1), sha256(1)))
    number = catalog.record_revision(record("k", entry))

    [(listed, _)] = reader.list_files(number)
    assert listed == Entry("e", None, None, (sha256(1), git_sha1(1)))
