"""Disks that are full or may not be written: one line that says so, and a store that goes on working."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import modelcask
from behaviours import Chunked
from modelcask.reserve import RESERVE_BYTES
from origin import Origin
from system.command import run

DISK_BYTES = 24 << 20
LARGE_BYTES = 400 << 20
"""Room enough for a reserve to be made."""
CONTENT = os.urandom(64 << 20)

FACTS = re.compile(r"(\d+) (?:bytes needed|available|missing)")

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount something on a folder of this test; unmounted when it ends."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    with ExitStack() as mounted:

        def mount(name: str, *arguments: str) -> Path:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            done = subprocess.run(["mount", *arguments, folder], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
            if not any("remount" in argument for argument in arguments):
                mounted.callback(unmount, folder)
            return folder

        yield mount


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def disk(mount: Mount) -> Path:
    return mount("disk", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs")


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A model of a few bytes."""
    path = tmp_path / "small.gguf"
    path.write_bytes(b"GGUF" * 1000)
    return path.as_uri()


@pytest.fixture(params=["tmpfs", "ext4"])
def large(request: pytest.FixtureRequest, mount: Mount, tmp_path: Path) -> Path:
    """A disk that counts blocks in its own way: one in memory, and one of a kind that people have."""
    if request.param == "tmpfs":
        return mount("large", "-t", "tmpfs", "-o", f"size={LARGE_BYTES}", "tmpfs")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(LARGE_BYTES)
    make = shutil.which("mkfs.ext4") or "/sbin/mkfs.ext4"
    if subprocess.run([make, "-q", "-m", "0", image], capture_output=True, check=False).returncode:
        pytest.skip("making a file system takes mkfs.ext4")
    return mount("large", "-o", "loop", str(image))


def fill_up(disk: Path) -> Path:
    """Take the last byte of a disk; return the file that has it."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (64 << 20, 1 << 20, 64 << 10, 4096):
            with suppress(OSError):
                while True:
                    end = file.seek(0, os.SEEK_END)
                    os.posix_fallocate(file.fileno(), end, size)
        with suppress(OSError):
            while True:
                file.write(b"x")
    return filler


@pytest.fixture
def full(large: Path, small: str, tmp_path: Path) -> tuple[Path, str, str]:
    """A root on a disk without a free byte, and two models in it; nobody has it open."""
    root, other = large / "cask", tmp_path / "other.gguf"
    other.write_bytes(b"GGUF" + os.urandom(4 << 20))
    assert run("--home", root, "pull", small, other.as_uri()).code == 0
    fill_up(large)
    room = os.statvfs(large)
    assert room.f_bavail == 0
    return root, small, other.as_uri()


def test_on_a_full_disk_all_that_is_held_is_found(full: tuple[Path, str, str]) -> None:
    """Each command in a process of its own, as a person would try one after the other."""
    root, small, other = full
    for _ in range(2):
        assert run("--home", root, "path", small).path.read_bytes() == b"GGUF" * 1000
        assert run("--home", root, "path", other).code == 0
        assert len(run("--home", root, "ls", "-q").out.splitlines()) == 3
        assert run("--home", root, "show", small).code == 0
        ended = run("--home", root, "verify")
        assert ended.code == 0, ended.err


def test_on_a_full_disk_doctor_says_what_is_wrong(full: tuple[Path, str, str]) -> None:
    """Too little room, and how to get more. A rebuild, which takes more, is not advised."""
    ended = run("--home", full[0], "doctor")
    assert ended.code == 1
    [line] = [line for line in ended.out.splitlines() if line.startswith("failure")]
    assert "room" in line
    assert "modelcask rm" in line
    assert "rebuild" not in ended.out


def test_a_full_disk_is_freed_by_removing(full: tuple[Path, str, str]) -> None:
    """Also after many lookups: these leave enough of the reserve. What stays is found, what went can be had again."""
    root, small, other = full
    for _ in range(5):
        assert run("--home", root, "path", small).code == 0
    ended = run("--home", root, "rm", "-y", other)
    assert (ended.code, ended.out) == (0, "freed 4.2 MB\n"), ended.err
    assert run("--home", root, "path", other).code == 3
    assert run("--home", root, "path", small).code == 0
    (root.parent / "filler").unlink()
    assert run("--home", root, "pull", other).code == 0
    assert run("--home", root, "verify").code == 0
    assert (root / "reserve").stat().st_size == RESERVE_BYTES


def test_a_root_without_a_reserve_says_that_the_disk_is_full(full: tuple[Path, str, str]) -> None:
    """As one that an older modelcask made: one typed error, and all is well again once something else has gone."""
    root, small, other = full
    (root / "reserve").unlink()
    filler = fill_up(root.parent)
    for arguments in (["rm", "-y", other], ["path", small]):
        ended = run("--home", root, *arguments)
        assert ended.code in {0, 5}
        if ended.code:
            assert "not enough space" in ended.error
            assert "rebuild" not in ended.error
    filler.unlink()
    assert run("--home", root, "path", small).code == 0
    assert run("--home", root, "verify").code == 0


def blobs(root: Path) -> list[Path]:
    return list((root / "blobs").glob("b3/*/*"))


def test_a_file_larger_than_the_disk_is_refused_before_the_first_byte(disk: Path) -> None:
    """Exit 5, with what is needed, what there is and what is missing; the server is not asked for one byte."""
    with Origin() as origin:
        ended = run("--home", disk / "cask", "pull", origin.add("/big.gguf", CONTENT))

        assert origin.bytes_served == 0
    assert ended.code == 5
    needed, available, missing = map(int, FACTS.findall(ended.error.replace(",", "")))
    assert needed == len(CONTENT)
    assert 0 < available <= DISK_BYTES
    assert missing == needed - available
    assert list((disk / "cask" / "partial").iterdir()) == []


def test_a_disk_that_fills_up_in_the_middle_leaves_a_store_that_works(disk: Path, small: str) -> None:
    """A server that does not tell the size: exit 5, nothing is published, and the next pull and lookup succeed."""
    root = disk / "cask"
    with Origin() as origin:
        uri = origin.add("/chunked.gguf", CONTENT, behaviours=[Chunked()])
        ended = run("--home", root, "pull", uri)

        assert ended.code == 5
        assert "not enough space" in ended.error
        assert origin.bytes_served >= DISK_BYTES // 2
    assert blobs(root) == []
    assert run("--home", root, "path", uri).code == 3
    with modelcask.ModelCache(root) as cache:
        [snapshot] = cache.pull(small)
        assert snapshot.path.read_bytes() == b"GGUF" * 1000
        assert cache.lookup(small) == snapshot.path
        assert [verified.verdict for verified in cache.verify()] == [modelcask.Verdict.OK]


def test_what_arrived_before_the_disk_was_full_is_not_fetched_again(disk: Path, mount: Mount) -> None:
    """With more room the same pull goes on: the server sends the rest alone."""
    with Origin() as origin, modelcask.ModelCache(disk / "cask") as cache:
        uri = origin.add("/chunked.gguf", CONTENT, behaviours=[Chunked()])
        with pytest.raises(modelcask.StoreFullError):
            cache.pull(uri)
        mount("disk", "-o", f"remount,size={DISK_BYTES * 4}")
        [snapshot] = cache.pull(uri)
        start = int(origin.requests[-1].headers["Range"].removeprefix("bytes=").removesuffix("-"))

    assert snapshot.path.read_bytes() == CONTENT
    assert start >= 8 << 20


@pytest.fixture
def frozen(tmp_path: Path, mount: Mount, small: str) -> Path:
    """A root that holds a model, on a mount that may not be written."""
    cask = tmp_path / "writable" / "cask"
    with modelcask.ModelCache(cask) as cache:
        cache.pull(small)
    folder = mount("frozen", "--bind", str(cask.parent))
    mount("frozen", "-o", "remount,bind,ro")
    return folder / "cask"


def test_doctor_reports_a_root_that_may_not_be_written(frozen: Path) -> None:
    """It is a finding like others: exit 1, and the rest is told too."""
    ended = run("--home", frozen, "doctor")

    assert ended.code == 1, ended.err
    failures = [line for line in ended.out.splitlines() if line.startswith("failure")]
    assert any("mounted read-only" in line for line in failures)
    assert not any("rebuild" in line for line in failures)


@pytest.mark.parametrize("command", ["path", "pull", "show", "verify"])
def test_a_root_that_may_not_be_written_says_so(frozen: Path, small: str, command: str) -> None:
    """A lease cannot be left there, so nothing is handed out: one line that names the root and the reason."""
    ended = run("--home", frozen, command, *([] if command == "verify" else [small]))

    assert (ended.code, ended.out) == (10, "")
    assert str(frozen) in ended.error
    assert "read-only" in ended.error.lower()
