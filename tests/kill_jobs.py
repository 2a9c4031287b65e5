"""What the children of the crash tests do: one command, a kill at one of its steps, and a look at what is left.

A step is a change of the file system (``modelcask.store.fs``) or a commit of the catalog, announced before it
happens and, for a commit, once more after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

from modelcask.catalog.catalog import Catalog
from modelcask.errors import NotCachedError
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.store import fs, ingest, stream
from modelcask.store.root import open_root
from modelcask.types import ReplicaState
from zygote import say, wait_for

COMMITS = (
    "record_blobs",
    "record_revision",
    "refresh_stamp",
    "set_state",
    "forget_entries",
    "condemn",
    "delete_replica",
    "set_meta",
)

_PR_SET_PTRACER = 0x59616D61  # linux/prctl.h
_ANYBODY = 2**64 - 1

Files = dict[str, bytes]
"""Each URI of a scenario and the bytes that it means."""


def watch(hook: Callable[[str], None]) -> None:
    """Call ``hook`` with each step of this process from now on."""
    fs.on_step(hook)
    for name in COMMITS:
        setattr(Catalog, name, _announced(getattr(Catalog, name), f"catalog.{name}", hook))


def _announced(commit: Callable[..., Any], name: str, hook: Callable[[str], None]) -> Callable[..., Any]:
    def announced(*arguments: Any, **named: Any) -> Any:
        hook(name)
        result = commit(*arguments, **named)
        hook(f"{name}.done")
        return result

    return announced


def command(root: Path, verb: str, uris: tuple[str, ...]) -> object:
    """Run what the command line would."""
    with ModelCache(root) as cache:
        match verb:
            case "make":
                cache._open.catalog()
            case "pull":
                return [(one.bytes_fetched, one.bytes_reused) for one in cache.pull(*uris)]
            case "rm":
                for uri in uris:
                    cache.remove(cache.plan_removal(uri))
            case "rm again":
                for uri in uris:
                    try:
                        cache.remove(cache.plan_removal(uri))
                    except NotCachedError:
                        continue  # it had got so far
            case "verify":
                return [(str(one.digest), str(one.verdict)) for one in cache.verify()]
            case "rebuild":
                cache.rebuild()
    return None


Preparation = tuple[tuple[str, tuple[Any, ...]], ...]
"""What comes before the command: verbs of ``command`` with their URIs, or functions of this module with a content."""


def prepare(root: Path, preparation: Preparation) -> None:
    """Bring a root to where a scenario begins."""
    for verb, arguments in preparation:
        if verb in globals():
            globals()[verb](root, *arguments)
        else:
            command(root, verb, arguments)


def list_steps(root: Path, preparation: Preparation, verb: str, uris: tuple[str, ...]) -> list[tuple[str, bool]]:
    """Run the command and return each step, with whether the disk is another one than at the step before it.

    Where it is not, as after a sync or the removal of what is not there, a kill would leave the same again.
    """
    prepare(root, preparation)
    found: list[tuple[str, bool]] = []
    last: object = None
    one_at_a_time = threading.Lock()

    def hook(name: str) -> None:
        nonlocal last
        with one_at_a_time:
            now = _look_at(root)
            found.append((name, now != last))
            last = now

    watch(hook)
    command(root, verb, uris)
    return found


def _look_at(root: Path) -> list[tuple[object, ...]]:
    seen: list[tuple[object, ...]] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in {"sessions", "locks"}]
        for name in (*folders, *files):
            path = f"{folder}/{name}"
            with contextlib.suppress(FileNotFoundError):  # another thread has just removed it
                at = os.lstat(path)
                if not name.endswith("-shm"):
                    seen.append((path, at.st_ino, at.st_mode, at.st_size, at.st_nlink, at.st_mtime_ns))
    return seen


def run_killed(root: Path, preparation: Preparation, verb: str, uris: tuple[str, ...], at: int) -> None:
    """Run the command and die just before its step number ``at``, counted from 0."""
    prepare(root, preparation)
    left = at

    def hook(_: str) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    watch(hook)
    command(root, verb, uris)


def use_small_segments() -> None:
    """Let a few hundred kilobytes be many segments, each claimed as soon as it is there."""
    stream.BLOCK_BYTES = 16 << 10  # type: ignore[misc] # in a child of its own
    ingest.SEGMENT_BYTES = 64 << 10  # type: ignore[misc] # the same
    ingest.CHECKPOINT_S = 0  # type: ignore[misc] # the same


def pull_in_small_segments(root: Path, url: str, at: int | None) -> list[str]:
    """Pull, and die just before step number ``at``; return the names of the steps if that is None or never comes."""
    use_small_segments()
    found: list[str] = []

    def hook(name: str) -> None:
        found.append(name)
        if at is not None and len(found) > at:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(hook)
    command(root, "pull", (url,))
    return found


def run_together(root: Path, uris: tuple[str, ...]) -> object:
    """Wait for the start, then pull."""
    say("ready")
    wait_for("go")
    return command(root, "pull", uris)


def pull_and_die(root: Path, *uris: str) -> None:
    """Pull in a process that ends without closing anything: the catalog's log stays as it is."""
    pid = os.fork()
    if pid == 0:
        try:
            ModelCache(root).pull(*uris)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def damage(root: Path, content: bytes) -> None:
    """Change one byte of the blob with this content, without a change of its length."""
    path = _blob(root, content)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(bytes([content[0] ^ 1]))
    path.chmod(0o444)


def lose_row(root: Path, content: bytes) -> None:
    """Leave a blob as a file without a row, as a process does that dies between the link and the commit."""
    path = _blob(root, content)
    path.write_bytes(content)
    path.chmod(0o444)


def _blob(root: Path, content: bytes) -> Path:
    hexdigest = blake3(content).hexdigest()
    return root / "blobs" / "b3" / hexdigest[:2] / hexdigest


def find_lies(root: Path, *, damaged: bytes | None = None) -> list[str]:
    """Return each row that says more than the disk holds (I1); ``damaged`` is what a scenario spoiled itself."""
    layout = Layout(root)
    if not layout.catalog.exists():
        return []
    found: list[str] = []
    with Catalog.open(layout) as catalog:
        for row in catalog.iter_blobs({ReplicaState.PRESENT}):
            path = layout.blob(row.digest)
            if damaged is not None and row.digest.hex == blake3(damaged).hexdigest():
                continue
            if not path.is_file():
                found.append(f"{row.digest} is present, and there is no file")
            elif path.stat().st_size != row.size_bytes or blake3(path.read_bytes()).hexdigest() != row.digest.hex:
                found.append(f"{row.digest} is present, and its bytes are wrong")
    return found


def look_up(root: Path, files: Files) -> dict[str, bool]:
    """Return for each URI whether it is found; it must have the right bytes then, under the root."""
    found: dict[str, bool] = {}
    with ModelCache(root) as cache:
        for uri, content in files.items():
            path = cache.lookup(uri)
            found[uri] = path is not None
            if path is not None:
                assert path.is_relative_to(root)
                assert path.read_bytes() == content, f"{uri} has wrong bytes"
    return found


_HEX = r"[0-9a-f]{64}"
_UUID = r"[0-9a-f-]{36}"
_KNOWN = re.compile(
    rf"FORMAT|reserve|CACHEDIR\.TAG|catalog\.db(?:-wal|-shm)?|blobs|blobs/b3|blobs/b3/[0-9a-f]{{2}}|blobs/b3/[0-9a-f]{{2}}/{_HEX}"
    rf"|partial(?:/{_HEX}|/u[0-9a-f]{{63}})?|partial/[0-9a-u]+/(?:data|meta|journal)|trash|backups|backups/[a-z0-9-]+\.db(?:-wal|-shm)?|quarantine|quarantine/{_HEX}\.[0-9]+"
    rf"|sessions|sessions/{_UUID}"
    rf"|locks|locks/(?:gc|schema|schema-rebuild|writer|room(?:-{_UUID}(?:\.new)?)?|blob-[0-9a-f]{{2}}|uri-(?:{_HEX}|u[0-9a-f]{{63}}))"
    rf"|manifests|manifests/[\w-][\w.-]+|manifests/[\w-][\w.-]+/[\w-][\w.-]*\.json"
    rf"|snapshots(?:/[\w-][\w.-]*)*"
)


def find_litter(root: Path) -> list[str]:
    """Return each name under the root that the layout does not know, or that only something unfinished has."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
    return [name for name in names if _KNOWN.fullmatch(name) is None]


def find_orphans(root: Path) -> list[str]:
    """Return each blob file without a row, and each session file of a process that is dead."""
    layout, _ = open_root(root)
    with Catalog.open(layout) as catalog:
        rows = {row.digest.hex for row in catalog.iter_blobs()}
    return [path.name for path in layout.blobs.glob("*/*") if path.name not in rows]


def recover(root: Path, verb: str, uris: tuple[str, ...], files: Files, damaged: bytes | None) -> dict[str, Any]:
    """Look at what a killed command left, run it again, and look again."""
    lies = find_lies(root, damaged=damaged)
    command(root, "rm again" if verb == "rm" else verb, uris)
    lies += find_lies(root)
    found = {uri for uri, there in look_up(root, files).items() if there}
    if verb == "rm":
        command(root, "rebuild", ())
        found |= {f"{uri} (rebuilt)" for uri, there in look_up(root, files).items() if there and uri not in found}
    return {
        "lies": lies,
        "found": found,
        "partials": sorted(path.name for path in (root / "partial").iterdir()),
        "litter": find_litter(root),
        "orphans": find_orphans(root),
        "quarantine": len(list((root / "quarantine").iterdir())),
    }


def run_traced(root: Path, verb: str, uris: tuple[str, ...]) -> object:
    """Let anybody trace this process, wait until that has begun, and run the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANYBODY))
    say("ready")
    wait_for("go")
    return command(root, verb, uris)
