"""No two pulls count on the same free bytes: not in one process, not in two, and not for longer than they live."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from modelcask import locks
from modelcask.errors import StorageError, StoreFullError
from modelcask.layout import Layout
from modelcask.store import fs, room
from modelcask.store.room import Reservation
from modelcask.store.root import open_root
from modelcask.store.sessions import open_session
from zygote import Zygote, ended

ONE, TWO, THREE = ("1" * 64, "2" * 64, "u" + "3" * 63)
FREE = 1_000_000


@pytest.fixture
def layout(cask: Path) -> Layout:
    made, _ = open_root(cask)
    return made


@pytest.fixture(autouse=True)
def _disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a million bytes free, whatever is written."""
    monkeypatch.setattr(fs, "free_bytes", lambda _: FREE)


def allocate(layout: Layout, key: str, size: int) -> None:
    """Give a file's partial so many bytes."""
    layout.partial(key).mkdir()
    with (layout.partial(key) / "data").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def files(layout: Layout) -> list[Path]:
    return sorted(layout.locks.glob("room-*"))


def test_what_fits_is_reserved_and_what_does_not_is_refused(layout: Layout) -> None:
    """The error says what is needed, what is there, and what is missing; nothing stays reserved."""
    Reservation(layout).take({ONE: FREE})
    with pytest.raises(StoreFullError) as caught:
        Reservation(layout).take({TWO: 300_000, THREE: 700_001})
    assert (caught.value.needed, caught.value.available, caught.value.reserved) == (FREE + 1, 0, FREE)
    assert "1,000,001 missing" in str(caught.value)
    assert "1,000,000 more are free, but reserved by other downloads" in str(caught.value)


def test_two_pulls_of_one_process_share_the_room(layout: Layout) -> None:
    """What one has reserved the other cannot; given back, it can."""
    first, second = Reservation(layout), Reservation(layout)
    first.take({ONE: 600_000})
    with pytest.raises(StoreFullError):
        second.take({TWO: 600_000})
    second.take({TWO: 400_000})
    first.release()
    with pytest.raises(StoreFullError):
        first.take({THREE: 600_001})
    Reservation(layout).take({THREE: 600_000})


def test_a_file_that_two_pulls_want_is_counted_once(layout: Layout) -> None:
    """It is fetched once; it stays reserved while one of them wants it."""
    first, second, other = (Reservation(layout) for _ in range(3))
    first.take({ONE: 700_000})
    second.take({ONE: 700_000, TWO: 300_000})
    first.release()
    with pytest.raises(StoreFullError):
        other.take({THREE: 1})
    second.release()
    other.take({THREE: FREE})


def test_what_is_on_disk_already_is_not_needed_again(layout: Layout) -> None:
    """The blocks of a partial count, whoever has written them: before the reservation, or since."""
    allocate(layout, ONE, 400_000)
    reservation = Reservation(layout)
    reservation.take({ONE: 1_400_000 - 10_000, TWO: 8_192})
    with pytest.raises(StoreFullError):
        Reservation(layout).take({THREE: 50_000})
    allocate(layout, TWO, 8_192)
    Reservation(layout).take({THREE: 5_000})


def test_what_needs_no_room_is_not_written_down(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull that has its blocks goes on where not even a lock file fits any more."""
    allocate(layout, ONE, 400_000)
    monkeypatch.setattr(fs, "free_bytes", lambda _: 0)
    monkeypatch.setattr(locks, "lock", None)
    reservation = Reservation(layout)
    reservation.take({ONE: 400_000})
    reservation.take({})
    assert files(layout) == []


def test_a_file_that_is_done_gives_its_room_back(layout: Layout) -> None:
    """So does one that fell away; the rest of the pull stays reserved, and the file goes with the last."""
    reservation = Reservation(layout)
    reservation.take({ONE: 600_000, TWO: 400_000})
    reservation.done(ONE)
    reservation.done(ONE)
    reservation.done(THREE)
    other = Reservation(layout)
    with pytest.raises(StoreFullError):
        other.take({THREE: 600_001})
    other.take({THREE: 600_000})
    reservation.done(TWO)
    assert len(files(layout)) == 1
    other.release()
    other.release()
    assert files(layout) == []


def test_a_released_reservation_takes_nothing(layout: Layout) -> None:
    """A cancelled pull leaves its thread behind: what that takes later nobody would give back."""
    reservation = Reservation(layout)
    reservation.release()
    reservation.take({ONE: FREE})
    assert files(layout) == []
    Reservation(layout).take({TWO: FREE})


def test_what_another_process_has_reserved_counts_until_it_gives_it_back(zygote: Zygote, layout: Layout) -> None:
    """Also file by file, and also a file that both want once only."""
    child = zygote.start("store_jobs:reserve", layout.root, {ONE: 600_000, TWO: 300_000}, ONE)
    with ended(child):
        child.hears("reserved")
        ours = Reservation(layout)
        with pytest.raises(StoreFullError) as caught:
            ours.take({THREE: 200_000})
        assert (caught.value.available, caught.value.reserved) == (100_000, 900_000)
        ours.take({ONE: 600_000, THREE: 100_000})
        ours.release()
        child.tell("done")
        child.hears("gave one back")
        ours = Reservation(layout)
        ours.take({THREE: 700_000})
        child.tell("end")
        assert child.wait() == 0
        ours.take({ONE: 300_000})


def test_the_reservations_of_a_killed_process_count_for_nothing(zygote: Zygote, layout: Layout) -> None:
    """Whoever counts next removes its file."""
    child = zygote.start("store_jobs:reserve", layout.root, {ONE: FREE}, ONE)
    with ended(child):
        child.hears("reserved")
        [path] = files(layout)
        assert path.stat().st_mode & 0o777 == 0o600
        child.kill()
        child.wait()
        Reservation(layout).take({TWO: FREE})
        assert path not in files(layout)


def test_a_fork_neither_has_nor_gives_back_what_its_parent_reserved(zygote: Zygote, layout: Layout) -> None:
    """The child releases the object that it inherited: the parent's room stays reserved, and the child's own counts."""
    child = zygote.start("store_jobs:reserve_and_fork", layout.root, {ONE: 600_000}, {TWO: 100_000})
    with ended(child):
        child.hears("forked")
        assert sorted(path.read_text() for path in files(layout)) == [f"{ONE} 600000\n", f"{TWO} 100000\n"]
        with pytest.raises(StoreFullError) as caught:
            Reservation(layout).take({THREE: FREE})
        assert caught.value.reserved == 700_000
        child.tell("end")
        child.wait()


def test_many_threads_never_reserve_more_than_there_is(layout: Layout) -> None:
    """Each takes a tenth at once: ten get it."""
    start = threading.Barrier(16)
    taken: list[Reservation] = []

    def take(number: int) -> None:
        reservation = Reservation(layout)
        start.wait()
        try:
            reservation.take({f"{number:064x}": FREE // 10})
        except StoreFullError:
            return
        taken.append(reservation)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 10


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_reservation_that_cannot_be_written_is_a_full_disk(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It names what the job needs; what was reserved before stays written, and nothing half is left."""
    before = Reservation(layout)
    before.take({ONE: 100_000})
    [path] = files(layout)
    written = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StoreFullError) as caught:
        Reservation(layout).take({TWO: 800_000})
    monkeypatch.undo()
    assert caught.value.needed == 800_000
    assert files(layout) == [path]
    assert path.read_bytes() == written


def test_where_nothing_can_be_written_it_is_a_storage_error(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a root that is mounted read-only."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    open_session(layout)
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StorageError):
        Reservation(layout).take({ONE: 1})


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"../../x 5\n", f"{ONE} 5{TWO}\n".encode(), f"{ONE}".encode()])
def test_what_cannot_be_read_reserves_nothing(zygote: Zygote, layout: Layout, content: bytes) -> None:
    """A line that a full disk has cut off, or what is none: the lines around it count."""
    child = zygote.start("store_jobs:reserve", layout.root, {TWO: 10}, TWO)
    with ended(child):
        child.hears("reserved")
        [path] = files(layout)
        path.write_bytes(f"{TWO} 999\n".encode() + content + f"\n{TWO} 1000\n".encode())
        with pytest.raises(StoreFullError) as caught:
            Reservation(layout).take({THREE: FREE})
        assert caught.value.reserved == 1000


def test_what_is_no_reservation_is_left_alone(layout: Layout) -> None:
    """Only files named after a session are ours to remove."""
    (layout.locks / "room-notes.txt").touch()
    Reservation(layout).take({ONE: 1})
    assert (layout.locks / "room-notes.txt").exists()


@pytest.fixture
def grow(layout: Layout) -> Callable[..., None]:
    return Reservation(layout).grow


def test_a_file_of_unknown_size_leaves_the_floor_free(
    layout: Layout, grow: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused while that much is still there, and reserves as it goes."""
    monkeypatch.setattr(room, "_floor", lambda _: 100_000)
    grow(ONE, 700_000)
    with pytest.raises(StoreFullError):
        Reservation(layout).take({TWO: 200_000})
    with pytest.raises(StoreFullError) as caught:
        grow(ONE, 950_000)
    assert caught.value.reserved == 0


def test_growing_counts_again_only_at_each_step(
    grow: Callable[..., None], layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock for each block that is written would cost more than the write."""
    monkeypatch.setattr(room, "_floor", lambda _: 100_000)
    counted = []
    monkeypatch.setattr(fs, "free_bytes", lambda _: counted.append(1) or FREE)
    for end in range(1000, 101_000, 1000):
        grow(ONE, end)
    assert len(counted) == 4
    assert len(files(layout)) == 1


def test_a_copy_reserves_all_of_its_size_at_once(layout: Layout, grow: Callable[..., None]) -> None:
    """Before the first block: whether it fits is known then."""
    with pytest.raises(StoreFullError) as caught:
        grow(ONE, 1, size_bytes=FREE + 1)
    assert caught.value.needed == FREE + 1
    grow(ONE, 1, size_bytes=FREE)
    grow(ONE, 2, size_bytes=FREE)
    with pytest.raises(StoreFullError):
        Reservation(layout).take({TWO: 1})


def test_the_floor_of_a_small_disk_is_a_hundredth(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """And on a large one 64 MiB."""
    real = os.statvfs(layout.root)

    def disk(blocks: int) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, blocks, *tuple(real)[3:10]))

    monkeypatch.setattr(os, "statvfs", lambda _: disk(2048))
    assert room._floor(layout) == (8 << 20) // 100
    monkeypatch.setattr(os, "statvfs", lambda _: disk(1 << 30))
    assert room._floor(layout) == 64 << 20
