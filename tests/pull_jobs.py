"""What the children of the campaigns do: pulls in many ranges, where a few megabytes may be as many as a few hundred."""

from __future__ import annotations

import fcntl
import mmap
import random
import time
from dataclasses import dataclass
from pathlib import Path

from kill_jobs import command, use_small_segments
from modelcask.fetch import plan, work
from modelcask.store import fs

SMALL_SEGMENT_BYTES = 64 << 10
SMALL_BLOCK_BYTES = 16 << 10


def use_small_spans() -> None:
    """Let a few megabytes be fetched in as many ranges, and claimed in as many segments, as a large model is."""
    use_small_segments()
    plan.SPLIT_BYTES = 4 * SMALL_SEGMENT_BYTES  # type: ignore[misc] # in a child of its own
    plan.SPAN_BYTES = (2 * SMALL_SEGMENT_BYTES, 8 * SMALL_SEGMENT_BYTES)  # type: ignore[misc] # the same
    work.ALIGNMENT_BYTES = SMALL_BLOCK_BYTES  # type: ignore[misc] # the same


@dataclass(frozen=True, slots=True)
class Meter:
    """How far a pull has come, in a file, so that it outlives a kill: bytes arrived, most spans fetched at a time."""

    path: Path

    def reset(self) -> None:
        self.path.write_bytes(bytes(16))

    @property
    def arrived_bytes(self) -> int:
        return int.from_bytes(self.path.read_bytes()[:8], "little")

    @property
    def connections(self) -> int:
        return int.from_bytes(self.path.read_bytes()[8:], "little")

    def attach(self) -> None:
        """Have this process's pull keep it."""
        with self.path.open("r+b") as file:
            kept = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
        take_note = plan.Plan.arrived

        def arrived(self: plan.Plan, ask: plan.Ask, start: int, count: int) -> None:
            kept[0] += count
            kept[1] = max(kept[1], len(self._work.spans))
            take_note(self, ask, start, count)

        plan.Plan.arrived = arrived  # type: ignore[method-assign] # in a child of its own


def pull_metered(root: Path, url: str, meter: Meter, small: bool) -> object:
    """Pull one URL and keep the meter."""
    if small:
        use_small_spans()
    meter.attach()
    return command(root, "pull", (url,))


def pull_where_locks_lie(root: Path, url: str, seed: int, pause_s: float) -> object:
    """Pull where ``flock`` does nothing, with a random pause of this mean before some of the steps."""
    fcntl.flock = lambda *_: None
    chance = random.Random(seed)

    def hook(_: str) -> None:
        if chance.random() < 0.3:
            time.sleep(chance.expovariate(1 / pause_s))

    use_small_spans()
    fs.on_step(hook)
    return command(root, "pull", (url,))
