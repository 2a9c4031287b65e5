"""The reserve: given up part by part where the disk is full, made whole again where there is room."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelcask.errors import StoreFullError
from modelcask.reserve import RESERVE_BYTES, free_part, with_reserve
from modelcask.store import fs, root
from modelcask.store.root import open_root


def taken_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_new_root_has_a_whole_reserve(cask: Path) -> None:
    """Of real blocks: a file that only looks long would give nothing back."""
    layout, _ = open_root(cask)
    assert layout.reserve.stat().st_size == RESERVE_BYTES
    assert taken_bytes(layout.reserve) >= RESERVE_BYTES


def test_what_was_given_up_is_taken_again_when_there_is_room(cask: Path) -> None:
    """Also where all of it is gone, as in a root that an older modelcask made."""
    layout, _ = open_root(cask)
    free_part(layout.reserve)
    open_root(cask)
    assert taken_bytes(layout.reserve) >= RESERVE_BYTES
    layout.reserve.unlink()
    open_root(cask)
    assert taken_bytes(layout.reserve) >= RESERVE_BYTES


def test_a_disk_with_little_room_is_not_filled_with_a_reserve(cask: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a part of the trouble; a root without one works."""
    monkeypatch.setattr(fs, "free_bytes", lambda _: root._PLENTY_BYTES - 1)
    layout, _ = open_root(cask)
    assert not layout.reserve.exists()


def test_as_much_is_given_up_as_is_needed(cask: Path) -> None:
    """The first success ends it; what is left serves the next one."""
    layout, _ = open_root(cask)
    tries = 0

    def work(result: str) -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreFullError(0, 0)
        return result

    assert with_reserve(layout.reserve, work, "done") == "done"
    assert 0 < layout.reserve.stat().st_size < RESERVE_BYTES
    assert taken_bytes(layout.reserve) < RESERVE_BYTES


def test_with_nothing_left_the_disk_is_full(cask: Path) -> None:
    """It ends, and says so."""
    layout, _ = open_root(cask)

    def work() -> None:
        raise StoreFullError(0, 0)

    with pytest.raises(StoreFullError):
        with_reserve(layout.reserve, work)
    assert layout.reserve.stat().st_size == 0
    assert not free_part(layout.reserve)


def make_link(path: Path) -> None:
    target = path.with_name("precious")
    target.write_bytes(b"precious")
    path.symlink_to(target)


@pytest.mark.parametrize(
    "make", [lambda _: None, Path.mkdir, os.mkfifo, make_link], ids=["no", "folder", "pipe", "link"]
)
def test_what_is_no_reserve_is_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Nothing hangs, and nobody else's file is cut."""
    make(tmp_path / "reserve")
    assert not free_part(tmp_path / "reserve")
    if (tmp_path / "precious").exists():
        assert (tmp_path / "precious").read_bytes() == b"precious"
