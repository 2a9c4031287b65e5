"""Room: what running pulls still need of the free space, so that no two of them count on the same bytes.

A reservation names files by their ingest keys, each with the size that it will have. What a file still needs is that
less the blocks that its partial has by now, looked up by whoever counts: nobody has to be told when a file is opened,
preallocated or taken up again, and a file that two want is counted once.

A process writes its reservations into a file that goes with its session: they count for nothing when it is dead.
Counting and reserving is done under ``locks/room``, giving back is not. That a file fits is proved by its
preallocation only; a reservation says it before the first byte.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from modelcask import locks
from modelcask.errors import StoreFullError
from modelcask.layout import Layout
from modelcask.store import fs
from modelcask.store.sessions import is_alive, open_session

FLOOR_BYTES: Final = 64 << 20
"""What a file of unknown size leaves free, so that catalog, journals and other programs can go on."""

_FLOOR_SHARE: Final = 100
_STEPS: Final = 4
_PATIENCE_S: Final = 30.0
_BLOCK: Final = 512  # the unit of st_blocks, whatever the file system's
_FILE: Final = re.compile(r"room-([0-9a-f-]{36})(?:\.new)?", re.ASCII)
_LINE: Final = re.compile(r"([0-9a-fu][0-9a-f]{63}) ([0-9]{1,19})", re.ASCII)

_live: dict[Path, list[Reservation]] = {}
_guard = threading.Lock()


class Reservation:
    """The room of one pull in one root: none at first, and none once it is released. Thread-safe."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sizes: dict[str, int] = {}
        self._released = False

    def take(self, sizes: Mapping[str, int]) -> None:
        """Set room aside for files, given by their keys with the sizes they will have: for all, or for none.

        Where all that they need is there already, nothing is written and no lock taken.

        Raises:
            StoreFullError: it does not fit beside what others have reserved, or cannot be written down.
            BusyError: another process counts, for half a minute now.
        """
        layout = self._layout
        if not _needed(layout, sizes.items()):
            return
        with locks.locked(layout.room_lock, timeout_s=_PATIENCE_S):
            reserved = _reserved(layout, except_for=sizes)
            needed = _needed(layout, sizes.items())
            # Asked last: what was allocated meanwhile is then counted twice rather than not at all.
            available = max(fs.free_bytes(layout.root) - reserved, 0)
            if needed > available:
                raise StoreFullError(needed, available, where=str(layout.root), reserved=reserved)
            with _guard:
                if self._released:
                    return  # the pull was cancelled while this waited in its thread
                live = _live.get(layout.root, [])
                _write(layout, _joined([*(one._sizes for one in live), sizes]), needed)  # noqa: SLF001 - the same class
                self._sizes.update(sizes)
                if self not in live:
                    _live[layout.root] = [*live, self]

    def grow(self, key: str, end: int, size_bytes: int | None = None) -> None:
        """Set room aside for a file that is not preallocated, before its bytes up to ``end`` are written.

        If its size is known, all of it at the first call. Else a step ahead of ``end``, and so that ``FLOOR_BYTES``, or
        a hundredth of a small disk, stay free.

        Raises:
            StoreFullError, BusyError: as :meth:`take` does.
        """
        held = self._sizes.get(key, 0)
        if size_bytes is not None and end <= size_bytes:
            if held < size_bytes:
                self.take({key: size_bytes})
            return
        floor = _floor(self._layout)
        if held < end + floor:
            self.take({key: end + floor + floor // _STEPS})

    def done(self, key: str) -> None:
        """Give back what is left for a file: it is there, or is not fetched any more."""
        with _guard:
            if self._sizes.pop(key, None) is not None:
                self._tell([key])

    def release(self) -> None:
        """Give everything back. Safe to call twice, and in a forked child."""
        with _guard:
            self._released = True
            keys, self._sizes = list(self._sizes), {}
            if keys:
                self._tell(keys)
            live = _live.get(self._layout.root, [])
            if self in live:
                live.remove(self)

    def _tell(self, keys: Iterable[str]) -> None:
        """Write down what is left for some keys."""
        live = _live.get(self._layout.root, ())
        if self not in live:
            return  # a forked child: the file is its parent's
        sizes = [one._sizes for one in live]  # noqa: SLF001 - the same class
        path = _own_file(self._layout)
        with contextlib.suppress(OSError):  # a reservation that stays too long makes others careful, no more
            if not any(sizes):
                path.unlink(missing_ok=True)
                return
            lines = "".join(f"{key} {max(found.get(key, 0) for found in sizes)}\n" for key in keys)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.write(fd, lines.encode())
            finally:
                os.close(fd)


def _floor(layout: Layout) -> int:
    disk = os.statvfs(layout.root)
    return min(FLOOR_BYTES, disk.f_blocks * disk.f_frsize // _FLOOR_SHARE)


def _needed(layout: Layout, sizes: Iterable[tuple[str, int]]) -> int:
    """Return how many bytes of the free space the files still take."""
    return sum(max(size - _allocated(layout, key), 0) for key, size in sizes)


def _allocated(layout: Layout, key: str) -> int:
    try:
        return os.stat(f"{layout.partials}/{key}/data", follow_symlinks=False).st_blocks * _BLOCK  # noqa: PTH116 - many
    except OSError:
        return 0


def _reserved(layout: Layout, *, except_for: Mapping[str, int]) -> int:
    """Return how many bytes live reservations still need, those of some keys left out."""
    with _guard:
        sizes = [dict(one._sizes) for one in _live.get(layout.root, ())]  # noqa: SLF001 - the same module
    sizes += _read_others(layout)
    return _needed(layout, ((key, size) for key, size in _joined(sizes).items() if key not in except_for))


def _joined(sizes: Iterable[Mapping[str, int]]) -> dict[str, int]:
    joined: dict[str, int] = {}
    for some in sizes:
        for key, size in some.items():
            joined[key] = max(size, joined.get(key, 0))
    return joined


def _own_file(layout: Layout) -> Path:
    return layout.reservations(open_session(layout).path.name)


def _read_others(layout: Layout) -> Iterator[dict[str, int]]:
    """Yield what each other live process has reserved; remove the files of dead ones."""
    own = open_session(layout).path.name
    with fs.translated(layout.locks):
        names = os.listdir(layout.locks)  # noqa: PTH208 - names suffice
    for name in names:
        match = _FILE.fullmatch(name)
        if match is None or match[1] == own:
            continue
        path = layout.locks / name
        with contextlib.suppress(OSError):
            if is_alive(layout, match[1]):
                # A line's last word on a key counts.
                lines = path.read_text(encoding="ascii", errors="replace").splitlines()
                yield {found[1]: int(found[2]) for line in lines if (found := _LINE.fullmatch(line))}
            else:
                path.unlink()


def _write(layout: Layout, sizes: Mapping[str, int], needed: int) -> None:
    path = _own_file(layout)
    new = path.with_name(f"{path.name}.new")
    with fs.translated(path, needed):
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, fs.FILE_MODE)
            with open(fd, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
                file.writelines(f"{key} {size}\n" for key, size in sizes.items())
            new.rename(path)  # not synced: after a power cut nobody whom it concerns lives
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise


def _after_fork() -> None:
    global _guard  # noqa: PLW0603 - a lock held by another thread of the parent would never be freed here
    _guard = threading.Lock()
    _live.clear()


os.register_at_fork(after_in_child=_after_fork)
