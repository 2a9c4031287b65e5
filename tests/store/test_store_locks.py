"""Locks between real processes: who gets them, and what frees them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from modelcask import locks
from modelcask.errors import BusyError, CacheError, StorageError, StoreFullError
from zygote import Child, Zygote, ended


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def taken_soon(path: Path, *, shared: bool = False) -> bool:
    """Say whether the lock is free, or is freed in the moment that a killed process takes to end."""
    with contextlib.suppress(BusyError):
        locks.lock(path, shared=shared, timeout_s=10).release()
        return True
    return False


@pytest.mark.parametrize("theirs", [False, True], ids=["they exclusive", "they shared"])
@pytest.mark.parametrize("ours", [False, True], ids=["we exclusive", "we shared"])
def test_two_processes_share_a_lock_only_if_both_want_to(zygote: Zygote, path: Path, theirs: bool, ours: bool) -> None:
    """The four combinations; what was refused is granted once the holder is killed."""
    child = zygote.start("store_jobs:hold", path, theirs)
    with ended(child):
        child.hears("held")
        held = locks.try_lock(path, shared=ours)
        assert (held is not None) == (theirs and ours)
        if held is not None:
            held.release()
        child.kill()
        assert taken_soon(path, shared=ours)


def test_a_lock_outlives_its_holder_in_no_child(zygote: Zygote, path: Path) -> None:
    """The holder is killed; one child that it forked and one that it started go on, and the lock is free."""
    child = zygote.start("store_jobs:hold_and_fork", path)
    with ended(child):
        forked, executed = child.hears("forked")
        try:
            assert locks.try_lock(path) is None
            child.kill()
            child.wait()
            os.kill(forked, 0)
            os.kill(executed, 0)
            assert taken_soon(path)
        finally:
            os.kill(forked, signal.SIGKILL)
            os.kill(executed, signal.SIGKILL)


def test_a_forked_child_can_neither_free_nor_use_the_parents_lock(zygote: Zygote, path: Path) -> None:
    """Its copy is dead: a number that the next file gets would be written to instead."""
    descriptor, taken, still_held = zygote.run("store_jobs:use_after_fork", path)
    assert descriptor == -1
    assert not taken
    assert still_held


def test_a_lock_that_is_deleted_each_time_excludes_all_the_same(zygote: Zygote, path: Path, tmp_path: Path) -> None:
    """Four processes count to 400 together: one that locked a deleted file would lose a count."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    children = [zygote.start("store_jobs:count_up", path, counter, 100) for _ in range(4)]
    with ended(*children):
        for child in children:
            child.result()
    assert counter.read_text() == "400"
    assert not path.exists()


def test_a_file_that_is_deleted_between_open_and_lock_is_not_taken_for_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder deletes it in just that moment: what we get is the lock on the file that others find."""
    first = locks.lock(path)
    flock = fcntl.flock

    def free_first(fd: int, how: int) -> None:
        first.release(remove=True)
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", free_first)
    held = locks.try_lock(path)
    assert held is not None
    assert os.fstat(held.fd).st_ino == path.stat().st_ino
    assert locks.try_lock(path) is None
    held.release(remove=True)


def test_a_refusal_says_who_holds_the_lock_and_since_when(zygote: Zygote, path: Path) -> None:
    """The process, the machine and an ISO time."""
    child = zygote.start("store_jobs:hold", path, False)
    with ended(child):
        pid = child.hears("held")
        with pytest.raises(BusyError) as caught:
            locks.lock(path, timeout_s=0)
    assert caught.value.holder == f"process {pid} on {socket.gethostname()}"
    assert caught.value.since is not None
    assert datetime.fromisoformat(caught.value.since).tzinfo is not None
    assert str(pid) in str(caught.value)


def test_a_refusal_names_nobody_who_is_gone(path: Path) -> None:
    """Shared holders leave no note, and that of an earlier holder is not taken for theirs."""
    locks.lock(path).release()
    with locks.locked(path, shared=True), pytest.raises(BusyError) as caught:
        locks.lock(path, timeout_s=0)
    assert (caught.value.holder, caught.value.since) == (None, None)


@pytest.mark.parametrize("note", [b"", b"one line\n", b"\xff\xfe\n\n"])
def test_a_note_that_cannot_be_read_is_no_reason_to_fail(path: Path, note: bytes) -> None:
    """It is only ever shown."""
    with locks.locked(path):
        path.write_bytes(note)
        assert isinstance(locks.busy(path), BusyError)


def test_waiting_ends_when_the_lock_is_freed(zygote: Zygote, path: Path) -> None:
    """Not before, and without a limit of time."""
    child = zygote.start("store_jobs:hold", path, False)
    with ended(child):
        child.hears("held")
        waiter: Child = zygote.start("store_jobs:hold", path, False)
        with ended(waiter):
            time.sleep(0.05)
            assert not (waiter.folder / "said-held").exists()
            child.kill()
            waiter.hears("held")


def test_freeing_twice_frees_once(path: Path) -> None:
    """The second time does not touch what the number has become since."""
    held = locks.lock(path)
    held.release()
    again = locks.lock(path)
    assert again.fd >= 0
    held.release(remove=True)
    assert path.exists()
    assert locks.try_lock(path) is None
    again.release()


def test_a_lock_is_free_after_an_error_in_its_block(path: Path) -> None:
    """``locked`` frees it whatever happens inside."""
    with pytest.raises(ZeroDivisionError), locks.locked(path):
        raise ZeroDivisionError
    assert taken_soon(path)


def make_link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))


def make_folder(path: Path) -> None:
    path.mkdir()


def take_folder_away(path: Path) -> None:
    path.parent.rmdir()


@pytest.mark.parametrize("obstacle", [make_link, make_folder, take_folder_away])
def test_a_lock_file_that_cannot_be_opened_is_a_storage_error(tmp_path: Path, obstacle: Callable[[Path], None]) -> None:
    """A link is not followed; the error names the file, and says what to look at."""
    folder = tmp_path / "locks"
    folder.mkdir()
    path = folder / "lock"
    obstacle(path)
    with pytest.raises(StorageError) as caught:
        locks.try_lock(path)
    assert str(path) in str(caught.value)
    assert not (folder / "elsewhere").exists()


@pytest.mark.parametrize(("number", "error"), [(28, StoreFullError), (122, StoreFullError), (37, StorageError)])
@pytest.mark.parametrize("call", ["os.open", "fcntl.flock"])
def test_what_the_system_refuses_is_typed(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[CacheError]
) -> None:
    """No room for the file, or no locks at all; and no descriptor stays open."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    before = len(list(Path("/dev/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(call, refuse)
        with pytest.raises(error):
            locks.try_lock(path)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_probe_that_somebody_else_holds_proves_that_locks_exclude(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By chance two processes probe with one name: the second is refused, which is what was asked."""
    monkeypatch.setattr(random, "randrange", lambda _: 7)
    with locks.locked(tmp_path / f"probe-{os.getpid()}-00000007"):
        assert locks.is_coherent(tmp_path)


def test_a_file_system_where_locks_work_is_told_from_one_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the second, ``flock`` succeeds for everybody; the probe leaves nothing behind."""
    assert locks.is_coherent(tmp_path)
    monkeypatch.setattr(fcntl, "flock", lambda _fd, _how: None)
    assert not locks.is_coherent(tmp_path)
    assert list(tmp_path.iterdir()) == []
