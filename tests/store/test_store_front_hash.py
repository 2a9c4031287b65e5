"""The digests of a file follow its front, whatever the order of its bytes, and leave the lane to others in between."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingests import spans
from modelcask.errors import StorageError
from modelcask.store import front_hash
from modelcask.store.front_hash import FrontHash

BLOCK = 10


@pytest.fixture(scope="module")
def lane() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_hash, "BLOCK_BYTES", BLOCK)


def nothing() -> None:
    pass


@pytest.mark.usefixtures("_small")
@settings(deadline=None)
@given(size=st.integers(0, 300), seed=st.integers(0, 1 << 32))
def test_any_order_gives_the_same_digests(lane: ThreadPoolExecutor, size: int, seed: int) -> None:
    """Each block offered while it is in memory, taken or not, and written after any other: all are hashed once."""
    chance = random.Random(seed)
    content = chance.randbytes(size)
    done: list[int] = []
    hashed = FrontHash(lane, ["sha256"], size, lambda offset, length: content[offset : offset + length])
    offsets = list(range(0, size, BLOCK))
    written = spans()
    taken = []
    for offset in sorted(offsets, key=lambda offset: offset + chance.randint(0, 100)):
        block = content[offset : offset + BLOCK]
        if hashed.feed(offset, [block[:3], block[3:]], len(block), lambda offset=offset: done.append(offset)):  # type: ignore[misc] # a default binds the loop's name
            taken.append(offset)
        written.add(offset, offset + len(block))
        hashed.follow(written)
    hashed.idle.result()
    assert hashed.hashed_bytes == size
    assert hashed.digests()["sha256"].hex == hashlib.sha256(content).hexdigest()
    assert sorted(done) == sorted(taken)


def test_one_that_has_much_to_read_back_lets_others_pass(lane: ThreadPoolExecutor) -> None:
    """A file on the same lane is hashed to its end while a hundred gigabytes of another are not."""
    go_on = threading.Event()

    def read(_offset: int, length: int) -> bytes:
        go_on.wait()
        return bytes(length)

    long, short = FrontHash(lane, [], None, read), FrontHash(lane, ["sha256"], 3, read)
    reached: list[int] = []
    long.follow(spans((0, 100 << 30)))
    assert short.feed(0, [b"abc"], 3, lambda: reached.append(long.hashed_bytes))
    go_on.set()
    short.idle.result()
    long.stop()
    long.idle.result()
    assert reached == [front_hash._BLOCKS_A_TURN * front_hash.BLOCK_BYTES]
    assert short.digests()["sha256"].hex == hashlib.sha256(b"abc").hexdigest()


def test_what_waits_in_memory_is_bounded(lane: ThreadPoolExecutor) -> None:
    """A hash that is behind takes no more blocks; they are read back later."""
    go_on = threading.Event()
    lane.submit(go_on.wait)
    hashed = FrontHash(lane, [], None, lambda _, length: bytes(length))
    taken = [hashed.feed(at * BLOCK, [bytes(BLOCK)], BLOCK, nothing) for at in range(20)]
    hashed.follow(spans((0, 20 * BLOCK)))
    go_on.set()
    hashed.idle.result()
    assert taken == [at < front_hash._BLOCKS_QUEUED for at in range(20)]
    assert hashed.hashed_bytes == 20 * BLOCK


def test_a_stop_lets_go_of_what_waits(lane: ThreadPoolExecutor) -> None:
    """Its memory is free again at once, and nothing more is hashed."""
    go_on = threading.Event()
    lane.submit(go_on.wait)
    done: list[int] = []
    hashed = FrontHash(lane, [], None, lambda _, length: bytes(length))
    assert hashed.feed(0, [bytes(BLOCK)], BLOCK, lambda: done.append(0))
    hashed.stop()
    assert hashed.feed(BLOCK, [bytes(BLOCK)], BLOCK, lambda: done.append(1))
    go_on.set()
    hashed.idle.result()
    assert done == [0, 1]
    assert hashed.hashed_bytes == 0
    hashed.follow(spans((0, 100)))
    hashed.idle.result()
    assert hashed.hashed_bytes == 0


def test_what_cannot_be_read_back_is_told(lane: ThreadPoolExecutor) -> None:
    """An error of the disk, or a file that somebody has cut: the digests would be of something else."""

    def fail(_offset: int, _length: int) -> bytes:
        raise StorageError("the disk")

    for read, message in ((fail, "the disk"), (lambda *_: b"", "shorter")):
        done: list[int] = []
        hashed = FrontHash(lane, [], None, read)
        hashed.follow(spans((0, BLOCK)))
        hashed.feed(BLOCK, [bytes(BLOCK)], BLOCK, lambda done=done: done.append(0))  # type: ignore[misc] # the same
        hashed.idle.result()
        assert isinstance(hashed.error, StorageError)
        assert message in str(hashed.error)
        assert hashed.hashed_bytes == 0
        assert done == [0]
