"""Single files of a store are gone or are something else: each command says what to run, and that mends it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelcask.diagnosis import Check, Health
from modelcask.errors import CorruptStoreError, NotCachedError, NotFoundError, SchemaVersionError, StorageError
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.store.root import open_root, read_format
from modelcask.verification import Verdict

CONTENT = b"the right bytes" * 1000


@pytest.fixture
def uri(tmp_path: Path) -> str:
    path = tmp_path / "model.bin"
    path.write_bytes(CONTENT)
    return path.as_uri()


@pytest.fixture
def layout(cask: Path, uri: str) -> Layout:
    """A store that holds one model, and that nobody has open."""
    with ModelCache(cask) as cache:
        cache.pull(uri)
    return Layout(cask)


@pytest.fixture
def cache(layout: Layout) -> Iterator[ModelCache]:
    with ModelCache(layout.root) as made:
        yield made


def failures(cache: ModelCache) -> list[Check]:
    return [check for check in cache.diagnose() if check.health is Health.FAILURE]


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"\xff\x00 no JSON")


def make_folder(path: Path) -> None:
    remove(path)
    path.mkdir()
    (path / "inside").write_bytes(b"precious")


def make_pipe(path: Path) -> None:
    remove(path)
    os.mkfifo(path)


DAMAGE = [remove, empty, garble, make_folder, make_pipe]
Damage = Callable[[Path], None]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_store_without_its_format_is_had_back_by_a_rebuild(
    layout: Layout, cache: ModelCache, uri: str, damage: Damage
) -> None:
    """Every command says so, and touches nothing; the rebuild keeps what stood in its place."""
    store = read_format(layout)
    damage(layout.format_file)
    for command in (cache.lookup, cache.pull, cache.show, cache.plan_removal):
        with pytest.raises(CorruptStoreError, match=r"FORMAT.*run: modelcask rebuild"):
            command(uri)
    with pytest.raises(CorruptStoreError, match="run: modelcask rebuild"):
        cache.list_snapshots()
    [failure] = failures(cache)
    assert "run: modelcask rebuild" in failure.detail
    kept = sorted(path.name for path in layout.backups.iterdir())

    assert cache.rebuild().entries == 1
    found = cache.lookup(uri)
    assert found is not None
    assert found.read_bytes() == CONTENT
    assert failures(cache) == []
    assert read_format(layout) != store is not None
    moved = [path.name for path in layout.backups.iterdir() if path.name not in kept and path.name.startswith("FORMAT")]
    assert len(moved) == (damage is not remove)


def test_a_newer_format_is_not_rebuilt_away(layout: Layout, cache: ModelCache) -> None:
    """It is not damaged: another program knows what it means."""
    said = json.loads(layout.format_file.read_text())
    layout.format_file.write_text(json.dumps({**said, "layout": 2}))
    before = layout.format_file.read_bytes()
    with pytest.raises(SchemaVersionError):
        cache.rebuild()
    assert layout.format_file.read_bytes() == before
    [failure] = failures(cache)
    assert "rebuild" not in failure.detail


def of_another_tool(root: Path) -> None:
    for name in ("blobs/sha256-aa", "manifests/registry/library/tiny/latest", "catalog.db"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"precious")


def with_a_format(root: Path) -> None:
    root.mkdir()
    (root / "FORMAT").write_bytes(b"precious")


def only_begun(root: Path) -> None:
    layout, _ = open_root(root)
    layout.format_file.unlink()


@pytest.mark.parametrize("make", [of_another_tool, with_a_format, only_begun])
def test_a_folder_that_is_no_store_is_not_rebuilt(cask: Path, make: Callable[[Path], None]) -> None:
    """Another tool's folder has blobs and manifests too; of ours, empty folders alone hold nothing to mend."""
    make(cask)
    before = sorted(cask.rglob("*"))
    with ModelCache(cask) as cache, pytest.raises((NotFoundError, StorageError)):
        cache.rebuild()
    assert sorted(cask.rglob("*")) == before


FOLDERS = ["locks", "sessions", "partial", "trash", "quarantine", "backups", "manifests", "snapshots", "blobs/b3/00"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_store_without_one_of_its_folders_works_on(
    layout: Layout, cache: ModelCache, uri: str, tmp_path: Path, name: str
) -> None:
    """Doctor says what is missing and that it comes back; the next command makes it again."""
    shutil.rmtree(layout.root / name)
    checks = cache.diagnose()
    assert failures(cache) == []
    assert any(str(layout.root / name) in check.detail for check in checks if check.health is Health.WARNING)
    (tmp_path / "other.bin").write_bytes(b"other")
    cache.pull((tmp_path / "other.bin").as_uri())
    assert cache.lookup(uri) is not None
    assert (layout.root / name).is_dir()
    assert [one.verdict for one in cache.verify()] == [Verdict.OK] * 2


@pytest.mark.parametrize("name", ["sessions", "snapshots"])
def test_a_lookup_makes_the_folder_that_it_needs(layout: Layout, cache: ModelCache, uri: str, name: str) -> None:
    """Without opening the root first, as the other commands do."""
    shutil.rmtree(layout.root / name)
    found = cache.lookup(uri)
    assert found is not None
    assert found.read_bytes() == CONTENT


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_in_a_folders_place_is_named(layout: Layout, cache: ModelCache, tmp_path: Path, name: str) -> None:
    """By doctor and by the command that finds it, with what to do."""
    shutil.rmtree(layout.root / name)
    (layout.root / name).write_bytes(b"precious")
    [failure] = failures(cache)
    (tmp_path / "other.bin").write_bytes(b"other")
    with pytest.raises(StorageError) as caught:
        cache.pull((tmp_path / "other.bin").as_uri())
    for text in (failure.detail, str(caught.value)):
        assert f"{layout.root / name} is no folder" in text
        assert "move it away" in text


@pytest.mark.parametrize("damage", [remove, empty])
def test_a_catalog_that_is_gone_is_missed(layout: Layout, cache: ModelCache, uri: str, damage: Damage) -> None:
    """Not taken for an empty cache, in which everything would be fetched again, unless no blob is there either."""
    for path in layout.root.glob("catalog.db-*"):
        path.unlink()
    damage(layout.catalog)
    for command in (cache.pull, cache.plan_removal):
        with pytest.raises(CorruptStoreError, match="run: modelcask rebuild"):
            command(uri)
    with pytest.raises(CorruptStoreError, match="run: modelcask rebuild"):
        cache.list_snapshots()
    [failure] = failures(cache)
    assert "run: modelcask rebuild" in failure.detail
    cache.rebuild()
    assert cache.lookup(uri) is not None


def test_without_a_catalog_a_lookup_says_why_it_finds_nothing(layout: Layout, cache: ModelCache, uri: str) -> None:
    """It is not cached as far as anybody can tell; the way back is a rebuild, not a pull."""
    for path in layout.root.glob("catalog.db*"):
        path.unlink()
    assert cache.lookup(uri) is None
    for command in (cache.get_path, cache.show):
        with pytest.raises(NotCachedError, match="run: modelcask rebuild"):
            command(uri)
    assert not layout.catalog.exists()


def test_a_store_that_never_held_anything_needs_no_catalog(cask: Path, uri: str) -> None:
    """Nothing is lost there."""
    open_root(cask)
    with ModelCache(cask) as cache:
        assert cache.list_snapshots() == []
        with pytest.raises(NotCachedError, match="run: modelcask pull"):
            cache.get_path(uri)


@pytest.mark.parametrize("damage", [make_folder, make_pipe])
@pytest.mark.parametrize("name", ["catalog.db", "catalog.db-wal", "catalog.db-shm"])
def test_what_stands_in_the_catalogs_place_is_moved_aside(
    layout: Layout, cache: ModelCache, uri: str, name: str, damage: Damage
) -> None:
    """Nothing hangs; a rebuild keeps what stood there in backups."""
    (layout.root / name).touch()
    damage(layout.root / name)
    for command in (cache.lookup, cache.pull, cache.plan_removal):
        with pytest.raises(CorruptStoreError, match="is no file; run: modelcask rebuild"):
            command(uri)
    [failure] = failures(cache)
    assert "run: modelcask rebuild" in failure.detail
    cache.rebuild()
    assert cache.lookup(uri) is not None
    assert failures(cache) == []
    assert any(not path.is_file() for path in layout.backups.iterdir())


def test_a_root_that_is_no_folder_is_a_finding(cask: Path) -> None:
    """Not a store that the first pull would make."""
    cask.write_bytes(b"precious")
    [failure] = failures(ModelCache(cask))
    assert str(cask) in failure.detail
    assert "MODELCASK_HOME" in failure.detail


def test_a_folder_of_somebody_else_is_a_finding(cask: Path) -> None:
    """A pull would refuse it."""
    cask.mkdir()
    (cask / "notes.txt").touch()
    [failure] = failures(ModelCache(cask))
    assert "notes.txt" in failure.detail


def test_one_damaged_blob_is_one_finding(layout: Layout, cache: ModelCache) -> None:
    """Before it is verified and after; pulled again, only what is kept is left to be told."""
    [blob] = layout.blobs.glob("*/*")
    blob.chmod(0o600)
    blob.write_bytes(b"wrong")
    for _ in range(2):
        told = [check for check in cache.diagnose() if check.health is not Health.OK]
        assert [check.name for check in told] == ["blobs"]
        assert "verify" in told[0].detail
        list(cache.verify())


def test_that_a_catalog_was_rebuilt_is_no_warning(cache: ModelCache) -> None:
    """There is nothing that a person could do about it."""
    cache.rebuild()
    checks = cache.diagnose()
    assert [check.name for check in checks if check.health is not Health.OK] == []
    assert any("rebuild" in check.detail for check in checks if check.name == "catalog")
