"""What a pull that was cancelled may not leave behind, and what the next one finds."""

from __future__ import annotations

import threading
from pathlib import Path

from modelcask import locks
from modelcask.catalog.rows import Outcome
from modelcask.layout import Layout
from modelcask.manager import ModelCache
from modelcask.store import journal


def leftovers(root: Path) -> list[str]:
    """Return the locks that are held, the room that is reserved and the threads that live on. No cache is open."""
    layout = Layout(root)
    found = []
    for path in sorted(layout.locks.iterdir()):
        if path.name.startswith(("room-", "uri-")):
            found.append(f"{path.name} is there")
        elif (lock := locks.try_lock(path)) is None:
            found.append(f"{path.name} is held")
        else:
            lock.release()
    return found + [thread.name for thread in threading.enumerate() if thread.name.startswith("modelcask")]


def claimed_bytes(root: Path) -> int:
    """Return how many bytes of unfinished files are claimed."""
    return sum(journal.claimed_bytes(path) for path in Layout(root).partials.glob("*/journal"))


def outcomes(root: Path) -> list[Outcome | None]:
    """Return how the attempts ended, the newest first; None for those that are open."""
    with ModelCache(root) as cache:
        return [attempt.outcome for attempt in cache.list_attempts()]


def goes_on(root: Path, url: str, content: bytes) -> None:
    """Assert that the next pull ends right, fetches nothing that is claimed, and leaves nothing."""
    held = claimed_bytes(root)
    with ModelCache(root) as cache:
        [snapshot] = cache.pull(url)
        assert snapshot.path.read_bytes() == content
        assert snapshot.bytes_fetched <= len(content) - held
    assert list((root / "partial").iterdir()) == []
    assert leftovers(root) == []
