"""The tables: the migrations and the code agree, and the database itself refuses what cannot be."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from modelcask.catalog import creation, schema, upgrade
from modelcask.catalog.connection import connect_reader, connect_writer
from modelcask.catalog.engine import make_engine
from modelcask.catalog.tables import METADATA
from modelcask.layout import Layout

POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call] # as SQLAlchemy has it
DIGEST = "zeroblob(32)"
ONE_OF_EACH = f"""
    INSERT INTO source VALUES (1, 'hf', 'hf://o/r');
    INSERT INTO revision VALUES (1, 1, 'k', 1, 'live', 0, 0);
    INSERT INTO ref VALUES (1, 1, 'main', 1, '', 0);
    INSERT INTO ref_history VALUES (1, 1, 'main', 1, 0);
    INSERT INTO blob VALUES (1, {DIGEST}, 5, 0, 0);
    INSERT INTO digest VALUES (1, 'sha256', {DIGEST}, 'computed');
    INSERT INTO replica VALUES (1, 1, 'local', 'x', 0, 'present', 1, 2, 3, 5, NULL, NULL);
    INSERT INTO entry VALUES (1, 1, 'p', 5, 1, {DIGEST}, zeroblob(20), zeroblob(16), 'pinned');
    INSERT INTO pin VALUES (1, 'revision', 1, NULL, NULL, NULL, '', 'me', '', 0, NULL);
    INSERT INTO export VALUES (1, '/x', 'hf', 'symlink', 1, 0, 0);
    INSERT INTO export_entry VALUES (1, 'p', 1);
    INSERT INTO attempt VALUES (1, 'r', 's', 'u', 'hf://o/r', 'p', 0, 1, 'done', 5, 0, NULL);
    INSERT INTO event VALUES (1, 0, 'published', 'x', '{{}}');
    INSERT INTO gc_run VALUES (1, 0, NULL, NULL, '{{}}', 0, 0, 0, 0, 0, NULL);
"""


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """One row in each table, foreign keys on."""
    path = tmp_path / "catalog.db"
    path.write_bytes(migrated.read_bytes())
    with contextlib.closing(connect_writer(path)) as connection:
        connection.executescript(ONE_OF_EACH)
        yield connection


@pytest.fixture
def empty(migrated: Path) -> Iterator[Connection]:
    engine = make_engine(lambda: connect_reader(migrated), begin="BEGIN")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", upgrade.SCRIPTS)
    return ScriptDirectory.from_config(config)


def test_the_migrations_make_what_the_tables_say(empty: Connection) -> None:
    """Alembic's own comparison finds no difference between the migrated database and the code."""
    context = MigrationContext.configure(empty, opts={"compare_type": True, "compare_server_default": True})

    assert compare_metadata(context, METADATA) == []


def test_a_new_catalog_is_as_the_migrations_make_it(migrated: Path, layout: Layout) -> None:
    """It is made without them, since they take long to import: every statement and every first row agree."""
    creation.create(layout, schema.HEAD)

    assert _dump(layout.catalog) == _dump(migrated)


def _dump(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = [*connection.execute("SELECT name, sql FROM sqlite_master"), *connection.execute("SELECT * FROM meta")]
        rows += connection.execute("SELECT 'version', version_num FROM alembic_version")
        pragmas = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "application_id")]
    said = [f"{name} {value}" for name, value in [*rows, *zip(("mode", "id"), pragmas, strict=True)]]
    return sorted(re.sub(r"\s+", " ", one).replace("( ", "(").replace(" )", ")") for one in said)


def test_the_migrations_make_the_same_ddl_to_the_letter(empty: Connection) -> None:
    """CHECKs, STRICT, conditions of indexes and actions of foreign keys, which Alembic does not compare, agree too."""
    rows = empty.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
    )
    migrated = {name: " ".join(sql.split()) for name, sql in rows}
    expected = {}
    for table in METADATA.tables.values():
        expected[table.name] = " ".join(str(CreateTable(table).compile(dialect=sqlite.dialect())).split())
        for index in table.indexes:
            expected[str(index.name)] = " ".join(str(CreateIndex(index).compile(dialect=sqlite.dialect())).split())

    assert migrated == expected


def test_head_is_the_last_migration() -> None:
    """The version that a check without Alembic compares with is the one that Alembic would upgrade to."""
    assert _script().get_heads() == [schema.HEAD]


def test_there_is_no_downgrade(migrated: Path) -> None:
    """Going back is refused with the advice to restore the backup, and changes nothing."""
    engine = make_engine(lambda: connect_writer(migrated), begin="BEGIN IMMEDIATE")
    config = Config()
    config.set_main_option("script_location", upgrade.SCRIPTS)
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            with pytest.raises(NotImplementedError, match="backups"):
                command.downgrade(config, "base")
    finally:
        engine.dispose()

    version = schema.find_version(migrated)
    assert version is not None
    assert version.number == schema.HEAD


def test_every_table_is_strict(database: sqlite3.Connection) -> None:
    """No table takes a value of another type than it declares, apart from Alembic's own."""
    strict = {row[1]: row[5] for row in database.execute("PRAGMA table_list") if row[2] == "table"}

    loose = {name for name, value in strict.items() if not value}
    assert loose == {"sqlite_schema", "sqlite_temp_schema", "alembic_version"}


def test_every_table_takes_a_right_row(database: sqlite3.Connection) -> None:
    """The rows that the bad ones below differ from by one value are accepted."""
    for name in METADATA.tables:
        assert database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] >= 1, name


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE revision SET fetched_at = 'yesterday'",
        "UPDATE blob SET size_bytes = 1.5",
        "UPDATE meta SET value = zeroblob(1)",
        "UPDATE blob SET blake3 = '" + "a" * 64 + "'",
        "UPDATE blob SET blake3 = zeroblob(31)",
        "UPDATE blob SET size_bytes = -1",
        "UPDATE revision SET listed = 2",
        "UPDATE revision SET state = 'gone'",
        "UPDATE ref SET revision_id = 7",
        "UPDATE ref SET name = NULL",
        "UPDATE digest SET algorithm = 'sha512'",
        "UPDATE digest SET origin = 'heard'",
        "UPDATE digest SET value = zeroblob(20)",
        "UPDATE digest SET algorithm = 'md5'",
        "UPDATE replica SET state = 'pending'",
        "UPDATE replica SET inode = NULL",
        "UPDATE replica SET ctime_ns = NULL",
        "UPDATE replica SET size_bytes = -1",
        "UPDATE replica SET state = 'trash'",
        "UPDATE replica SET trashed_at = 5",
        "UPDATE entry SET path = ''",
        "UPDATE entry SET size_bytes = -1",
        "UPDATE entry SET trust = 'sure'",
        "UPDATE entry SET trust = NULL",
        "UPDATE entry SET blob_id = NULL",
        "UPDATE entry SET promised_sha256 = zeroblob(20)",
        "UPDATE entry SET promised_git_sha1 = zeroblob(32)",
        "UPDATE entry SET promised_md5 = zeroblob(20)",
        "UPDATE pin SET kind = 'person'",
        "UPDATE pin SET kind = 'blob'",
        "UPDATE pin SET blob_id = 1",
        "UPDATE pin SET revision_id = NULL",
        "UPDATE export SET mode = 'magic'",
        "UPDATE attempt SET outcome = 'maybe'",
        "UPDATE attempt SET outcome = NULL",
        "UPDATE attempt SET bytes_fetched = -1",
        "UPDATE gc_run SET outcome = 'done'",
        "UPDATE gc_run SET outcome = 'maybe', finished_at = 1",
        "INSERT INTO source VALUES (2, 'hf', 'hf://o/r')",
        "INSERT INTO revision VALUES (2, 1, 'k', 1, 'live', 0, 0)",
        "INSERT INTO ref VALUES (2, 1, 'main', 1, '', 0)",
        f"INSERT INTO blob VALUES (2, {DIGEST}, 5, 0, 0)",
        "INSERT INTO entry VALUES (2, 1, 'p', NULL, NULL, NULL, NULL, NULL, NULL)",
        "INSERT INTO replica VALUES (2, 1, 'local', 'y', 0, 'present', 1, 2, 3, 5, NULL, NULL)",
        "INSERT INTO export VALUES (2, '/x', 'hf', 'symlink', 1, 0, 0)",
        "DELETE FROM blob",
        "DELETE FROM revision",
        "DELETE FROM source",
    ],
)
def test_the_database_refuses_what_cannot_be(database: sqlite3.Connection, statement: str) -> None:
    """A wrong type, an unknown word, a contradiction or a dangling reference is an error, whoever writes it."""
    with pytest.raises(sqlite3.IntegrityError):
        database.execute(statement)


@pytest.mark.parametrize(("algorithm", "length", "origin", "ok"), [
    ("sha256", 32, "computed", False),
    ("sha256", 32, "claimed", True),
    ("md5", 16, "computed", True),
])  # fmt: skip
def test_a_computed_sha256_names_one_blob(
    database: sqlite3.Connection, algorithm: str, length: int, origin: str, ok: bool
) -> None:
    """Two blobs cannot have one computed SHA-256; a claimed one or a weak digest may be shared."""
    database.execute("INSERT INTO blob VALUES (2, randomblob(32), 5, 0, 0)")
    database.execute(f"INSERT OR IGNORE INTO digest VALUES (1, '{algorithm}', zeroblob({length}), '{origin}')")
    expected = contextlib.nullcontext() if ok else pytest.raises(sqlite3.IntegrityError)
    with expected:
        database.execute(f"INSERT INTO digest VALUES (2, '{algorithm}', zeroblob({length}), '{origin}')")


def test_the_same_tables_serve_postgresql() -> None:
    """Every table has a definition for PostgreSQL with 64-bit numbers, bytes, and the same named constraints."""
    for table in METADATA.tables.values():
        ddl = str(CreateTable(table).compile(dialect=POSTGRESQL))
        assert " INTEGER" not in ddl
        assert ddl.rstrip().endswith(")")  # where SQLite says STRICT
        assert f"CONSTRAINT pk_{table.name} " in ddl
        if "id" in table.c:
            assert "id BIGSERIAL NOT NULL" in ddl
    blob = str(CreateTable(METADATA.tables["blob"]).compile(dialect=POSTGRESQL))
    assert "blake3 BYTEA NOT NULL" in blob
