"""A blob whose file is not what its row says is served only after its bytes have been looked at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from modelcask.catalog.catalog import Catalog
from modelcask.catalog.rows import BlobRow
from modelcask.digest import Digest
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.proving import prove_again
from modelcask.store import blobs
from modelcask.types import ReplicaState, StatStamp

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
