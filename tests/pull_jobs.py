"""What the children of the campaigns do: pulls in many ranges, of small files too."""

from __future__ import annotations

import fcntl
import mmap
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from kill_jobs import command
from modelcask.fetch import plan, work
from modelcask.store import fs, ingest, stream
from zygote import say

SMALL_SEGMENT_BYTES = 64 << 10
SMALL_BLOCK_BYTES = 16 << 10


SMALL = (
    (stream, "BLOCK_BYTES", SMALL_BLOCK_BYTES),
    (ingest, "SEGMENT_BYTES", SMALL_SEGMENT_BYTES),
    (ingest, "CHECKPOINT_S", 0),
    (plan, "SPLIT_BYTES", 4 * SMALL_SEGMENT_BYTES),
    (plan, "SPAN_BYTES", (2 * SMALL_SEGMENT_BYTES, 8 * SMALL_SEGMENT_BYTES)),
    (work, "ALIGNMENT_BYTES", SMALL_BLOCK_BYTES),
)
"""What lets a few megabytes be fetched in as many ranges, and claimed in as many segments, as a large model is."""


def use_small_spans() -> None:
    """Do so in a child."""
    for module, name, value in SMALL:
        setattr(module, name, value)


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


def pull(root: Path, url: str, small: bool) -> object:
    """Pull one URL."""
    if small:
        use_small_spans()
    return command(root, "pull", (url,))


def pull_metered(root: Path, url: str, meter: Meter, small: bool) -> object:
    """Pull one URL and keep the meter."""
    meter.attach()
    return pull(root, url, small)


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


def run_command(url: str) -> int:
    """Run ``modelcask pull`` as the command does, in small spans, and return its exit code."""
    from modelcask_cli.__main__ import main  # noqa: PLC0415 - the other children need not pay for it

    use_small_spans()
    say("ready")
    try:
        return main(["pull", "-q", url])
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # before it had begun
