"""The reserve: room that a root keeps for what has to work on a full disk, above all the removal that frees it.

A file of real blocks. Whoever is told that the disk is full while it looks something up, leases or removes frees a
part of it and tries again, until that succeeds or nothing is left. A part at a time, since lookups need little, and
must not leave nothing to the removal that comes after them. ``store/root.py`` makes it whole again once there is room.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from modelcask.errors import StoreFullError

RESERVE_BYTES: Final = 8 << 20
"""Twice what the catalog's log grows to before it is copied."""

_PART_BYTES: Final = 1 << 20

_P = ParamSpec("_P")
_T = TypeVar("_T")


def with_reserve(reserve: Path, action: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs) -> _T:
    """Return what ``action`` does; on a full disk free a part of the file ``reserve`` and do it again.

    ``action`` has changed nothing when it raises StoreFullError.

    Raises:
        StoreFullError: it did so with nothing left of the reserve.
    """
    while True:
        try:
            return action(*arguments, **named)
        except StoreFullError:
            if not free_part(reserve):
                raise


def free_part(reserve: Path) -> bool:
    """Give a part of the reserve back to the disk; say whether there was any left."""
    with contextlib.suppress(OSError):
        fd = os.open(reserve, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            left = os.fstat(fd).st_size
            os.ftruncate(fd, max(left - _PART_BYTES, 0))
            os.fsync(fd)  # some file systems hand blocks out again only after that
        finally:
            os.close(fd)
        return left > 0
    return False
