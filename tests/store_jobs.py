"""What the children of the store's tests do; see ``zygote``."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from modelcask import locks
from modelcask.digest import Digest
from modelcask.layout import Layout
from modelcask.ranges import ByteRange
from modelcask.store import fs
from modelcask.store.ingest import Ingest
from modelcask.store.journal import Identity
from modelcask.store.lanes import Lanes
from modelcask.store.room import Reservation
from modelcask.store.root import open_root
from modelcask.store.sessions import open_session
from zygote import save_coverage, say, wait_for


def _fork(action: Callable[[], object]) -> int:
    """Call ``action`` in a forked child, which ends with it however that goes; return the child's number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(60)  # ends it if it waits for ever
            action()
            save_coverage()
            code = 0
        finally:
            os._exit(code)
    return pid


def hold(path: Path, shared: bool) -> None:
    """Hold a lock until killed."""
    held = locks.lock(path, shared=shared, timeout_s=10)
    say("held", os.getpid())
    signal.pause()
    held.release()


def hold_and_fork(path: Path) -> None:
    """Hold a lock and fork a child, by fork and by exec, that outlives us."""
    held = locks.lock(path)
    forked = _fork(signal.pause)
    executed = subprocess.Popen(["sleep", "60"], close_fds=False)
    say("forked", (forked, executed.pid))
    signal.pause()
    held.release()


def use_after_fork(path: Path) -> tuple[int, bool, bool]:
    """Return what a forked child sees of its parent's lock: its descriptor, and whether either can take it."""
    held = locks.lock(path)
    seen, tell = os.pipe()

    def try_all() -> None:
        held.release(remove=True)  # must do nothing: it is not ours
        again = locks.try_lock(path)
        os.write(tell, b"%d %d" % (held.fd, again is not None))

    os.waitpid(_fork(try_all), 0)
    os.close(tell)
    descriptor, taken = os.read(seen, 100).split()
    still_held = path.exists() and locks.try_lock(path) is None
    held.release()
    return int(descriptor), bool(int(taken)), still_held


def count_up(path: Path, counter: Path, times: int) -> None:
    """Add to a number in a file under a lock that is deleted each time."""
    for _ in range(times):
        held = locks.lock(path)
        try:
            counter.write_text(str(int(counter.read_text()) + 1))
        finally:
            held.release(remove=True)


def make_root(root: Path) -> str:
    """Wait for the start and make the root; return its uuid."""
    say("ready")
    wait_for("go")
    _, found = open_root(root)
    return found.store


def make_root_under_umask(root: Path, umask: int) -> None:
    os.umask(umask)
    open_root(root)


def lease(root: Path, digests: list[Digest]) -> None:
    """Lease digests until killed, or until told to end."""
    session = open_session(Layout(root))
    for digest in digests:
        session.lease(digest)
    say("leased", session.path)
    wait_for("end")


def lease_after_fork(root: Path, ours: Digest, theirs: Digest) -> tuple[Path, Path, str]:
    """Lease in a parent and in its forked child; return both files and what the parent's says in the end."""
    session = open_session(Layout(root))
    session.lease(ours)
    seen, tell = os.pipe()

    def lease_own() -> None:
        own = open_session(Layout(root))
        own.lease(theirs)
        os.write(tell, os.fsencode(own.path))

    os.waitpid(_fork(lease_own), 0)
    os.close(tell)
    child = Path(os.fsdecode(os.read(seen, 4096)))
    return session.path, child, session.path.read_text()


def reserve(root: Path, sizes: dict[str, int], first: str) -> None:
    """Reserve room on a disk with a million bytes free; give one file's back when told, and end when told."""
    fs.free_bytes = lambda _: 1_000_000  # type: ignore[assignment] # in a child of its own
    reservation = Reservation(Layout(root))
    reservation.take(sizes)
    say("reserved")
    wait_for("done")
    reservation.done(first)
    say("gave one back")
    wait_for("end")
    reservation.release()


def reserve_and_fork(root: Path, ours: dict[str, int], theirs: dict[str, int]) -> None:
    """Reserve room; in a forked child give it back, and reserve room of its own."""
    fs.free_bytes = lambda _: 1_000_000  # type: ignore[assignment] # in a child of its own
    reservation = Reservation(Layout(root))
    reservation.take(ours)

    def release_and_reserve() -> None:
        own = Reservation(Layout(root))
        own.take(theirs)
        reservation.done(next(iter(ours)))
        reservation.release()
        say("forked")
        wait_for("end")
        own.release()

    pid = _fork(release_and_reserve)
    os.waitpid(pid, 0)
    reservation.release()


def fork_while_opening(root: Path) -> bool:
    """Fork while another thread is inside ``open_session``'s guard; return whether the child can open its own."""
    from modelcask.store import sessions  # noqa: PLC0415 - the child looks at its inside

    entered, leave = threading.Event(), threading.Event()

    def keep_guard() -> None:
        with sessions._guard:
            entered.set()
            leave.wait()

    thread = threading.Thread(target=keep_guard)
    thread.start()
    entered.wait()
    pid = _fork(lambda: open_session(Layout(root)))
    leave.set()
    thread.join()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def ingest_until_killed(root: Path, key: str, identity: Identity, content: bytes) -> None:
    """Write all of the content and wait to be killed before the end; tell the steps."""
    layout, _ = open_root(root)
    steps: list[str] = []

    async def write() -> None:
        async with Ingest(layout, key, identity, name="m", lanes=Lanes()) as sink:
            fs.on_step(steps.append)
            stream = sink.stream(0)
            for start in range(0, len(content), 700_001):
                await stream.write(content[start : start + 700_001])
            await sink.digest_of(ByteRange(0, 1))  # what was handed over is written then
            say("written", steps)
            signal.pause()

    asyncio.run(write())


def peak_bytes(root: Path, key: str, identity: Identity, chunk_bytes: int, total_bytes: int) -> tuple[int, str]:
    """Ingest a repeated chunk; return by how much the process's peak of resident memory grew, and the BLAKE3."""
    layout, _ = open_root(root)
    chunk = bytearray(range(256)) * (chunk_bytes // 256) or bytearray(b"x" * chunk_bytes)

    async def write() -> tuple[int, str]:
        async with Ingest(layout, key, identity, name="m", lanes=Lanes()) as sink:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            stream = sink.stream(0)
            for _ in range(total_bytes // chunk_bytes):
                await stream.write(bytes(chunk))  # each in memory of its own
            sealed = await sink.finish()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            return grown * (1024 if sys.platform == "linux" else 1), sealed.digest.hex

    return asyncio.run(write())
