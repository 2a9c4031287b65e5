"""Leases: one file for each live process, holding the digests it has handed out.

A process keeps an exclusive lock on its own file for as long as it lives. Whoever can lock the file knows that
the owner is dead and the leases are void: no heartbeat, no clock, no database write on a lookup. The idea is
Nix's temporary roots (``nix/src/libstore/gc.cc``).

A path that was handed out is leased until the process ends, since nobody can know when it is used last.

On a full disk there may be no room for a lease, not even in the reserve. Then the file is made longer without
writing: what is read there is no digest, and may have been that of any blob. So the path can be handed out all the
same, and nothing at all is deleted while that process lives (I6).
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelcask.digest import Digest
from modelcask.errors import StorageError, StoreFullError
from modelcask.layout import Layout
from modelcask.locks import Lock, is_held, try_lock
from modelcask.reserve import with_reserve
from modelcask.store import fs
from modelcask.store.fs import translated

_HEX: Final = re.compile(rb"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[0-9a-f-]{36}", re.ASCII)
_NOTE: Final = re.compile(rb"(?:process [0-9]+ on [^\0]*|[0-9]{4}-[0-9T:+-]*)?")
"""What a lock says of its holder, and the end of the last line."""

_log = logging.getLogger("modelcask.store")

_sessions: dict[Path, Session] = {}
_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Leases:
    """The leases of one or several sessions; ``digest in leases`` says whether a blob is protected."""

    digests: frozenset[str] = frozenset()
    """In hex."""
    everything: bool = False
    """Whether there is a lease that cannot be read: it may be of any blob."""

    def __contains__(self, digest: Digest) -> bool:
        return self.everything or digest.hex in self.digests


class Session:
    """This process's leases in one root."""

    def __init__(self, layout: Layout) -> None:
        if not layout.sessions.is_dir():
            fs.make_folder("session", layout.sessions)
        self._reserve = layout.reserve
        self.path = layout.sessions / str(uuid.uuid4())
        while (held := with_reserve(self._reserve, try_lock, self.path)) is None:
            self.path = layout.sessions / str(uuid.uuid4())  # a collector looked at it before we could lock it
        self._lock: Lock = held
        self._end = os.fstat(held.fd).st_size
        self._unwritten = b""
        self._leased: set[str] = set()
        self._guard = threading.Lock()

    def lease(self, digest: Digest) -> bool:
        """Protect the blob until this process ends; say whether that is new.

        The caller reads the blob's state *after* this, in a new transaction (I4).

        Raises:
            StoreFullError, StorageError: the lease cannot even be left blank, so nothing may be handed out.
        """
        if digest.hex in self._leased:
            return False
        with self._guard:
            lines = self._unwritten + f"{digest.hex}\n".encode()
            try:
                with_reserve(self._reserve, self._write, lines)
            except StoreFullError:
                with translated(self.path):
                    os.ftruncate(self._lock.fd, self._end + len(lines))
                self._unwritten = lines
                _log.warning("the disk is full: nothing is deleted while this process lives, for want of a lease")
            else:
                self._end += len(lines)
                self._unwritten = b""
            self._leased.add(digest.hex)
        return True

    def _write(self, lines: bytes) -> None:
        with translated(self.path):
            if os.pwrite(self._lock.fd, lines, self._end) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

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


def read_leases(layout: Layout, *, except_own: bool = False) -> Iterator[tuple[Path, Leases]]:
    """Yield each live session's file and its leases; delete the files of dead ones.

    Raises:
        StorageError: a session cannot be read. Collect nothing then (I6).
    """
    own = _sessions.get(layout.root)
    with translated(layout.sessions):
        paths = sorted(layout.sessions.iterdir())
    for path in paths:
        if own is not None and path == own.path:
            if not except_own:
                yield path, Leases(frozenset(own._leased))  # noqa: SLF001 - the same module
            continue
        dead = try_lock(path)
        if dead is not None:
            dead.release(remove=True)
            continue
        try:
            lines = fs.read_file(path).split(b"\n")
        except FileNotFoundError:
            continue  # it ended meanwhile
        except OSError as error:
            raise StorageError(
                f"the session {path} cannot be read ({error.strerror}), and may protect any blob; check the disk"
            ) from error
        others = [line for line in lines if _HEX.fullmatch(line) is None]
        everything = not all(map(_NOTE.fullmatch, others))
        yield path, Leases(frozenset(line.decode() for line in lines if _HEX.fullmatch(line)), everything)


def leased_by_others(layout: Layout) -> Leases:
    """Return the leases of all other live processes together. As :func:`read_leases`."""
    found = [leases for _, leases in read_leases(layout, except_own=True)]
    digests = frozenset[str]().union(*(leases.digests for leases in found))
    return Leases(digests, any(leases.everything for leases in found))


def is_alive(layout: Layout, name: str) -> bool:
    """Say whether the process with the session file of this name may live; in doubt, yes. Changes nothing.

    No process takes a name that was another's, so one that is dead stays so.
    """
    own = _sessions.get(layout.root)
    if own is not None and own.path.name == name:
        return True
    return _NAME.fullmatch(name) is not None and is_held(layout.sessions / name)


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
