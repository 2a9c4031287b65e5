"""What a lookup does to the machine, as the kernel sees it: no network, and no byte written but its lease."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import modelcask
from system.command import run

STRACE = shutil.which("strace")
CHANGES = (
    "open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,truncate,ftruncate,fallocate,unlink,unlinkat,rename,"
    "renameat,renameat2,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,"
    "utimensat,setxattr,fsetxattr,copy_file_range,sendfile"
)
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")

Trace = Callable[..., list[str]]


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """Run the command under strace; return its calls, one a line."""
    if STRACE is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run([STRACE, "-o", tmp_path / "probe", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"strace may not trace here: {probe.stderr.strip()}")

    def trace(*arguments: str, code: int = 0) -> list[str]:
        output = tmp_path / "trace"
        calls = f"trace=%network,{CHANGES}"
        ended = run(*arguments, prefix=[STRACE, "-f", "-qq", "-s", "0", "-o", str(output), "-y", "-e", calls])
        assert ended.code == code, ended.err
        lines = output.read_text(errors="replace").splitlines()
        return [line.split(maxsplit=1)[1] for line in lines]

    return trace


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A URI that is cached."""
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF" * 5000)
    with modelcask.ModelCache() as cache:
        cache.pull(model.as_uri())
    return model.as_uri()


def changes(calls: list[str], root: Path) -> dict[str, set[str]]:
    """Return the files below the root that were opened for writing or changed, each with the calls that did it."""
    found: dict[str, set[str]] = {}
    for call in calls:
        name = call.partition("(")[0]
        if name in {"open", "openat"} and not WRITES.search(call):
            continue
        for path in re.findall(rf"{re.escape(str(root))}/([^\">]*)", call):
            found.setdefault(re.sub(r"^sessions/[0-9a-f-]{36}$", "sessions/OWN", path), set()).add(name)
    return found


def listing(root: Path) -> dict[str, tuple[int, ...]]:
    """Return size, inode and times of everything in the root, its folders' times left out."""
    found: dict[str, tuple[int, ...]] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        if not path.is_dir():
            found[path.relative_to(root).as_posix()] = (status.st_size, status.st_ino, status.st_mtime_ns)
    return found


def test_a_lookup_opens_no_socket(trace: Trace, uri: str) -> None:
    """Neither to a network nor to a name server; what the C library asks the machine itself does not count."""
    calls = trace("path", uri)

    assert any("/sessions/" in call for call in calls), "strace saw nothing"
    assert [call for call in calls if call.startswith(("socket(", "connect(")) and "AF_UNIX" not in call] == []


def test_a_lookup_writes_its_lease_and_nothing_else(trace: Trace, uri: str, cask: Path) -> None:
    """It makes, locks, writes and removes its session file.

    Beside that, SQLite opens its log, writes nothing to it (root gives it to the database's owner), and builds the
    log's index, which is shared memory and no more.
    """
    run("path", uri)
    before = listing(cask)
    found = changes(trace("path", uri), cask)

    assert found.pop("sessions/OWN") == {"openat", "ftruncate", "pwrite64", "unlink"}
    assert found.pop("catalog.db-wal") <= {"openat", "fchown"}
    assert set(found) <= {"catalog.db-shm"}
    after = listing(cask)
    assert before.pop("catalog.db-shm")[0] == after.pop("catalog.db-shm")[0]
    assert after == before


def test_a_lookup_makes_no_store(trace: Trace, cask: Path, tmp_path: Path) -> None:
    """Where none is, nothing is written at all."""
    calls = trace("path", "hf://org/repo/model.gguf", code=3)

    assert changes(calls, cask) == {}
    assert changes(calls, tmp_path / "home") == {}
