"""Snapshot folders give blobs their names back, and lead nowhere else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelcask.digest import Digest
from modelcask.errors import PolicyError, StorageError
from modelcask.layout import Layout
from modelcask.store import fs, snapshots
from modelcask.store.root import open_root

SOURCE, REVISION = "hf://models/o/r", "0" * 40
ONE, TWO = Digest("blake3", "ab" * 32), Digest("blake3", "cd" * 32)
NAMES = ["a", "b/c", "b/d/e.gguf", "deep/er/and/deep/er/x"]


@pytest.fixture
def layout(cask: Path) -> Layout:
    made, _ = open_root(cask)
    for digest in (ONE, TWO):
        made.blob(digest).write_text(digest.hex)
    return made


def link(layout: Layout, *entries: tuple[str, Digest]) -> Path:
    return snapshots.link_entries(layout, SOURCE, REVISION, entries)


def test_each_entry_is_a_relative_link_to_its_blob(layout: Layout, tmp_path: Path) -> None:
    """At any depth; the root can be moved as a whole."""
    folder = link(layout, *((name, ONE) for name in NAMES))
    assert folder == layout.snapshot(SOURCE, REVISION)
    moved = tmp_path / "moved"
    layout.root.rename(moved)
    for name in NAMES:
        path = moved / folder.relative_to(layout.root) / name
        assert not path.readlink().is_absolute()
        assert path.read_text() == ONE.hex


def test_linking_again_changes_nothing(layout: Layout) -> None:
    """A link that is right is left alone."""
    folder = link(layout, ("b/c", ONE))
    before = (folder / "b/c").lstat()
    link(layout, ("b/c", ONE))
    assert (folder / "b/c").lstat() == before


@pytest.mark.parametrize("wrong", ["another link", "a file", "a dangling link", "an absolute link"])
def test_what_stands_in_a_links_place_is_replaced(layout: Layout, tmp_path: Path, wrong: str) -> None:
    """At once: at no moment is the name free. What a link pointed to is left alone."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = link(layout, ("b/c", TWO))
    path = folder / "b/c"
    if wrong != "another link":
        path.unlink()
    if wrong == "a file":
        path.write_text("edited")
    elif wrong == "a dangling link":
        path.symlink_to("nowhere")
    elif wrong == "an absolute link":
        path.symlink_to(victim)
    link(layout, ("b/c", ONE))
    assert path.read_text() == ONE.hex
    assert victim.read_text() == "precious"
    assert [found.name for found in (folder / "b").iterdir()] == ["c"]


def test_a_link_in_a_folders_place_does_not_lead_out(layout: Layout, tmp_path: Path) -> None:
    """Neither for making links nor for removing them."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "c").write_text("precious")
    folder = link(layout, ("b/c", ONE), ("a", ONE))
    shutil.rmtree(folder / "b")
    (folder / "b").symlink_to(outside)
    with pytest.raises(StorageError):
        link(layout, ("b/new", ONE))
    snapshots.unlink_entries(layout, SOURCE, REVISION, ["b/c", "a"])
    assert (outside / "c").read_text() == "precious"
    assert sorted(path.name for path in outside.iterdir()) == ["c"]
    assert not (folder / "a").is_symlink()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ""])
def test_a_name_that_climbs_is_refused_here_too(layout: Layout, name: str) -> None:
    """Whoever forgot to check it, and before anything is made of it."""
    with pytest.raises(PolicyError):
        link(layout, (name, ONE))
    with pytest.raises(PolicyError):
        snapshots.unlink_entries(layout, SOURCE, REVISION, [name])


def test_removing_takes_empty_folders_along_and_leaves_the_rest(layout: Layout) -> None:
    """Siblings and their folders stay; with the last entry everything of the source is gone."""
    folder = link(layout, *((name, ONE) for name in NAMES))
    snapshots.unlink_entries(layout, SOURCE, REVISION, ["b/d/e.gguf", "deep/er/and/deep/er/x"])
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == ["a", "b", "b/c"]
    snapshots.unlink_entries(layout, SOURCE, REVISION, ["a", "b/c", "never/there"])
    assert list(layout.snapshots.iterdir()) == []
    snapshots.unlink_entries(layout, SOURCE, REVISION, ["a"])
    assert layout.blob(ONE).exists()


def test_a_folder_that_another_revision_needs_stays(layout: Layout) -> None:
    """The two revisions of one source lie beside each other."""
    link(layout, ("a", ONE))
    other = snapshots.link_entries(layout, SOURCE, "1" * 40, [("a", TWO)])
    snapshots.unlink_entries(layout, SOURCE, REVISION, ["a"])
    assert (other / "a").read_text() == TWO.hex


def test_a_process_that_dies_while_it_links_leaves_no_foreign_name(layout: Layout) -> None:
    """The folder is handed out as a repository: what lies in it must be the repository's."""
    steps: list[str] = []
    fs.on_step(steps.append)
    link(layout, *((name, ONE) for name in NAMES))
    fs.on_step(None)
    shutil.rmtree(layout.snapshots)
    layout.snapshots.mkdir()
    for stop in range(len(steps)):
        left = stop

        def hook(_: str) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt  # as abrupt as it gets in one process
            left -= 1

        fs.on_step(hook)
        try:
            with pytest.raises(KeyboardInterrupt):
                link(layout, *((name, ONE) for name in NAMES))
        finally:
            fs.on_step(None)
        folder = layout.snapshot(SOURCE, REVISION)
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        assert found <= set(NAMES)
        shutil.rmtree(layout.snapshots)
        layout.snapshots.mkdir()
