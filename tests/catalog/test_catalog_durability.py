"""Several writers, killed writers, full disks: nothing that was committed is lost, nothing else is there."""

import contextlib
import logging
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection, create_mock_engine, event, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, OperationalError

from catalog.catalog_samples import SOURCE, blake3, fill, held, new_blob, record
from modelcask import locks
from modelcask.catalog import connection as connections
from modelcask.catalog import database as databases
from modelcask.catalog.catalog import Catalog
from modelcask.catalog.connection import WAL_LIMIT_BYTES, connect_reader, connect_writer, translate, translated
from modelcask.catalog.engine import upsert
from modelcask.catalog.tables import blob
from modelcask.errors import (
    BusyError,
    CacheError,
    CorruptStoreError,
    StorageError,
    StoreFullError,
)
from modelcask.layout import Layout

SCRIPT = """
import os, signal, sys
from pathlib import Path
from typing import cast
sys.path.insert(0, sys.argv[1])
from catalog.catalog_samples import *
from modelcask.catalog.catalog import Catalog
from modelcask.layout import Layout
layout = Layout(Path(sys.argv[2]))
"""


@pytest.fixture
def tests(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.rootpath / "tests")


def wal(layout: Layout) -> Path:
    return layout.root / "catalog.db-wal"


def rows(path: Path) -> list[str]:
    with contextlib.closing(connect_reader(path)) as connection:
        return [line for line in connection.iterdump() if line.startswith("INSERT")]


WRITER = """
with Catalog.open(layout) as catalog:
    print("ready", flush=True)
    sys.stdin.readline()
    mine = int(sys.argv[3])
    for turn in range(6):
        fill(catalog, f"{mine}-{turn}", [0, mine, 100 * mine + turn], refs={"main": "", f"{mine}": ""})
        catalog.record_use(revisions=[1], at=10**16 + turn * 2 * HOUR_US)
"""


def test_writers_in_four_processes_lose_nothing(catalog: Catalog, layout: Layout, tests: str) -> None:
    """Every transaction of every process is there in the end, and the database is sound."""
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SCRIPT + WRITER, tests, str(layout.root), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2, 3, 4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    outcomes = [child.communicate(timeout=120) for child in children]

    assert [child.returncode for child in children] == [0] * 4, outcomes
    listed = {row.revision: row for row in catalog.list_snapshots()}
    assert set(listed) == {f"{number}-{turn}" for number in (1, 2, 3, 4) for turn in range(6)}
    for number in (1, 2, 3, 4):
        assert str(number) in listed[f"{number}-5"].refs
        for turn in range(6):
            assert catalog.find_blob(blake3(100 * number + turn)) is not None
            assert listed[f"{number}-{turn}"].files_held == 3
    with catalog._database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM ref WHERE name = 'main'")).scalar_one() == 1
        moves = connection.execute(text("SELECT revision_id FROM ref_history WHERE name = 'main' ORDER BY id")).all()
        assert len(moves) == 24
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"


def test_threads_of_one_process_write_in_turn(catalog: Catalog) -> None:
    """Threads share a catalog; each one's transactions are whole, and readers are not held up."""
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(5):
                fill(catalog, f"{number}-{turn}", [number, 100 * number + turn])
                assert catalog.find_blob(blake3(number)) is not None
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert catalog.counts().revisions == 30


KILLED = """
from sqlalchemy import event
from sqlalchemy.engine import Engine

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def write(step):
    catalog = Catalog.open(layout, clock=Clock())
    seen = 0
    if step == "commit":
        event.listen(Engine, "commit", lambda connection: die())
    else:
        @event.listens_for(Engine, "before_cursor_execute")
        def count(*_):
            nonlocal seen
            seen += 1
            if seen == step:
                die()
    new = record("new", held("a", 1), known("b", 2), refs={"main": ""})
    catalog.record_revision(new)
    os._exit(0)

step = "commit"
while True:
    child = os.fork()
    if child == 0:
        write(step)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), flush=True)
    if status == 0:
        break
    sys.stdin.readline()  # the parent looks at what is left
    step = 1 if step == "commit" else step + 1
"""


def test_a_writer_killed_at_any_statement_leaves_the_old_rows(catalog: Catalog, layout: Layout, tests: str) -> None:
    """SIGKILL before each statement and before the commit: all of the transaction is absent, and the next one works."""
    fill(catalog, "k", [1])
    catalog.close()
    before = rows(layout.catalog)
    killed = 0
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT + KILLED, tests, str(layout.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in child.stdout:
            if line == "0\n":
                break
            assert line == "-9\n"
            killed += 1
            assert rows(layout.catalog) == before
            child.stdin.write("\n")
            child.stdin.flush()

    assert child.returncode == 0
    assert killed > 10
    with Catalog.open(layout) as again:
        assert again.find_revision(SOURCE, ref="main") == again.find_revision(SOURCE, revision="new")


def test_an_error_inside_a_transaction_undoes_it(catalog: Catalog) -> None:
    """Whatever is raised between two statements, nothing of the transaction stays, and the gate is free."""

    def interrupted() -> None:
        with catalog._database.write() as connection:
            connection.execute(text("INSERT INTO meta VALUES ('a', 'b')"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert catalog.get_meta("a") is None
    catalog.set_meta("a", "c")
    assert catalog.get_meta("a") == "c"


def test_a_read_sees_one_state(catalog: Catalog) -> None:
    """What is committed in the middle of a read is not seen by its later statements, and is seen by the next read."""
    with catalog._database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM source")).scalar_one() == 0
        fill(catalog, "k", [1])
        assert connection.execute(text("SELECT count(*) FROM source")).scalar_one() == 0
    assert catalog.counts().revisions == 1


def test_a_reader_cannot_write(catalog: Catalog) -> None:
    """The reading engine and a lookup's connection refuse to change anything."""
    with pytest.raises(StorageError, match="readonly"), catalog._database.read() as connection:
        connection.execute(text("DELETE FROM meta"))


def test_closing_leaves_only_the_database(catalog: Catalog, layout: Layout) -> None:
    """After the last close there is no log left, and all rows are in the file itself."""
    fill(catalog, "k", [1])
    assert wal(layout).stat().st_size > 0
    catalog.close()
    catalog.close()

    assert {path.name for path in layout.root.iterdir()} == {"catalog.db", "locks"}
    with pytest.raises(ValueError, match="closed"):
        catalog.find_blob(blake3(1))
    with pytest.raises(ValueError, match="closed"):
        catalog.set_meta("a", "b")


def test_the_log_stays_bounded(catalog: Catalog, layout: Layout) -> None:
    """However much is written, the log is copied into the database when it has grown, and shrinks again."""
    biggest = 0
    for turn in range(12):
        catalog.record_blobs([new_blob(1000 * turn + number) for number in range(1000)])
        biggest = max(biggest, wal(layout).stat().st_size)

    assert layout.catalog.stat().st_size > WAL_LIMIT_BYTES // 2
    assert WAL_LIMIT_BYTES < biggest < 2 * WAL_LIMIT_BYTES
    assert wal(layout).stat().st_size <= WAL_LIMIT_BYTES


def test_nothing_is_written_without_the_gate(
    catalog: Catalog, layout: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While somebody else holds the gate nothing is written or copied; reading goes on, closing raises nothing."""
    fill(catalog, "k", [1])
    size = layout.catalog.stat().st_size
    monkeypatch.setattr(databases, "_GATE_TIMEOUT_S", 0.05)
    with locks.locked(layout.writer_lock):
        with pytest.raises(BusyError, match="writer"):
            catalog.set_meta("a", "b")
        assert catalog.find_blob(blake3(1)) is not None
        with contextlib.closing(connect_reader(layout.catalog)) as other, caplog.at_level(logging.WARNING):
            assert other.execute("SELECT count(*) FROM blob").fetchone() == (1,)
            catalog.close()
            assert "log not copied" in caplog.text
            assert wal(layout).stat().st_size > 0
            assert layout.catalog.stat().st_size == size

    with Catalog.open(layout) as again:
        assert again.find_blob(blake3(1)) is not None


def test_a_checkpoint_that_fails_is_no_failed_write(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rows are safe in the log, so the writer is told nothing; the log says it, and the next write tries again."""

    def deny(action: int, name: str | None, *_: object) -> int:
        denied = action == sqlite3.SQLITE_PRAGMA and name == "wal_checkpoint"
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK

    @event.listens_for(catalog._database._writer, "checkout")
    def forbid(dbapi_connection: sqlite3.Connection, *_: object) -> None:
        dbapi_connection.set_authorizer(deny)

    monkeypatch.setattr(databases, "WAL_LIMIT_BYTES", 0)
    with caplog.at_level(logging.WARNING):
        catalog.set_meta("a", "b")

    assert catalog.get_meta("a") == "b"
    assert "could not be copied" in caplog.text


@pytest.fixture
def small(catalog: Catalog) -> Catalog:
    """A catalog that may not grow any more, as on a full disk."""

    @event.listens_for(catalog._database._writer, "checkout")
    def limit(dbapi_connection: sqlite3.Connection, *_: object) -> None:
        pages = dbapi_connection.execute("PRAGMA page_count").fetchone()[0]
        dbapi_connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    return catalog


def test_a_full_disk_is_told_as_one(small: Catalog, layout: Layout) -> None:
    """No room for the rows: nobody knows how much it takes, and nothing of the group is recorded."""
    before = rows(layout.catalog)
    with pytest.raises(StoreFullError) as caught:
        small.record_blobs([new_blob(number) for number in range(2000)])

    assert caught.value.needed == 0
    assert caught.value.available > 0
    assert "bytes needed" not in str(caught.value)
    assert rows(layout.catalog) == before


FULL = """
import contextlib
from modelcask.errors import StoreFullError
layout.locks.mkdir(parents=True)
with Catalog.open(layout) as catalog:
    fill(catalog, "k", [1])
    filler = open(layout.root / "filler", "wb", buffering=0)
    with contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    written = 0
    try:
        for turn in range(100):
            fill(catalog, f"k{turn}", range(500 * turn, 500 * turn + 500))
            written = turn + 1
        sys.exit("the disk never filled up")
    except StoreFullError as error:
        assert error.available < 1 << 20
    assert catalog.find_blob(blake3(1)) is not None
    assert catalog.counts().revisions == written + 1
    filler.truncate(0)
    fill(catalog, "after", [7])
    filler.close()
with Catalog.open(layout) as catalog:
    assert catalog.find_blob(blake3(7)) is not None
    assert catalog.counts().revisions == written + 2
print("right")
"""


def test_a_disk_that_fills_up_loses_nothing_committed(tests: str, tmp_path: Path) -> None:
    """On a real full file system: one typed error, everything committed still there, and writing goes on with room."""
    in_namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=2m none {tmp_path} && "
    if shutil.which("unshare") is None or subprocess.run([*in_namespace, mount + "true"], check=False).returncode:
        pytest.skip("mounting a small tmpfs in a user namespace is not allowed here")
    result = subprocess.run(
        [*in_namespace, mount + 'exec "$@"', "sh", sys.executable, "-c", SCRIPT + FULL, tests, str(tmp_path / "root")],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert (result.returncode, result.stdout) == (0, "right\n"), result.stderr


def test_a_writer_outside_the_gate_is_told_as_busy(
    catalog: Catalog, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign program that holds SQLite's own lock for too long is one typed error."""
    monkeypatch.setattr(connections, "_BUSY_TIMEOUT_S", 0.05)
    with contextlib.closing(connect_writer(layout.catalog)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match=r"catalog\.db"):
            catalog.set_meta("a", "b")
        foreign.execute("ROLLBACK")
    catalog.set_meta("a", "b")


def test_a_catalog_that_vanished_is_not_made_anew(catalog: Catalog, layout: Layout) -> None:
    """Writing after the file was deleted under us is an error; an empty catalog in its place would hide the loss."""
    layout.catalog.unlink()

    with pytest.raises(StorageError, match="cannot be used"):
        catalog.set_meta("a", "b")
    assert not layout.catalog.exists()


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (sqlite3.SQLITE_CORRUPT, "", CorruptStoreError),
        (sqlite3.SQLITE_CORRUPT_VTAB, "", CorruptStoreError),
        (sqlite3.SQLITE_NOTADB, "", CorruptStoreError),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, "", CorruptStoreError),
        (sqlite3.SQLITE_ERROR, "no such table: entry", CorruptStoreError),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "", BusyError),
        (sqlite3.SQLITE_LOCKED, "", BusyError),
        (sqlite3.SQLITE_FULL, "", StoreFullError),
        (sqlite3.SQLITE_IOERR_READ, "", StorageError),
        (sqlite3.SQLITE_CANTOPEN, "", StorageError),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "", StorageError),
        (sqlite3.SQLITE_ERROR, "near SELEKT: syntax error", type(None)),
        (None, "Cannot operate on a closed database.", type(None)),
    ],
)
def test_sqlites_errors_are_told_as_ours(
    tmp_path: Path, code: int | None, message: str, expected: type[CacheError] | type[None]
) -> None:
    """Each kind of failure is the one class that tells a caller what to do; our own mistakes stay as they are."""
    error = sqlite3.OperationalError(message)
    if code is not None:
        error.sqlite_errorcode = code

    assert type(translate(error, tmp_path / "catalog.db")) is expected


def test_an_input_output_error_without_room_is_a_full_disk(tmp_path: Path) -> None:
    """SQLite calls some full disks an I/O error; where nothing is free it is told as what it is."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE

    assert type(translate(error, tmp_path / "gone" / "catalog.db")) is StoreFullError


def test_a_mistake_of_ours_is_shown_as_it_is(catalog: Catalog) -> None:
    """A statement that cannot be understood reaches the developer untranslated."""
    with pytest.raises(OperationalError, match="syntax"), catalog._database.read() as connection:
        connection.execute(text("SELEKT"))


def test_errors_keep_their_cause(catalog: Catalog) -> None:
    """The original error is there for whoever must look deeper."""
    with pytest.raises(CorruptStoreError) as caught, catalog._database.write() as connection:
        connection.execute(text("INSERT INTO ref VALUES (1, 1, 'main', 1, '', 0)"))

    assert isinstance(caught.value.__cause__, IntegrityError)


def test_the_writer_is_as_durable_as_promised(catalog: Catalog, layout: Layout) -> None:
    """Each pragma that safety rests on is in force on the connections that are really used."""
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
        "mmap_size": 0,
        "wal_autocheckpoint": 0,
        "trusted_schema": 0,
    }
    with catalog._database.write() as connection:
        in_force = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in expected}
    assert {name: value or 0 for name, value in in_force.items()} == expected
    with contextlib.closing(connect_reader(layout.catalog)) as reader:
        read = {name: reader.execute(f"PRAGMA {name}").fetchone() for name in ("query_only", "trusted_schema")}
    assert read == {"query_only": (1,), "trusted_schema": (0,)}


def test_a_catalog_that_vanished_still_closes(catalog: Catalog, layout: Layout) -> None:
    """A write to a file that somebody has deleted, and closing it, end without an error of another kind."""
    catalog.record_blobs([new_blob(1)])
    layout.catalog.unlink()
    wal(layout).unlink()

    catalog.record_revision(record("k", held("a", 1)))
    catalog.close()


def test_a_connection_that_cannot_be_set_up_is_closed(layout: Layout) -> None:
    """A file that is no database fails at once when it is opened for writing, and leaves no connection behind."""
    layout.catalog.write_bytes(b"no database" * 100)

    with pytest.raises(sqlite3.DatabaseError):
        connect_writer(layout.catalog)


def test_only_sqlites_failures_are_translated(layout: Layout) -> None:
    """A mistake of ours passes the edge as it is, through the standard library too."""
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(sqlite3.OperationalError, match="syntax"),
        translated(layout.catalog),
    ):
        connection.execute("SELEKT")


def test_upserts_speak_the_databases_own_dialect() -> None:
    """On PostgreSQL the same statements are built with its own INSERT."""
    engine = create_mock_engine("postgresql+psycopg://", lambda *_: None)

    statement = upsert(cast("Connection", engine.connect()), blob).on_conflict_do_nothing(index_elements=["blake3"])

    assert isinstance(statement, postgresql.Insert)
    assert "ON CONFLICT (blake3) DO NOTHING" in str(statement.compile(dialect=engine.dialect))
