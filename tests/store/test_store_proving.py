"""A blob whose file is not what its row says is served only after its bytes have been looked at."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from modelcask.catalog.catalog import Catalog
from modelcask.catalog.rows import BlobRow
from modelcask.digest import Digest
from modelcask.errors import CorruptStoreError, NotCachedError, StorageError
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.proving import prove_again
from modelcask.store import blobs
from modelcask.store.root import open_root
from modelcask.types import ReplicaState, StatStamp
from modelcask.verification import Verdict

CONTENT = b"the right bytes" * 1000
DIGEST = Digest("blake3", blake3(CONTENT).hexdigest())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def cache(cask: Path, source: Path) -> Iterator[ModelCache]:
    with ModelCache(cask) as made:
        made.pull(source.as_uri())
        yield made


@pytest.fixture
def blob(cask: Path) -> Path:
    return Layout(cask).blob(DIGEST)


def row(cache: ModelCache) -> BlobRow:
    with Catalog.open(Layout(cache.root)) as catalog:
        found = catalog.find_blob(DIGEST)
    assert found is not None
    return found


def quarantined(cache: ModelCache) -> list[bytes]:
    return [path.read_bytes() for path in Layout(cache.root).quarantine.iterdir()]


def touch(path: Path) -> None:
    os.utime(path)


def change_mode(path: Path) -> None:
    path.chmod(0o440)
    path.chmod(0o444)


def name_twice(path: Path) -> None:
    path.with_name("second").hardlink_to(path)


def copy_back(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("change", [touch, change_mode, name_twice, copy_back])
def test_a_touched_file_with_the_right_bytes_is_served_and_remembered(
    cache: ModelCache, source: Path, blob: Path, change: Callable[[Path], None]
) -> None:
    """The stamp is renewed, so that the next lookup need not hash it."""
    change(blob)
    found = cache.lookup(source.as_uri())
    assert found is not None
    assert found.read_bytes() == CONTENT
    assert row(cache).stamp == StatStamp.of(blob.stat())
    assert quarantined(cache) == []


def flip(path: Path) -> None:
    path.write_bytes(b"T" + CONTENT[1:])


def cut(path: Path) -> None:
    os.truncate(path, 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("change", [flip, cut, empty])
def test_damaged_bytes_are_never_served_and_never_lost(
    cache: ModelCache, source: Path, blob: Path, change: Callable[[Path], None]
) -> None:
    """They go to quarantine; a pull brings the right ones back."""
    change(blob)
    damaged = blob.read_bytes()
    assert cache.lookup(source.as_uri()) is None
    assert row(cache).state is ReplicaState.QUARANTINED
    assert quarantined(cache) == [damaged]
    cache.pull(source.as_uri())
    found = cache.lookup(source.as_uri())
    assert found is not None
    assert found.read_bytes() == CONTENT
    assert quarantined(cache) == [damaged]


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"precious")


def become_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def become_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


NO_FILES = [become_folder, become_pipe, become_link, become_dangling_link]


@pytest.mark.parametrize("change", NO_FILES)
def test_what_is_no_file_is_moved_out_of_a_blobs_name(
    cache: ModelCache, source: Path, blob: Path, change: Callable[[Path], None]
) -> None:
    """Nothing hangs and nothing is lost; a pull brings the file back."""
    change(blob)
    assert cache.lookup(source.as_uri()) is None
    assert row(cache).state is ReplicaState.QUARANTINED
    assert not os.path.lexists(blob)
    assert len(list(Layout(cache.root).quarantine.iterdir())) == 1
    cache.pull(source.as_uri())
    found = cache.lookup(source.as_uri())
    assert found is not None
    assert found.read_bytes() == CONTENT


@pytest.mark.parametrize("change", NO_FILES)
def test_verifying_finds_what_is_no_file(cache: ModelCache, blob: Path, change: Callable[[Path], None]) -> None:
    """It is damage, the second time too, until the file is there again."""
    change(blob)
    for _ in range(2):
        assert [one.verdict for one in cache.verify()] == [Verdict.DAMAGED]
        assert len(list(Layout(cache.root).quarantine.iterdir())) == 1
    change_back = Layout(cache.root).blob(DIGEST)
    change_back.mkdir()  # it comes again
    assert [one.verdict for one in cache.verify()] == [Verdict.DAMAGED]
    assert not change_back.exists()


@pytest.mark.parametrize("change", NO_FILES)
def test_a_pull_replaces_what_is_no_file_and_has_no_row(
    cache: ModelCache, source: Path, blob: Path, change: Callable[[Path], None]
) -> None:
    """A rename over it would fail for a folder, with the same advice each time."""
    uri = source.as_uri()
    cache.remove(cache.plan_removal(uri))
    blob.touch()
    change(blob)
    [snapshot] = cache.pull(uri)
    assert snapshot.path.read_bytes() == CONTENT
    assert len(list(Layout(cache.root).quarantine.iterdir())) == 1


@pytest.mark.parametrize("change", NO_FILES)
def test_removing_what_is_no_file_keeps_it(
    cache: ModelCache, source: Path, blob: Path, change: Callable[[Path], None]
) -> None:
    """It was never ours, so it is not deleted; the row goes."""
    plan = cache.plan_removal(source.as_uri())
    change(blob)
    assert cache.remove(plan).bytes_freed == 0
    assert not os.path.lexists(blob)
    assert len(list(Layout(cache.root).quarantine.iterdir())) == 1
    assert cache.list_snapshots() == []


@pytest.mark.parametrize("change", NO_FILES)
def test_a_rebuild_moves_what_is_no_file_aside(cache: ModelCache, blob: Path, change: Callable[[Path], None]) -> None:
    """And says where it is."""
    change(blob)
    rebuilt = cache.rebuild()
    [kept] = Layout(cache.root).quarantine.iterdir()
    assert any(str(kept) in refused for refused in rebuilt.refused)
    assert rebuilt.blobs == 0


PARTIAL_NO_FILES = {
    "data is a folder": ("data", become_folder),
    "data is a pipe": ("data", become_pipe),
    "journal is a folder": ("journal", become_folder),
    "journal is a pipe": ("journal", become_pipe),
    "meta is a folder": ("meta", become_folder),
    "meta is a pipe": ("meta", become_pipe),
    "data is a link": ("data", become_dangling_link),
}


@pytest.mark.parametrize(("name", "change"), PARTIAL_NO_FILES.values(), ids=PARTIAL_NO_FILES.keys())
def test_a_pull_clears_what_is_no_file_in_its_partial(
    cask: Path, source: Path, name: str, change: Callable[[Path], None]
) -> None:
    """No attempt would get any further otherwise."""
    key = hashlib.sha256(CONTENT).hexdigest()
    folder = cask / "partial" / key
    with ModelCache(cask) as cache:
        open_root(cask)
        folder.mkdir()
        (folder / name).touch()
        change(folder / name)
        [snapshot] = cache.pull(f"{source.as_uri()}#sha256={key}")
        assert snapshot.path.read_bytes() == CONTENT
    assert list((cask / "partial").iterdir()) == []


def test_a_pull_clears_a_file_in_the_place_of_its_partial(cask: Path, source: Path) -> None:
    """The same, one level up."""
    key = hashlib.sha256(CONTENT).hexdigest()
    with ModelCache(cask) as cache:
        open_root(cask)
        (cask / "partial" / key).write_bytes(b"x")
        [snapshot] = cache.pull(f"{source.as_uri()}#sha256={key}")
        assert snapshot.path.read_bytes() == CONTENT


def test_a_partial_with_folders_in_it_is_swept(cache: ModelCache, cask: Path, source: Path) -> None:
    """By the next pull of what is held, as any other."""
    key = hashlib.sha256(CONTENT).hexdigest()
    (cask / "partial" / key / "journal" / "below").mkdir(parents=True)
    cache.pull(f"{source.as_uri()}#sha256={key}")
    assert list((cask / "partial").iterdir()) == []


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_hashing_what_is_no_file_is_an_error(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """It may have become one between the look and the reading; nothing waits for a pipe's other end."""
    make(tmp_path / "x")
    with pytest.raises(StorageError):
        blobs.hash_blob(tmp_path / "x")
    with pytest.raises(StorageError):
        blobs.hash_all(tmp_path / "x", ("blake3",))


@pytest.mark.parametrize("size", [0, 1, (4 << 20) - 1, 4 << 20, (4 << 20) + 1])
def test_a_file_of_any_size_is_hashed_whole(tmp_path: Path, size: int) -> None:
    """In blocks, the last one short."""
    content = (CONTENT * (size // len(CONTENT) + 1))[:size]
    (tmp_path / "x").write_bytes(content)
    assert blobs.hash_blob(tmp_path / "x") == blake3(content).hexdigest()


def test_a_name_that_means_other_bytes_than_its_manifest_says_is_not_served(
    cache: ModelCache, cask: Path, source: Path, tmp_path: Path
) -> None:
    """One flipped bit in the catalog could do it; the link and the manifest are the witnesses."""
    other = tmp_path / "other.bin"
    other.write_bytes(b"other")
    cache.pull(other.as_uri())
    cache.close()
    with contextlib.closing(sqlite3.connect(cask / "catalog.db")) as catalog:
        catalog.execute("UPDATE entry SET blob_id = (SELECT max(id) FROM blob)")
        catalog.commit()
    with pytest.raises(CorruptStoreError, match="run: modelcask rebuild"):
        cache.lookup(source.as_uri())
    cache.rebuild()
    found = cache.lookup(source.as_uri())
    assert found is not None
    assert found.read_bytes() == CONTENT


def test_what_is_held_but_damaged_is_told_as_such(cache: ModelCache, source: Path, blob: Path) -> None:
    """All known files are held, so it is not a part that is missing."""
    flip(blob)
    with pytest.raises(NotCachedError, match=r"is held, but damaged \(1 of 1 files\); run: modelcask pull"):
        cache.get_path(source.as_uri())


def test_other_bytes_than_a_pin_names_are_told_as_such(cache: ModelCache, source: Path) -> None:
    """They are whole and sound; they are only not what was asked for."""
    with pytest.raises(NotCachedError, match="is held with other bytes than the pin; run: modelcask pull"):
        cache.get_path(f"{source.as_uri()}#sha256={'0' * 64}")


def test_a_lost_file_is_missing_until_it_is_back(cache: ModelCache, source: Path, blob: Path) -> None:
    """Its row says so; the same bytes under the same name are found again, proved."""
    blob.unlink()
    assert cache.lookup(source.as_uri()) is None
    assert row(cache).state is ReplicaState.MISSING
    blob.write_bytes(CONTENT)
    assert cache.lookup(source.as_uri()) is not None
    assert row(cache).state is ReplicaState.PRESENT


def test_what_was_found_damaged_is_not_believed_for_its_stamp(cache: ModelCache, source: Path, blob: Path) -> None:
    """A disk that rots changes no stamp. Who found it out died before moving it: its row is all that tells."""
    flip(blob)
    with Catalog.open(Layout(cache.root)) as catalog:
        now = blobs.stamp(Layout(cache.root), DIGEST)
        assert now is not None
        catalog.refresh_stamp(DIGEST, now, verified=False)
        catalog.set_state(DIGEST, ReplicaState.QUARANTINED, expected={ReplicaState.PRESENT})
    assert cache.lookup(source.as_uri()) is None
    assert len(quarantined(cache)) == 1
    cache.pull(source.as_uri())
    assert cache.lookup(source.as_uri()) is not None


def test_a_condemned_blob_is_rescued_without_hashing(
    cache: ModelCache, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stamp holds: looking it up makes it present again at once, and does not call it proved anew."""
    before = row(cache)
    with Catalog.open(Layout(cache.root)) as catalog:
        catalog.set_state(DIGEST, ReplicaState.CONDEMNED, expected={ReplicaState.PRESENT})
    monkeypatch.setattr(blobs, "hash_blob", lambda _: pytest.fail("it was hashed"))
    assert cache.lookup(source.as_uri()) is not None
    assert row(cache).state is ReplicaState.PRESENT
    assert row(cache).verified_at == before.verified_at


def test_a_file_that_is_replaced_while_it_is_hashed_is_left_to_the_next_look(
    cache: ModelCache, blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was hashed is not what is there any more, so nothing is said of it."""
    flip(blob)
    before = row(cache)
    hash_blob = blobs.hash_blob

    def replace_after(path: Path) -> str:
        found = hash_blob(path)
        copy_back(path)
        return found

    monkeypatch.setattr(blobs, "hash_blob", replace_after)
    layout = Layout(cache.root)
    with Catalog.open(layout) as catalog:
        assert not prove_again(layout, catalog, DIGEST, before.state, before.stamp)
    assert row(cache) == before
    assert quarantined(cache) == []


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_by_file(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"edited")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [relink, replace_by_file, remove])
def test_a_broken_link_of_a_snapshot_is_made_again(
    cache: ModelCache, source: Path, change: Callable[[Path], None]
) -> None:
    """What lies in its place is not what was asked for, however it looks."""
    found = cache.lookup(source.as_uri())
    assert found is not None
    change(found)
    again = cache.lookup(source.as_uri())
    assert again == found
    assert again.read_bytes() == CONTENT


def test_a_blob_that_never_stops_changing_is_an_error_and_not_a_loop(
    cache: ModelCache, source: Path, blob: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else writes to the store: the pull says so."""
    flip(blob)
    hash_blob = blobs.hash_blob

    def change_after(path: Path) -> str:
        found = hash_blob(path)
        touch(path)
        return found

    monkeypatch.setattr(blobs, "hash_blob", change_after)
    other = tmp_path / "other.bin"
    other.write_bytes(CONTENT)
    with pytest.raises(Exception, match="keeps changing"):
        cache.pull(other.as_uri())
    assert cache.lookup(other.as_uri()) is None
    monkeypatch.undo()
    cache.pull(other.as_uri())
    assert cache.lookup(source.as_uri()) is not None
