"""What the children of the campaigns do: pulls in many ranges, of small files too."""

from __future__ import annotations

import fcntl
import mmap
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from kill_jobs import command
from modelcask.fetch import plan, work
from modelcask.store import fs, ingest, stream
from modelcask.store.stream import Block, Stream
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
    """How far a pull has come, in a file, so that it outlives a kill."""

    path: Path

    def reset(self) -> None:
        self.path.write_bytes(bytes(24))

    @property
    def arrived_bytes(self) -> int:
        """What has come from the network."""
        return self._read(0)

    @property
    def taken_bytes(self) -> int:
        """What of it was handed over to be written."""
        return self._read(1)

    @property
    def connections(self) -> int:
        """How many spans were fetched at a time, at most."""
        return self._read(2)

    def _read(self, at: int) -> int:
        return int.from_bytes(self.path.read_bytes()[8 * at : 8 * at + 8], sys.byteorder)

    def attach(self) -> None:
        """Have this process's pull keep it."""
        with self.path.open("r+b") as file:
            kept = memoryview(mmap.mmap(file.fileno(), 24)).cast("Q")
        take_note, take = plan.Plan.arrived, ingest.Ingest.take

        def arrived(self: plan.Plan, ask: plan.Ask, start: int, count: int) -> None:
            kept[0] += count
            kept[2] = max(kept[2], len(self._work.spans))
            take_note(self, ask, start, count)

        def taken(self: ingest.Ingest, stream: Stream, block: Block, *, last: bool) -> None:
            kept[1] += block.size
            take(self, stream, block, last=last)

        plan.Plan.arrived = arrived  # type: ignore[method-assign] # in a child of its own
        ingest.Ingest.take = taken  # type: ignore[method-assign] # the same


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
