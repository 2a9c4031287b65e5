"""Disks that are full or may not be written: one line that says so, and a store that goes on working."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import modelcask
from behaviours import Chunked
from origin import Origin
from system.command import run

DISK_BYTES = 24 << 20
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


@pytest.mark.parametrize("command", ["path", "pull", "show", "verify"])
def test_a_root_that_may_not_be_written_says_so(frozen: Path, small: str, command: str) -> None:
    """A lease cannot be left there, so nothing is handed out: one line that names the root and the reason."""
    ended = run("--home", frozen, command, *([] if command == "verify" else [small]))

    assert (ended.code, ended.out) == (10, "")
    assert str(frozen) in ended.error
    assert "read-only" in ended.error.lower()
