"""Opening: made when new, upgraded when old, refused when newer or no catalog, and safe beside others."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.catalog_samples import blake3, fill, new_blob
from modelcask import locks
from modelcask.catalog import schema, upgrade
from modelcask.catalog.catalog import Catalog
from modelcask.catalog.lookup import LookupReader
from modelcask.errors import BusyError, CorruptStoreError, SchemaVersionError, StorageError
from modelcask.layout import Layout

NEXT = '''
"""A migration of the future, made up for this test."""
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None

def upgrade():
    op.add_column("blob", sa.Column("colour", sa.Text(), nullable=False, server_default="grey"))
    {more}

def downgrade():
    raise NotImplementedError
'''


def sql(path: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


@pytest.fixture
def filled(catalog: Catalog, layout: Layout) -> Layout:
    """A root whose catalog holds something and is closed."""
    fill(catalog, "k", range(3))
    catalog.close()
    return layout


@pytest.fixture
def program_of_tomorrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Turns this program into one that knows a further migration."""

    def turn(more: str = "pass") -> None:
        scripts = tmp_path / "scripts%d"  # a per cent sign in the path is data, not configuration
        shutil.copytree(upgrade.SCRIPTS, scripts)
        (scripts / "versions" / "0002_next.py").write_text(NEXT.format(more=more))
        monkeypatch.setattr(upgrade, "SCRIPTS", str(scripts))
        monkeypatch.setattr(schema, "HEAD", "0002")

    return turn


def test_a_new_catalog_needs_no_backup(layout: Layout) -> None:
    """Opening a root without a catalog makes one of the newest version, and backs up nothing."""
    Catalog.open(layout).close()

    assert schema.find_version(layout.catalog) == schema.Version("0001", "0001", "0001")
    assert not layout.backups.exists()


def test_a_file_whose_maker_died_is_made_anew(layout: Layout) -> None:
    """An empty file, left by a process killed before its first commit, becomes a catalog."""
    layout.catalog.touch()

    with Catalog.open(layout) as catalog:
        assert catalog.counts().revisions == 0
    assert not layout.backups.exists()


def test_an_upgrade_keeps_the_rows_and_makes_a_backup(filled: Layout, program_of_tomorrow: Callable[..., None]) -> None:
    """After an upgrade everything is found as before, and the backup is the catalog as it was."""
    program_of_tomorrow()

    with Catalog.open(filled) as catalog:
        row = catalog.find_blob(blake3(1))

    assert row is not None
    assert row.size_bytes == 1
    assert sql(filled.catalog, "SELECT DISTINCT colour FROM blob") == [("grey",)]
    [backup] = filled.backups.iterdir()
    assert backup.name.endswith("-0001.db")
    assert sql(backup, "SELECT version_num FROM alembic_version") == [("0001",)]
    assert sql(backup, "SELECT count(*) FROM blob") == [(3,)]
    assert sql(backup, "PRAGMA integrity_check") == [("ok",)]


def test_the_newest_three_backups_are_kept(filled: Layout) -> None:
    """Older copies go, and so does what a killed backup left."""
    filled.backups.mkdir()
    (filled.backups / "catalog-0000000000000001-0001.tmp").touch()
    (filled.backups / "mine.db").touch()
    for _ in range(5):
        upgrade.back_up(filled, "0001")

    copies = sorted(path.name for path in filled.backups.iterdir())
    assert len(copies) == 4
    assert copies[-1] == "mine.db"
    assert not any(name.endswith(".tmp") for name in copies)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ("raise RuntimeError('half way')", RuntimeError),
        ("op.execute('UPDATE entry SET blob_id = 99')", CorruptStoreError),
        ("op.execute('SELECT * FROM nowhere')", CorruptStoreError),
    ],
)
def test_an_upgrade_that_fails_changes_nothing(
    filled: Layout, program_of_tomorrow: Callable[..., None], more: str, error: type[Exception]
) -> None:
    """An error in a migration, or rows that refer to nothing after it, leave the older catalog whole and unlocked."""
    before = sql(filled.catalog, "SELECT name, sql FROM sqlite_master")
    program_of_tomorrow(more)

    with pytest.raises(error):
        Catalog.open(filled)

    assert sql(filled.catalog, "SELECT name, sql FROM sqlite_master") == before
    assert sql(filled.catalog, "SELECT version_num FROM alembic_version") == [("0001",)]
    for path in (filled.schema_lock, filled.writer_lock):
        held = locks.try_lock(path)
        assert held is not None
        held.release()


def test_an_upgrade_that_somebody_else_has_done_is_not_done_again(filled: Layout) -> None:
    """The version is read again under the exclusive lock: who comes second finds nothing to do."""
    schema._upgrade(filled)

    assert not filled.backups.exists()


def test_an_upgrade_waits_for_those_who_have_it_open(
    filled: Layout, program_of_tomorrow: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process has the older version open, an upgrade gives up after a time and says why."""
    monkeypatch.setattr(schema, "_LOCK_TIMEOUT_S", 0.05)
    with Catalog.open(filled) as other:
        assert other.find_blob(blake3(1)) is not None
        program_of_tomorrow()

        with pytest.raises(BusyError, match="older version is held by another modelcask"):
            Catalog.open(filled)

    with Catalog.open(filled) as catalog:
        assert catalog.find_blob(blake3(1)) is not None


def test_a_lookup_leaves_the_upgrade_to_the_catalog(filled: Layout, program_of_tomorrow: Callable[..., None]) -> None:
    """A reader says that an older catalog has no schema for it, keeps no lock on it, and works once it is upgraded."""
    program_of_tomorrow()
    with contextlib.closing(LookupReader(filled)) as reader:
        assert not reader.has_schema()
        with pytest.raises(StorageError, match="older schema 0001"):
            reader.find_revision("hf://org/repo", ref="main", revision=None)

        Catalog.open(filled).close()

        assert reader.has_schema()
        assert reader.find_revision("hf://org/repo", ref="main", revision=None) is not None


def test_a_newer_catalog_is_refused(filled: Layout) -> None:
    """A catalog that says that this program cannot read it is left alone, by the catalog and by lookups."""
    sql(filled.catalog, "UPDATE alembic_version SET version_num = '0009'")
    sql(filled.catalog, "UPDATE meta SET value = '0005' WHERE key = 'min_reader'")

    with pytest.raises(SchemaVersionError) as caught:
        Catalog.open(filled)

    assert (caught.value.found, caught.value.supported) == ("0009", "0001")
    with contextlib.closing(LookupReader(filled)) as reader:
        with pytest.raises(SchemaVersionError):
            reader.find_file("hf://org/repo", ref="main", revision=None, path="file-1")
        with pytest.raises(SchemaVersionError):
            reader.has_schema()
    held = locks.try_lock(filled.schema_lock)
    assert held is not None
    held.release()


def test_a_newer_catalog_that_only_grew_is_used(filled: Layout) -> None:
    """A newer schema that says that older programs may read and write it is read and written."""
    sql(filled.catalog, "UPDATE alembic_version SET version_num = '0002'")

    with Catalog.open(filled) as catalog, contextlib.closing(LookupReader(filled)) as reader:
        catalog.record_blobs([new_blob(7)])

        assert catalog.find_blob(blake3(7)) is not None
        assert reader.find_file("hf://org/repo", ref="main", revision=None, path="file-1") is not None


def test_a_newer_catalog_can_be_read_only(filled: Layout) -> None:
    """A newer schema that older programs may only read answers, and refuses to be written."""
    sql(filled.catalog, "UPDATE alembic_version SET version_num = '0003'")
    sql(filled.catalog, "UPDATE meta SET value = '0003' WHERE key = 'min_writer'")

    with Catalog.open(filled) as catalog:
        assert catalog.find_blob(blake3(1)) is not None
        with pytest.raises(SchemaVersionError):
            catalog.record_blobs([new_blob(7)])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda path: path.write_bytes(b"<!DOCTYPE html>" * 100), "damaged .*rebuild"),
        (lambda path: sql(path, "CREATE TABLE t (a)"), "no catalog of modelcask"),
    ],
)
def test_what_is_no_catalog_is_refused(layout: Layout, make: Callable[[Path], object], match: str) -> None:
    """A file that is something else is neither used nor touched."""
    make(layout.catalog)
    before = layout.catalog.read_bytes()

    with pytest.raises(CorruptStoreError, match=match):
        Catalog.open(layout)
    with contextlib.closing(LookupReader(layout)) as reader:
        with pytest.raises(CorruptStoreError, match=match):
            reader.has_schema()
        with pytest.raises(CorruptStoreError, match=match):
            reader.list_files(1)

    assert layout.catalog.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM alembic_version", "DELETE FROM meta", "INSERT INTO alembic_version VALUES ('0002')"],
)
def test_a_catalog_that_does_not_say_its_version_is_refused(filled: Layout, statement: str) -> None:
    """Nobody guesses the version of a catalog whose own word is missing or double."""
    sql(filled.catalog, statement)

    with pytest.raises(CorruptStoreError, match="does not say its version"):
        Catalog.open(filled)


def test_a_root_that_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    """A root without its folders is one typed error."""
    with pytest.raises(StorageError, match="cannot be locked"):
        Catalog.open(Layout(tmp_path / "nothing"))


def test_a_catalog_that_cannot_be_opened_is_refused(layout: Layout) -> None:
    """A folder in the catalog's place is one typed error."""
    layout.catalog.mkdir()

    with pytest.raises(StorageError, match="is no file; run: modelcask rebuild"):
        Catalog.open(layout)


OPEN_AND_RECORD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from catalog.catalog_samples import fill
from modelcask.catalog.catalog import Catalog
from modelcask.layout import Layout
print("ready", flush=True)
sys.stdin.readline()
with Catalog.open(Layout(Path(sys.argv[2]))) as catalog:
    fill(catalog, sys.argv[3], [int(sys.argv[3])])
"""


def test_two_processes_may_open_a_new_root_at_once(layout: Layout) -> None:
    """Both find a whole catalog, and what each records is there."""
    tests = str(Path(__file__).parents[1])
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", OPEN_AND_RECORD, tests, str(layout.root), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    outcomes = []
    for child in children:  # both have been let go before either is waited for
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    outcomes = [child.communicate(timeout=60) for child in children]

    assert [child.returncode for child in children] == [0, 0], outcomes
    with Catalog.open(layout) as catalog:
        assert sorted(row.revision for row in catalog.list_snapshots()) == ["1", "2"]
