"""The threads that write and hash for every ingest of one event loop, and the bound on the memory they hold.

The order of an ingest's writes matters, and so does that of its hashing, so each ingest is given two threads for
its time: a *lane* each. Several ingests share a lane; there are as many as can be used by the processors at hand.
What takes long, such as checking what an earlier attempt has left, happens ``aside``, so that it holds up nobody else.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final

BLOCK_BYTES: Final = 1 << 20
"""What is written and hashed at a time."""

BLOCKS_IN_FLIGHT: Final = 32
"""How many blocks, of all ingests together, may wait to be written and hashed."""


_ASIDE: Final = 64
"""More than files are in work at a time; a thread is made when it is needed."""


class Lanes:
    """Threads for ingests, one set for an event loop. ``close`` waits for what was begun."""

    def __init__(self) -> None:
        count = min(max(os.cpu_count() or 1, 2), 4)
        self._pairs = [
            (ThreadPoolExecutor(1, "modelcask-write"), ThreadPoolExecutor(1, "modelcask-hash")) for _ in range(count)
        ]
        self.aside = ThreadPoolExecutor(_ASIDE, "modelcask-aside")
        """For what may wait for a lane, and what no lane may wait for."""
        self._turns = itertools.cycle(self._pairs)
        self.room = asyncio.Semaphore(BLOCKS_IN_FLIGHT)
        """Taken for each block that is handed to a lane, freed when the lanes have let go of its bytes."""

    def take(self) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
        """Return the lane for writing and the one for hashing of a new ingest."""
        return next(self._turns)

    def close(self) -> None:
        """End the threads when they are through."""
        self.aside.shutdown(wait=True)  # first: it waits for the lanes
        for pair in self._pairs:
            for lane in pair:
                lane.shutdown(wait=True)
