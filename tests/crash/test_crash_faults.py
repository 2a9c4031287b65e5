"""The kernel refuses, or lies: every failed call is one typed error, and nothing wrong is ever published.

``strace`` makes calls of a whole process fail, file by file, so nothing of modelcask knows that it is a test.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from behaviours import Gate, HoldAfter, Normal
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.verification import Verdict
from origin import Origin
from zygote import Child, ChildFailedError, Zygote, ended

STRACE = shutil.which("strace")
CONTENT = random.Random(1).randbytes(300_000)
SHA256, BLAKE3 = hashlib.sha256(CONTENT).hexdigest(), blake3(CONTENT).hexdigest()

Fault = Callable[..., contextlib.AbstractContextManager[None]]


@pytest.fixture
def fault() -> Fault:
    """Return a context in which some calls of the children go wrong, on one file or on all."""
    if STRACE is None:
        pytest.skip("strace is not installed")

    @contextlib.contextmanager
    def fault(what: str, *children: Child, on: Path | None = None) -> Iterator[None]:
        call = what.partition(":")[0]
        only = [] if on is None else ["-P", str(on)]
        to = [word for child in children for word in ("-p", str(child.pid))]
        command = [
            str(STRACE),
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            *only,
            "-e",
            f"trace={call}",
            "-e",
            f"inject={what}",
            *to,
        ]
        for child in children:
            child.hears("ready")
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            try:
                while not all(is_traced(child.pid) for child in children):
                    if tracer.poll() is not None:
                        assert tracer.stderr is not None
                        pytest.skip(f"strace may not trace here: {tracer.stderr.read().strip()}")
                    time.sleep(0.002)
                for child in children:
                    child.tell("go")
                yield
            finally:
                tracer.terminate()

    return fault


def is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return "TracerPid:\t0\n" not in status


@pytest.fixture
def layout(new_root: Path, cask: Path) -> Layout:
    """A root with an empty catalog."""
    shutil.copytree(new_root, cask)
    return Layout(cask)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A file whose digest is pinned, so that the place of its partial is known before."""
    path = tmp_path / "source.bin"
    path.write_bytes(CONTENT)
    return f"{path.as_uri()}#sha256={SHA256}"


def pulls_well(root: Path, uri: str) -> None:
    """Assert that a pull without any fault brings the right bytes and leaves nothing else."""
    with ModelCache(root) as cache:
        [snapshot] = cache.pull(uri)
        assert snapshot.path.read_bytes() == CONTENT
        assert {one.verdict for one in cache.verify()} == {Verdict.OK}
        assert cache.lookup(uri) == snapshot.path
    assert list((root / "partial").iterdir()) == []


DATA, NAME, FOLDER = f"partial/{SHA256}/data", f"blobs/b3/{BLAKE3[:2]}/{BLAKE3}", f"blobs/b3/{BLAKE3[:2]}"
FAULTS: dict[str, tuple[str, str, str]] = {
    "the disk fails while the file is synced": ("fsync:error=EIO", DATA, "StorageError"),
    "the disk fails while the folder is synced": ("fsync:error=EIO", FOLDER, "StorageError"),
    "the disk fails while a byte is written": ("pwritev,pwritev2:error=EIO", DATA, "StorageError"),
    "the disk is full while a byte is written": ("pwritev,pwritev2:error=ENOSPC", DATA, "StoreFullError"),
    "the quota is used up": ("pwritev,pwritev2:error=EDQUOT", DATA, "StoreFullError"),
    "the kernel lies about what it wrote": (f"pwritev,pwritev2:retval={len(CONTENT)}", DATA, "StorageError"),
    "the file cannot be sealed": ("fchmod:error=EPERM", DATA, "StorageError"),
    "the file may not be named": ("linkat,link:error=EACCES", NAME, "StorageError"),
    "the folder is full": ("linkat,link:error=ENOSPC", NAME, "StoreFullError"),
    "the catalog's disk fails": ("fdatasync,fsync:error=EIO", "catalog.db-wal", "StorageError"),
    "the catalog's disk is full": ("pwrite64:error=ENOSPC", "catalog.db-wal", "StoreFullError"),
    "there are no locks": ("flock:error=ENOLCK", "", "StorageError"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_call_that_fails_is_a_typed_error_and_nothing_is_published(
    zygote: Zygote, fault: Fault, layout: Layout, source: str, case: str
) -> None:
    """The file is not found afterwards; without the fault the pull succeeds."""
    what, place, error = FAULTS[case]
    child = zygote.start("kill_jobs:run_traced", layout.root, "pull", (source,))
    with (
        ended(child),
        fault(what, child, on=layout.root / place if place else None),
        pytest.raises(ChildFailedError) as caught,
    ):
        child.result()
    assert caught.value.name == error, str(caught.value)
    with ModelCache(layout.root) as cache:
        assert cache.lookup(source) is None
    pulls_well(layout.root, source)


def test_where_locks_lie_no_root_is_made(zygote: Zygote, fault: Fault, cask: Path, source: str) -> None:
    """``flock`` succeeds for everybody there: found out by trying."""
    child = zygote.start("kill_jobs:run_traced", cask, "pull", (source,))
    with ended(child), fault("flock:retval=0", child), pytest.raises(ChildFailedError) as caught:
        child.result()
    assert caught.value.name == "StorageError"
    assert "two processes can hold one lock" in str(caught.value)
    assert not (cask / "FORMAT").exists()
    pulls_well(cask, source)


@pytest.mark.parametrize("pinned", [False, True], ids=["by its ETag", "by its digest"])
@pytest.mark.parametrize("held", [0, 200_000], ids=["from the start", "in the middle"])
def test_locks_that_lie_cost_work_and_never_a_byte(  # noqa: PLR0917 - fixtures
    zygote: Zygote, fault: Fault, layout: Layout, origin: Origin, held: int, pinned: bool
) -> None:
    """Two processes pull one URL at once, each sure that it is alone: both succeed, no byte is ever wrong (I7)."""
    gate = Gate()
    url = origin.add("/m", CONTENT, behaviours=[HoldAfter(held, gate), HoldAfter(held, gate), Normal()])
    url += f"#sha256={SHA256}" if pinned else ""
    both = [zygote.start("kill_jobs:run_traced", layout.root, "pull", (url,)) for _ in range(2)]
    with ended(*both), fault("flock:retval=0", *both):
        while sum(request.method == "GET" for request in origin.requests) < 2:
            time.sleep(0.002)
        gate.open()
        for child in both:
            child.result()
    assert zygote.run("kill_jobs:find_lies", layout.root) == []
    pulls_well(layout.root, url)
    assert zygote.run("kill_jobs:look_up", layout.root, {url: CONTENT}) == {url: True}
    assert zygote.run("kill_jobs:find_lies", layout.root) == []
