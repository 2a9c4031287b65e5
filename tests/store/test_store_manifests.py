"""Manifests: what two pulls know of one revision is joined, and what cannot be read is said so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcask.errors import CorruptStoreError, SchemaVersionError
from modelcask.layout import Layout
from modelcask.store import manifests
from modelcask.store.manifests import Manifest, ManifestEntry, ManifestRef

B3 = "blake3:" + "a" * 64
OTHER = "blake3:" + "b" * 64
SHA = "sha256:" + "c" * 64


def manifest(
    *entries: ManifestEntry, listed: bool = False, refs: dict[str, int] | None = None, revision: str = "r1"
) -> Manifest:
    named = {name: ManifestRef(at) for name, at in (refs or {}).items()}
    return Manifest(manifests.FORMAT, "hf://models/o/r", "hf", revision, listed, named, entries)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    made.manifests.mkdir()
    return made


KNOWN = ManifestEntry("a", 5, promised=(SHA,))
HELD = ManifestEntry("a", 5, B3, (SHA,), (SHA,), "upstream-sha256")
PINNED = ManifestEntry("a", 5, B3, (SHA,), (SHA,), "pinned")

MERGES: dict[str, tuple[Manifest | None, Manifest, tuple[ManifestEntry, ...]]] = {
    "the first": (None, manifest(HELD), (HELD,)),
    "held stays held": (manifest(HELD), manifest(KNOWN), (HELD,)),
    "known becomes held": (manifest(KNOWN), manifest(HELD), (HELD,)),
    "the later proof counts": (manifest(HELD), manifest(PINNED), (PINNED,)),
    "what is known later counts": (manifest(KNOWN), manifest(ManifestEntry("a", 6)), (ManifestEntry("a", 6),)),
    "other files stay": (manifest(ManifestEntry("b", 1, OTHER)), manifest(HELD), (HELD, ManifestEntry("b", 1, OTHER))),
    "nothing new": (manifest(HELD), manifest(), (HELD,)),
}


@pytest.mark.parametrize(("old", "new", "expected"), MERGES.values(), ids=MERGES.keys())
def test_held_beats_known(old: Manifest | None, new: Manifest, expected: tuple[ManifestEntry, ...]) -> None:
    """Nothing that the store holds is forgotten because another pull did not ask for it."""
    assert manifests.merge(old, new).entries == expected


def test_the_whole_listing_and_every_name_are_kept() -> None:
    """A later pull of one file does not undo what an earlier one knew; its own names are the newer."""
    both = manifests.merge(manifest(listed=True, refs={"main": 1, "v1": 1}), manifest(refs={"main": 2}))
    assert both.listed
    assert {name: ref.resolved_at for name, ref in both.refs.items()} == {"main": 2, "v1": 1}
    assert manifests.merge(manifest(), manifest(listed=True)).listed


entries = st.lists(
    st.builds(
        ManifestEntry,
        path=st.sampled_from("abcd"),
        size_bytes=st.none() | st.integers(0, 9),
        blob=st.none() | st.sampled_from([B3, OTHER]),
    ),
    max_size=4,
    unique_by=lambda entry: entry.path,
).map(lambda found: manifest(*sorted(found, key=lambda entry: entry.path)))


@given(entries, entries)
def test_a_merge_loses_no_path_and_no_blob(old: Manifest, new: Manifest) -> None:
    """Every path of either is there once, in order; held wherever one of them held it; merging again is the same."""
    both = manifests.merge(old, new)
    paths = [entry.path for entry in both.entries]
    assert paths == sorted({entry.path for entry in (*old.entries, *new.entries)})
    held = {entry.path for entry in (*old.entries, *new.entries) if entry.blob is not None}
    assert held == {entry.path for entry in both.entries if entry.blob is not None}
    assert manifests.merge(both, new) == both


def test_a_forgotten_file_stays_known() -> None:
    """Its size and what the source promised of it are kept: the bytes are gone, not the listing."""
    left = manifests.without(manifest(HELD, ManifestEntry("b", 1, OTHER)), {"a", "not there"})
    assert left.entries == (KNOWN, ManifestEntry("b", 1, OTHER))


def test_a_manifest_is_read_back_as_written(layout: Layout) -> None:
    """All of it, and the second writing replaces the first."""
    for one in (manifest(KNOWN), manifest(HELD, KNOWN, listed=True, refs={"main": 7})):
        manifests.write_manifest(layout, one)
        path = layout.manifest(one.source, one.revision)
        assert manifests.read_manifest(path) == one
        assert list(manifests.list_manifests(layout)) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_manifests_are_listed_in_order_without_what_is_unfinished(layout: Layout) -> None:
    """Temporary files of a writer that died and foreign files are no manifests."""
    for revision in ("r2", "r1"):
        manifests.write_manifest(layout, manifest(revision=revision))
    folder = layout.manifest("hf://models/o/r", "r1").parent
    (folder / ".r1.json.123-00000000.json").write_bytes(b"{")
    (folder / "notes.txt").write_bytes(b"")
    (layout.manifests / "stray").write_bytes(b"")
    found = list(manifests.list_manifests(layout))
    assert found == sorted(layout.manifest("hf://models/o/r", revision) for revision in ("r1", "r2"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": 1}', b'{"format": 1, "source": 7}'])
def test_a_manifest_that_cannot_be_believed_is_named(layout: Layout, content: bytes) -> None:
    """The error says which file, so that a person can look at it."""
    path = layout.manifests / "x.json"
    path.write_bytes(content)
    with pytest.raises(CorruptStoreError) as caught:
        manifests.read_manifest(path)
    assert str(path) in str(caught.value)


def test_a_manifest_of_a_newer_modelcask_is_not_called_damaged(layout: Layout) -> None:
    """It is read by upgrading, not by repairing."""
    path = layout.manifests / "x.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest(HELD), format=2)))
    with pytest.raises(SchemaVersionError):
        manifests.read_manifest(path)


def test_what_a_killed_writer_left_goes_with_the_next_writing_and_the_removal(layout: Layout) -> None:
    """Only of this revision: another one may be in the middle of its own."""
    one, two = manifest(revision="r1"), manifest(revision="r2")
    manifests.write_manifest(layout, one)
    folder = layout.manifest(one.source, one.revision).parent
    for again in (True, False):
        left = folder / f".{layout.manifest(one.source, 'r1').name}.77-0000abcd"
        other = folder / f".{layout.manifest(two.source, 'r2').name}.77-0000abcd"
        left.write_bytes(b"{")
        other.write_bytes(b"{")
        if again:
            manifests.write_manifest(layout, one)
        else:
            manifests.remove_manifest(layout, one.source, "r1")
        assert not left.exists()
        assert other.exists()


def test_a_manifest_that_is_not_there_is_none(layout: Layout) -> None:
    """Absent is not damaged."""
    assert manifests.read_manifest(layout.manifests / "none.json") is None


def test_the_last_manifest_of_a_source_takes_its_folder_along(layout: Layout) -> None:
    """No empty folders are left; the folder of others stays, and removing twice is no error."""
    for revision in ("r1", "r2"):
        manifests.write_manifest(layout, manifest(revision=revision))
    folder = layout.manifest("hf://models/o/r", "r1").parent
    manifests.remove_manifest(layout, "hf://models/o/r", "r1")
    assert folder.exists()
    manifests.remove_manifest(layout, "hf://models/o/r", "r2")
    assert not folder.exists()
    manifests.remove_manifest(layout, "hf://models/o/r", "r2")
