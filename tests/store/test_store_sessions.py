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
from modelcask.store.sessions import is_alive, open_session, read_leases
from zygote import Zygote, ended

ONE, TWO, THREE = (Digest("blake3", letter * 64) for letter in "abc")


@pytest.fixture
def layout(cask: Path) -> Layout:
    made, _ = open_root(cask)
    return made


def leases(layout: Layout, *, except_own: bool = False) -> dict[Path, set[str]]:
    return {path: set(found.digests) for path, found in read_leases(layout, except_own=except_own)}


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


def test_a_session_that_cannot_be_read_stops_the_collector(
    zygote: Zygote, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unreadable is not empty: nothing may be collected then (I6)."""

    def fail(_: Path) -> bytes:
        raise OSError(5, "Input/output error")

    child = zygote.start("store_jobs:lease", layout.root, [ONE])
    with ended(child):
        child.hears("leased")
        monkeypatch.setattr("modelcask.store.fs.read_file", fail)
        with pytest.raises(StorageError, match="may protect any blob"):
            leases(layout)


HOLE = bytes(65)
UNREADABLE = {
    "a hole alone": HOLE,
    "a hole behind a lease": f"{ONE.hex}\n".encode() + HOLE,
    "a hole behind a note": b"process 1 on host\n2026-01-01T00:00:00+00:00\n" + HOLE,
    "a hole in the middle of a note": b"process 1 on ho" + HOLE,
    "a hole before a lease": HOLE + f"{ONE.hex}\n".encode(),
    "a lease that was torn": ONE.hex[:30].encode(),
    "a lease that was torn, and a hole": ONE.hex[:30].encode() + bytes(35),
    "damage": b"\xff\xfe",
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_digest_may_be_the_lease_of_any_blob(zygote: Zygote, layout: Layout, content: bytes) -> None:
    """A lease for which there was no room is a hole, and protects everything (I6)."""
    child = zygote.start("store_jobs:lease", layout.root, [ONE])
    with ended(child):
        child.hears("leased").write_bytes(content)
        found = sessions.leased_by_others(layout)
        assert found.everything
        assert TWO in found


def test_readable_leases_protect_what_they_name_and_nothing_else(zygote: Zygote, layout: Layout) -> None:
    """Of all other processes together."""
    children = [zygote.start("store_jobs:lease", layout.root, [digest]) for digest in (ONE, TWO)]
    with ended(*children):
        for child in children:
            child.hears("leased")
        found = sessions.leased_by_others(layout)
    assert [digest in found for digest in (ONE, TWO, THREE)] == [True, True, False]


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


def test_a_root_without_its_sessions_folder_gets_it_again(layout: Layout) -> None:
    """Somebody removed it: whoever looks at the leases fails closed, whoever leases makes it."""
    layout.sessions.rmdir()
    with pytest.raises(StorageError):
        leases(layout)
    session = sessions.Session(layout)
    assert session.lease(ONE)
    session.close()


def test_a_session_lives_as_long_as_its_process(zygote: Zygote, layout: Layout) -> None:
    """Asking changes nothing: not the leases, and after death not the file."""
    child = zygote.start("store_jobs:lease", layout.root, [ONE])
    with ended(child):
        path = child.hears("leased")
        assert is_alive(layout, path.name)
        assert leases(layout) == {path: {ONE.hex}}
        child.kill()
        child.wait()
        before = path.read_bytes()
        assert not is_alive(layout, path.name)
        assert path.read_bytes() == before


def test_our_own_session_lives_and_one_without_a_file_does_not(layout: Layout) -> None:
    """Nor is anything but a session's name looked for on disk."""
    assert is_alive(layout, open_session(layout).path.name)
    assert not is_alive(layout, str(uuid.uuid4()))
    with locks.locked(layout.root / "locks" / "gc"):
        assert not is_alive(layout, "../locks/gc")


def test_a_session_that_cannot_be_read_is_taken_for_alive(layout: Layout) -> None:
    """A link in its place is not followed; in doubt nothing of it is closed."""
    name = str(uuid.uuid4())
    (layout.sessions / name).symlink_to(layout.root / "FORMAT")
    assert is_alive(layout, name)
