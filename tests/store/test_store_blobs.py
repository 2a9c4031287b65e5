"""Published blobs: what gives way to a proved file, what is kept as evidence, and what hashing says."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from modelcask.digest import Digest
from modelcask.errors import BusyError, StorageError
from modelcask.layout import Layout
from modelcask.store import blobs
from modelcask.store.blobs import Incumbent, Placement, decide_placement
from modelcask.store.root import open_root
from modelcask.store.sealed import SealedFile
from modelcask.types import ReplicaState, StatStamp

GOOD, BAD = b"the right bytes", b"the wrong bytes"
DIGEST = Digest("blake3", blake3(GOOD).hexdigest())

LINK, KEEP = Placement.LINK, Placement.KEEP_INCUMBENT
PROVE, REPLACE = Placement.PROVE_INCUMBENT, Placement.REPLACE_ORPHAN
TABLE: dict[ReplicaState | None, tuple[Placement, Placement, Placement, Placement]] = {
    # row                      nothing there, same inode, as stamped, other
    None: (LINK, KEEP, REPLACE, REPLACE),
    ReplicaState.PRESENT: (LINK, KEEP, KEEP, PROVE),
    ReplicaState.CONDEMNED: (LINK, KEEP, KEEP, PROVE),
    ReplicaState.TRASH: (LINK, KEEP, REPLACE, REPLACE),
    ReplicaState.MISSING: (LINK, KEEP, REPLACE, REPLACE),
    ReplicaState.QUARANTINED: (LINK, KEEP, PROVE, PROVE),
}


@pytest.mark.parametrize(("state", "incumbent"), list(itertools.product([None, *ReplicaState], Incumbent)))
def test_what_becomes_of_a_sealed_file(state: ReplicaState | None, incumbent: Incumbent) -> None:
    """The whole table: ourselves and what the catalog vouches for stay, the latter proved again if it has changed."""
    assert decide_placement(state, incumbent) is TABLE[state][list(Incumbent).index(incumbent)]


@pytest.fixture
def layout(cask: Path) -> Layout:
    made, _ = open_root(cask)
    return made


@pytest.fixture
def sealed(layout: Layout) -> Path:
    path = layout.partials / "data"
    path.write_bytes(GOOD)
    path.chmod(0o444)
    return path


def checked(path: Path) -> SealedFile:
    return SealedFile(path, path.stat().st_ino, DIGEST, len(GOOD), (DIGEST,))


def stand(layout: Layout, content: bytes) -> StatStamp:
    """Put a file under the blob's name; return its stamp."""
    path = layout.blob(DIGEST)
    path.write_bytes(content)
    found = blobs.stamp(layout, DIGEST)
    assert found is not None
    return found


def test_a_file_takes_a_free_name(layout: Layout, sealed: Path) -> None:
    """It is the same file, so nothing is copied, and the partial stays as evidence until the row is committed."""
    blobs.place(layout, checked(sealed), None, None)
    assert layout.blob(DIGEST).samefile(sealed)


def test_placing_twice_is_placing_once(layout: Layout, sealed: Path) -> None:
    """An attempt that died after the link goes on where it was."""
    blobs.place(layout, checked(sealed), None, None)
    blobs.place(layout, checked(sealed), None, None)
    assert layout.blob(DIGEST).samefile(sealed)
    assert list(layout.quarantine.iterdir()) == []


def test_a_blob_that_the_catalog_vouches_for_keeps_its_inode(layout: Layout, sealed: Path) -> None:
    """Programs may have it mapped."""
    stamp = stand(layout, GOOD)
    blobs.place(layout, checked(sealed), ReplicaState.PRESENT, stamp)
    assert blobs.stamp(layout, DIGEST) == stamp


def test_a_blob_that_has_changed_is_neither_trusted_nor_replaced(layout: Layout, sealed: Path) -> None:
    """Its bytes decide, and hashing them is not for the time under the lock: the caller is told."""
    stamp = stand(layout, GOOD)
    layout.blob(DIGEST).write_bytes(BAD)
    assert not blobs.place(layout, checked(sealed), ReplicaState.PRESENT, stamp)
    assert layout.blob(DIGEST).read_bytes() == BAD
    assert sealed.exists()


@pytest.mark.parametrize("left_over", [False, True], ids=["", "after a crash in between"])
def test_an_orphan_that_nobody_proved_is_replaced(layout: Layout, sealed: Path, left_over: bool) -> None:
    """At no moment is the name free; a temporary name of an attempt that died is not in the way."""
    stand(layout, BAD)
    beside = layout.blob(DIGEST).with_name(f".{DIGEST.hex}")
    if left_over:
        beside.write_bytes(BAD)
    blobs.place(layout, checked(sealed), None, None)
    assert layout.blob(DIGEST).samefile(sealed)
    assert not beside.exists()
    assert list(layout.quarantine.iterdir()) == []


def test_a_name_that_appears_while_its_lock_is_held_is_not_overwritten(
    layout: Layout, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody does not keep to the locks: nothing is published over his file."""
    stand(layout, BAD)
    monkeypatch.setattr(blobs, "look", lambda *_: Incumbent.NOTHING)
    with pytest.raises(BusyError):
        blobs.place(layout, checked(sealed), None, None)
    assert layout.blob(DIGEST).read_bytes() == BAD


def test_a_link_under_a_blobs_name_is_not_followed(layout: Layout, sealed: Path, tmp_path: Path) -> None:
    """It is replaced itself; what it points to is left alone."""
    victim = tmp_path / "victim"
    victim.write_bytes(GOOD)
    layout.blob(DIGEST).symlink_to(victim)
    assert blobs.place(layout, checked(sealed), None, None)
    assert not layout.blob(DIGEST).is_symlink()
    assert layout.blob(DIGEST).samefile(sealed)
    assert victim.read_bytes() == GOOD


@pytest.mark.parametrize("stands", [None, BAD], ids=["free", "orphan"])
@pytest.mark.parametrize("there", [True, False], ids=["another file", "no file"])
def test_another_file_in_the_place_of_the_checked_one_is_not_published(
    layout: Layout, sealed: Path, stands: bytes | None, there: bool
) -> None:
    """Where locks lie, two processes share a partial: what was checked is an inode, not a path."""
    if stands is not None:
        stand(layout, stands)
    before = checked(sealed)
    kept = sealed.rename(sealed.with_name("checked"))  # so that its inode is not given to the next file
    if there:
        sealed.write_bytes(BAD)
    with pytest.raises(BusyError):
        blobs.place(layout, before, None, None)
    found = [path.read_bytes() for path in layout.blob(DIGEST).parent.iterdir()]
    assert found == ([] if stands is None else [stands])
    assert kept.read_bytes() == GOOD


def test_quarantine_keeps_every_damaged_copy(layout: Layout) -> None:
    """Two of one digest do not overwrite each other; nothing there is None."""
    assert blobs.quarantine(layout, DIGEST) is None
    kept = []
    for content in (b"first", b"second"):
        stand(layout, content)
        kept.append(blobs.quarantine(layout, DIGEST))
    assert [path.read_bytes() for path in kept if path is not None] == [b"first", b"second"]
    assert blobs.stamp(layout, DIGEST) is None


def test_removing_says_what_it_freed(layout: Layout) -> None:
    """Nothing there frees nothing."""
    assert blobs.remove(layout, DIGEST) == 0
    stand(layout, GOOD)
    assert blobs.remove(layout, DIGEST) == len(GOOD)
    assert blobs.remove(layout, DIGEST) == 0


def change_content(path: Path) -> None:
    path.write_bytes(BAD)


def change_length(path: Path) -> None:
    path.write_bytes(GOOD + b"!")


def change_inode(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(GOOD)
    other.rename(path)


def restore_times(path: Path) -> None:
    before = path.stat()
    path.write_bytes(BAD)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [change_content, change_length, change_inode, restore_times])
def test_no_change_leaves_the_stamp_as_it_was(layout: Layout, change: Callable[[Path], None]) -> None:
    """Not even one that sets the modification time back: the change time cannot be set."""
    before = stand(layout, GOOD)
    change(layout.blob(DIGEST))
    assert blobs.stamp(layout, DIGEST) != before


@pytest.mark.parametrize("content", [b"", b"x", b"x" * (4 << 20), b"x" * ((4 << 20) + 1)])
def test_both_ways_of_hashing_a_file_agree_with_the_libraries(tmp_path: Path, content: bytes) -> None:
    """Empty, tiny, and around the block size."""
    path = tmp_path / "file"
    path.write_bytes(content)
    assert blobs.hash_blob(path) == blake3(content).hexdigest()
    read: list[int] = []
    found = blobs.hash_all(path, ("blake3", "sha256", "md5", "git-sha1"), read.append)
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert [digest.hex for digest in found] == [
        blake3(content).hexdigest(),
        hashlib.sha256(content).hexdigest(),
        hashlib.md5(content).hexdigest(),
        git,
    ]
    assert sum(read) == len(content)
    assert blobs.hash_all(path, ("blake3",)) == found[:1]


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    """An error of the disk says nothing of the bytes."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(StorageError):
            blobs.hash_blob(path)
        with pytest.raises(StorageError):
            blobs.hash_all(path, ("blake3",))
