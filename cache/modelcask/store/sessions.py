"""Leases: one file for each live process, holding the digests it has handed out.

A process keeps an exclusive lock on its own file for as long as it lives. Whoever can lock the file knows that
the owner is dead and the leases are void: no heartbeat, no clock, no database write on a lookup. The idea is
Nix's temporary roots (``nix/src/libstore/gc.cc``).

A path that was handed out is leased until the process ends, since nobody can know when it is used last.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modelcask.digest import Digest
from modelcask.errors import StorageError
from modelcask.layout import Layout
from modelcask.locks import Lock, try_lock
from modelcask.store.fs import translated

_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

_sessions: dict[Path, Session] = {}
_guard = threading.Lock()


class Session:
    """This process's leases in one root."""

    def __init__(self, layout: Layout) -> None:
        self.path = layout.sessions / str(uuid.uuid4())
        while (held := try_lock(self.path)) is None:
            self.path = layout.sessions / str(uuid.uuid4())  # a collector looked at it before we could lock it
        self._lock: Lock = held
        self._end = os.fstat(held.fd).st_size
        self._leased: set[str] = set()
        self._guard = threading.Lock()

    def lease(self, digest: Digest) -> bool:
        """Protect the blob until this process ends; say whether that is new.

        The caller reads the blob's state *after* this, in a new transaction (I4).

        Raises:
            StoreFullError, StorageError: the lease cannot be written, so nothing may be handed out.
        """
        if digest.hex in self._leased:
            return False
        with self._guard, translated(self.path):
            line = f"{digest.hex}\n".encode()
            os.pwrite(self._lock.fd, line, self._end)
            self._end += len(line)
            self._leased.add(digest.hex)
        return True

    def close(self) -> None:
        """Give all leases up."""
        self._lock.release(remove=True)


def open_session(layout: Layout) -> Session:
    """Return this process's session in the root, the same one each time. Thread-safe; a fork opens its own."""
    with _guard:
        session = _sessions.get(layout.root)
        if session is None:
            session = _sessions[layout.root] = Session(layout)
        return session


def read_leases(layout: Layout, *, except_own: bool = False) -> Iterator[tuple[Path, frozenset[str]]]:
    """Yield each live session's file and the hex digests leased in it; delete the files of dead ones.

    Raises:
        StorageError: a session cannot be read. Collect nothing then (I6).
    """
    own = _sessions.get(layout.root)
    with translated(layout.sessions):
        paths = sorted(layout.sessions.iterdir())
    for path in paths:
        if own is not None and path == own.path:
            if not except_own:
                yield path, frozenset(own._leased)  # noqa: SLF001 - the same module
            continue
        dead = try_lock(path)
        if dead is not None:
            dead.release(remove=True)
            continue
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            continue  # it ended meanwhile
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"the session {path} cannot be read: {error}") from error
        # The other lines are the lock's note: who, and since when.
        yield path, frozenset(line for line in lines if _HEX.fullmatch(line))


def _after_fork() -> None:
    # The child's copies of the locks are closed by `locks`; its leases must be its own.
    global _guard  # noqa: PLW0603 - a lock held by another thread of the parent would never be freed here
    _guard = threading.Lock()
    _sessions.clear()


def _at_exit() -> None:
    for session in _sessions.values():
        session.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
