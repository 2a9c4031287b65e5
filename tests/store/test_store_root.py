"""The root: made once by however many, recognised for ever, refused where it cannot be safe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelcask import locks
from modelcask.errors import CacheError, CorruptStoreError, SchemaVersionError, StorageError
from modelcask.layout import LAYOUT_VERSION, Layout
from modelcask.store import fs, root, system
from modelcask.store.root import open_root, read_format
from zygote import Zygote, ended

TOP = {"blobs", "partial", "snapshots", "manifests", "trash", "quarantine", "sessions", "locks", "backups"}
FILES = {"FORMAT", "CACHEDIR.TAG", "reserve"}


def test_a_new_root_has_every_folder_and_says_what_it_is(cask: Path) -> None:
    """The layout of docs/architecture.md; the tag keeps it out of backups."""
    layout, found = open_root(cask)
    assert {path.name for path in cask.iterdir()} == TOP | FILES
    assert len(list(layout.blobs.iterdir())) == 256
    assert (found.layout, found.policy) == (LAYOUT_VERSION, "private")
    assert json.loads(layout.format_file.read_text()) == {"layout": 1, "store": found.store, "policy": "private"}
    assert layout.cachedir_tag.read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")


def test_opening_again_changes_nothing(cask: Path) -> None:
    """The uuid is that of the first time, and no step is taken."""
    _, first = open_root(cask)
    steps: list[str] = []
    fs.on_step(steps.append)
    try:
        _, second = open_root(cask)
    finally:
        fs.on_step(None)
    assert second == first
    assert steps == []


def test_parents_are_made_too(tmp_path: Path) -> None:
    """Private, as the root is."""
    open_root(tmp_path / "a" / "b" / "cask")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_processes_that_make_it_at_once_make_one_root(zygote: Zygote, cask: Path) -> None:
    """Six at once: all succeed, all see the same store."""
    children = [zygote.start("store_jobs:make_root", cask) for _ in range(6)]
    with ended(*children):
        for child in children:
            child.hears("ready")
        for child in children:
            child.tell("go")
        stores = {child.result() for child in children}
    assert len(stores) == 1
    assert {path.name for path in cask.iterdir()} == TOP | FILES


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o177])
def test_a_root_is_private_whatever_the_umask(zygote: Zygote, cask: Path, umask: int) -> None:
    """Every folder 0700, every file without rights for others."""
    zygote.run("store_jobs:make_root_under_umask", cask, umask)
    for path in (cask, *cask.rglob("*")):
        mode = path.stat().st_mode & 0o777
        if path.is_dir():
            assert mode == 0o700, path
        else:
            assert mode == 0o600, path


def test_a_folder_that_stood_there_empty_becomes_private(cask: Path) -> None:
    """Others must not read the catalog in it."""
    cask.mkdir(mode=0o755)
    cask.chmod(0o755)
    open_root(cask)
    assert cask.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "FORMAT.bak", "models", ".FORMATTED"])
@pytest.mark.parametrize("beside", [[], [".FORMAT.77-0000abcd"], ["blobs", "locks"]], ids=["alone", "temp", "ours"])
def test_a_folder_of_somebody_else_is_refused_and_left_alone(cask: Path, name: str, beside: list[str]) -> None:
    """One foreign name suffices, whatever of ours lies beside it."""
    cask.mkdir()
    for one in (name, *beside):
        (cask / one).mkdir()
    before = sorted(cask.rglob("*"))
    with pytest.raises(StorageError) as caught:
        open_root(cask)
    assert name in str(caught.value)
    assert sorted(cask.rglob("*")) == before
    assert read_format(Layout(cask)) is None


def steps_of_a_new_root(at: Path) -> list[str]:
    found: list[str] = []
    fs.on_step(found.append)
    try:
        open_root(at)
    finally:
        fs.on_step(None)
    return found


class StopError(Exception):
    """The process ended here."""


def test_wherever_the_making_stops_the_next_attempt_completes_it(tmp_path: Path) -> None:
    """Stopped before each step in turn (those of the 256 folders: the first and the last)."""
    steps = steps_of_a_new_root(tmp_path / "whole")
    kept = [number for number, _ in enumerate(steps) if number < 12 or number > 264]
    for stop in kept:
        at = tmp_path / f"stopped-{stop}"
        left = stop

        def hook(_: str) -> None:
            nonlocal left
            if left == 0:
                raise StopError
            left -= 1

        fs.on_step(hook)
        try:
            with pytest.raises(StopError):
                open_root(at)
        finally:
            fs.on_step(None)
        assert (read_format(Layout(at)) is None) == ("root.rename" in steps[stop:]), steps[stop]
        open_root(at)
        assert {path.name for path in at.iterdir()} == TOP | FILES, steps[stop]


def test_temporary_files_of_makers_that_were_killed_are_no_obstacle(cask: Path) -> None:
    """Killed, a process cleans nothing: the next maker takes the folder up and removes what is left."""
    cask.mkdir()
    for name in (".FORMAT.77-0000abcd", ".CACHEDIR.TAG.77-0000abcd"):
        (cask / name).write_bytes(b"{")
    open_root(cask)
    assert {path.name for path in cask.iterdir()} == TOP | FILES


def test_what_is_no_root_is_none(cask: Path, tmp_path: Path) -> None:
    """Absent, or an empty folder: looking makes nothing."""
    assert read_format(Layout(cask)) is None
    assert not cask.exists()
    assert read_format(Layout(tmp_path)) is None


def test_what_can_be_no_root_is_refused(tmp_path: Path) -> None:
    """A file in its place is a slip in the setting: nothing can ever be held there."""
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="is not a folder; set MODELCASK_HOME"):
            read_format(Layout(place))


DAMAGED: dict[str, tuple[bytes, type[CacheError]]] = {
    "empty": (b"", CorruptStoreError),
    "torn": (b'{"layout": 1, "st', CorruptStoreError),
    "binary": (b"\xff\xfe\0", CorruptStoreError),
    "another type": (b'{"layout": "one", "store": "x"}', CorruptStoreError),
    "newer": (b'{"layout": 2, "store": "x", "policy": "private"}', SchemaVersionError),
}


@pytest.mark.parametrize(("content", "error"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_format_that_cannot_be_used_is_refused(cask: Path, content: bytes, error: type[CacheError]) -> None:
    """Never taken for absent: that would make a new store over the old one."""
    layout, _ = open_root(cask)
    layout.format_file.write_bytes(content)
    with pytest.raises(error):
        open_root(cask)
    assert layout.format_file.read_bytes() == content


def test_a_newer_field_in_format_is_no_obstacle(cask: Path) -> None:
    """Minor releases may add."""
    layout, found = open_root(cask)
    said = json.loads(layout.format_file.read_text())
    layout.format_file.write_text(json.dumps({**said, "later": True}))
    assert read_format(layout) == found


def a_file(cask: Path) -> None:
    cask.write_bytes(b"precious")


def below_a_file(cask: Path) -> None:
    cask.parent.rmdir()
    cask.parent.write_bytes(b"precious")


def a_dangling_link(cask: Path) -> None:
    cask.symlink_to(cask.with_name("nowhere") / "at-all")


def a_folder_as_format(cask: Path) -> None:
    (cask / "FORMAT").mkdir(parents=True)


def no_locks(cask: Path) -> None:
    cask.mkdir()
    (cask / "locks").write_bytes(b"")


@pytest.mark.parametrize("obstacle", [a_file, below_a_file, a_dangling_link, a_folder_as_format, no_locks])
def test_where_no_root_can_be_the_error_is_typed(tmp_path: Path, obstacle: Callable[[Path], None]) -> None:
    """A file in the way, at any level."""
    cask = tmp_path / "parent" / "cask"
    cask.parent.mkdir()
    obstacle(cask)
    with pytest.raises(StorageError):
        open_root(cask)


def test_a_root_without_its_blobs_says_how_to_mend_it(cask: Path) -> None:
    """A rebuild makes the folders again; opening does not, for what the catalog tells of is gone."""
    layout, _ = open_root(cask)
    (cask / "blobs").rename(cask.parent / "away")
    with pytest.raises(CorruptStoreError, match="modelcask rebuild"):
        open_root(cask)
    root.make_folders(layout)
    open_root(cask)


@pytest.mark.parametrize("gone", [*sorted(TOP - {"blobs"}), "blobs/b3/00", "blobs/b3/ff"])
def test_a_folder_that_was_deleted_is_made_again(cask: Path, gone: str) -> None:
    """Nothing of worth is in it that opening could hide; it is private as before."""
    open_root(cask)
    shutil.rmtree(cask / gone)
    open_root(cask)
    assert (cask / gone).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", [*sorted(TOP), "blobs/b3", "blobs/b3/7f"])
def test_what_stands_in_the_place_of_a_folder_is_named(cask: Path, name: str) -> None:
    """Only a person knows what it is; the message says what to do with it."""
    open_root(cask)
    shutil.rmtree(cask / name)
    (cask / name).write_bytes(b"precious")
    with pytest.raises(StorageError) as caught:
        open_root(cask)
    assert str(cask / name) in str(caught.value)
    assert (cask / name).read_bytes() == b"precious"


def test_a_file_system_whose_locks_lie_is_refused(cask: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out by trying, whatever the file system is called."""
    monkeypatch.setattr(locks, "is_coherent", lambda _: False)
    with pytest.raises(StorageError, match="MODELCASK_HOME"):
        open_root(cask)
    assert read_format(Layout(cask)) is None


def test_a_root_that_vanishes_while_it_is_made_is_an_error(cask: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody deletes it at the same time: running the command again makes it anew."""
    monkeypatch.setattr(root, "_make", lambda _: None)
    with pytest.raises(CorruptStoreError, match="run the command again"):
        open_root(cask)


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /proc rw - proc proc rw
40 22 0:30 / /mnt/nfs rw shared:2 - nfs4 server:/export rw
41 40 0:31 / /mnt/nfs/local rw - tmpfs tmpfs rw
42 22 0:32 / /mnt/with\\040space rw - cifs //server/share rw
43 22 0:33 / /mnt/modèles rw - fuse.sshfs host: rw
44 22 0:34 / /mnt/stra\u00dfe rw - 9p share rw
45 22 0:35 / /mnt/\udcff rw - lustre mds rw
46 22 0:36 / /mnt/over rw - nfs server:/a rw
47 22 0:37 / /mnt/over rw - ext4 /dev/vdb rw
48 22 0:38 / /mnt/back\\134slash rw - beegfs b rw
"""
REMOTE: dict[str, str | None] = {
    "/home/me": None,
    "/mnt": None,
    "/mnt/nfs": "nfs4",
    "/mnt/nfs/a/b": "nfs4",
    "/mnt/nfsx": None,
    "/mnt/nfs/local/a": None,
    "/mnt/with space/a": "cifs",
    "/mnt/modèles/a": "fuse.sshfs",
    "/mnt/straße": "9p",
    "/mnt/\udcff/a": "lustre",
    "/mnt/over/a": None,
    "/mnt/back\\slash": "beegfs",
}


@pytest.mark.parametrize(("path", "expected"), REMOTE.items(), ids=ascii)
def test_a_network_mount_is_recognised_by_its_type(path: str, expected: str | None) -> None:
    """The mount that counts is the nearest, and of two at one place the later; any name may be escaped or foreign."""
    assert system.remote_type(Path(path), MOUNTS) == expected


def test_this_machines_mounts_can_be_read(tmp_path: Path) -> None:
    """The tests themselves run on a local disk."""
    assert system.remote_file_system(tmp_path) is None


def test_a_root_on_a_network_mount_is_refused_before_anything_is_made(
    cask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says which type, and why."""
    monkeypatch.setattr(system, "remote_file_system", lambda _: "nfs4")
    with pytest.raises(StorageError, match="nfs4"):
        open_root(cask)
    assert not cask.exists()


@pytest.fixture
def other_file_system(cask: Path) -> Iterator[Path]:
    layout, _ = open_root(cask)
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(layout.partials)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system takes root")
    yield layout.partials
    subprocess.run(["umount", str(layout.partials)], check=True)


def test_a_root_across_two_file_systems_is_refused(cask: Path, other_file_system: Path) -> None:
    """A link from one to the other is not possible, so nothing could be published."""
    with pytest.raises(StorageError) as caught:
        open_root(cask)
    assert str(other_file_system) in str(caught.value)


def test_another_system_is_refused_with_one_line(cask: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(StorageError, match="win32"):
        open_root(cask)
    assert not cask.exists()
