"""Leases live exactly as long as the process that holds them."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from modelcask import locks
from modelcask.digest import Digest
from modelcask.errors import StorageError
from modelcask.layout import Layout
from modelcask.store import sessions
from modelcask.store.root import open_root
from modelcask.store.sessions import open_session, read_leases
from zygote import Zygote, ended

ONE, TWO, THREE = (Digest("blake3", letter * 64) for letter in "abc")


@pytest.fixture
def layout(cask: Path) -> Layout:
    made, _ = open_root(cask)
    return made


def leases(layout: Layout, *, except_own: bool = False) -> dict[Path, set[str]]:
    return {path: set(found) for path, found in read_leases(layout, except_own=except_own)}


def test_what_a_live_process_leases_can_be_read_and_goes_when_it_is_killed(zygote: Zygote, layout: Layout) -> None:
    """While it lives its digests are seen; killed, its file is void and is deleted by whoever looks."""
    child = zygote.start("store_jobs:lease", layout.root, [ONE, TWO, ONE])
    with ended(child):
        path = child.hears("leased")
        assert leases(layout) == {path: {ONE.hex, TWO.hex}}
        assert path.read_text().count(ONE.hex) == 1
        child.kill()
        child.wait()
        assert leases(layout) == {}
        assert not path.exists()


def test_a_process_that_ends_takes_its_file_along(zygote: Zygote, layout: Layout) -> None:
    """Nothing is left for others to clean."""
    child = zygote.start("store_jobs:lease", layout.root, [ONE])
    with ended(child):
        path = child.hears("leased")
        assert path.exists()
        child.tell("end")
        assert child.wait() == 0
        assert not path.exists()


def test_a_fork_leases_for_itself(zygote: Zygote, layout: Layout) -> None:
    """It has a file of its own, and writes nothing into its parent's."""
    parent, child, text = zygote.run("store_jobs:lease_after_fork", layout.root, ONE, TWO)
    assert parent != child
    assert ONE.hex in text
    assert TWO.hex not in text


def test_a_fork_in_the_middle_of_opening_does_not_wait_for_ever(zygote: Zygote, layout: Layout) -> None:
    """A guard that another thread of the parent held would never be freed in the child."""
    assert zygote.run("store_jobs:fork_while_opening", layout.root)


def test_one_process_has_one_session_in_a_root(layout: Layout) -> None:
    """Its own leases are seen without reading the file, or left out where they do not count."""
    session = open_session(layout)
    assert open_session(Layout(layout.root)) is session
    assert session.lease(ONE)
    assert not session.lease(ONE)
    assert leases(layout) == {session.path: {ONE.hex}}
    assert leases(layout, except_own=True) == {}
    assert session.path.stat().st_mode & 0o777 == 0o600


def test_a_session_that_cannot_be_read_stops_the_collector(zygote: Zygote, layout: Layout) -> None:
    """Unreadable is not empty: nothing may be collected then (I6)."""
    child = zygote.start("store_jobs:lease", layout.root, [ONE])
    with ended(child):
        child.hears("leased").write_bytes(b"\xff\xfe")
        with pytest.raises(StorageError):
            leases(layout)


def test_a_name_that_a_collector_is_looking_at_is_not_taken(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the file for a moment to see whether its owner is dead: another name is as good."""
    names = iter(["taken", "free"])
    monkeypatch.setattr(uuid, "uuid4", lambda: next(names))
    with locks.locked(layout.sessions / "taken"):
        session = sessions.Session(layout)
    assert session.path.name == "free"
    session.close()


def test_a_session_that_ends_while_it_is_read_has_no_leases(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file was there, and locked, a moment ago."""
    (layout.sessions / "ending").touch()

    def end(path: Path) -> None:
        path.unlink()

    monkeypatch.setattr(sessions, "try_lock", end)
    assert leases(layout) == {}


def test_every_lease_counts_whatever_stands_above_it(zygote: Zygote, layout: Layout) -> None:
    """On a full disk the lock's note may be missing; the leases below are not mistaken for it."""
    child = zygote.start("store_jobs:lease", layout.root, [])
    with ended(child):
        path = child.hears("leased")
        for note in ("", "process 1 on host\n", "process 1 on host\n2026-01-01\n"):
            path.write_text(f"{note}{ONE.hex}\n{TWO.hex}\n{THREE.hex}\n")
            assert leases(layout) == {path: {ONE.hex, TWO.hex, THREE.hex}}


def test_a_lease_that_cannot_be_written_is_an_error(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be handed out without it, and it is not remembered as written."""
    session = open_session(layout)
    monkeypatch.setattr(session, "_lock", type("Dead", (), {"fd": -1})())
    for _ in range(2):
        with pytest.raises(StorageError):
            session.lease(ONE)
    monkeypatch.undo()
    assert session.lease(ONE)


def test_a_root_without_its_sessions_folder_is_a_storage_error(layout: Layout) -> None:
    """Somebody removed it: one typed error, no traceback."""
    layout.sessions.rmdir()
    with pytest.raises(StorageError):
        sessions.Session(layout)
    with pytest.raises(StorageError):
        leases(layout)
