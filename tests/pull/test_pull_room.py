"""Room for whole jobs: no pull counts on bytes that another one is about to write, and a full disk keeps what came."""

from __future__ import annotations

import hashlib
import re
import threading
from pathlib import Path

import pytest

import modelcask
from behaviours import Chunked, CutAfter, Gate, HoldAfter, Normal
from modelcask.layout import Layout
from modelcask.store import fs, ingest, room
from modelcask.store.root import open_root
from origin import Origin
from zygote import Zygote, ended

SIZE = 4 << 20
FREE = 10_000_000
CONTENTS = [bytes([number]) + bytes(range(256)) * (SIZE // 256) for number in range(3)]


@pytest.fixture
def layout(cask: Path) -> Layout:
    made, _ = open_root(cask)
    return made


@pytest.fixture
def free(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have ten million bytes free, less what lies in the root; the list's only item can be changed."""
    disk = [FREE]

    def free_bytes(_: Path) -> int:
        return disk[0] - used(layout.root)

    monkeypatch.setattr(fs, "free_bytes", free_bytes)
    return disk


def used(root: Path) -> int:
    files = {}
    for path in [*root.glob("partial/*/data"), *root.glob("blobs/b3/*/*")]:
        found = path.stat()
        files[found.st_ino] = found.st_blocks * 512
    return sum(files.values())


def reservations(layout: Layout) -> list[Path]:
    return list(layout.locks.glob("room-*"))


def pull_many(root: Path, uris: list[str]) -> None:
    """Pull in a process of its own, one file at a time, on the same disk."""
    fs.free_bytes = lambda _: FREE - used(root)  # type: ignore[assignment] # in a child of its own
    with modelcask.ModelCache(root, settings=modelcask.load_settings(home=root, files_at_once=1)) as cache:
        cache.pull(*uris)


@pytest.mark.usefixtures("free")
def test_two_uris_of_one_pull_do_not_both_count_on_the_last_room(origin: Origin, layout: Layout) -> None:
    """Each fits alone, not the three: two come, and of the third not one byte is asked for."""
    uris = [origin.add(f"/{number}.bin", content) for number, content in enumerate(CONTENTS)]
    with (
        modelcask.ModelCache(settings=modelcask.load_settings(files_at_once=1)) as cache,
        pytest.raises(modelcask.StoreFullError) as caught,
    ):
        cache.pull(*uris)
    assert caught.value.needed == len(CONTENTS[0])
    with modelcask.ModelCache() as cache:
        assert sum(cache.lookup(uri) is not None for uri in uris) == 2
    assert origin.bytes_served == 2 * len(CONTENTS[0])
    assert reservations(layout) == []


def test_a_file_under_two_uris_needs_its_room_once(origin: Origin, free: list[int]) -> None:
    """The pinned digest says that it is the same: there is room for one of it, and both are cached."""
    free[0] = len(CONTENTS[0]) * 3 // 2
    pin = f"#sha256={hashlib.sha256(CONTENTS[0]).hexdigest()}"
    uris = [origin.add(f"/{name}.bin", CONTENTS[0]) + pin for name in "ab"]
    with modelcask.ModelCache() as cache:
        assert len(cache.pull(*uris)) == 2
    assert origin.bytes_served == len(CONTENTS[0])


@pytest.mark.usefixtures("free")
def test_what_another_process_is_about_to_fetch_counts(origin: Origin, layout: Layout, zygote: Zygote) -> None:
    """It fetches one file while the other waits its turn; killed, what it had not fetched yet is free again."""
    gate = Gate()
    theirs = [
        origin.add(f"/{number}.bin", content, behaviours=[HoldAfter(1000, gate)])
        for number, content in enumerate(CONTENTS[:2])
    ]
    ours = origin.add("/ours.bin", CONTENTS[2])
    child = zygote.start("pull.test_pull_room:pull_many", layout.root, theirs)
    with ended(child), modelcask.ModelCache() as cache:
        gate.wait()
        with pytest.raises(modelcask.StoreFullError) as caught:
            cache.pull(ours)
        assert caught.value.reserved == pytest.approx(len(CONTENTS[1]), abs=8192)
        assert "reserved by other downloads" in str(caught.value)
        child.kill()
        child.wait()
        assert cache.pull(ours)[0].path.read_bytes() == CONTENTS[2]
        gate.open()
    assert reservations(layout) == []


def test_a_partial_that_is_taken_up_again_needs_the_rest_only(origin: Origin, free: list[int]) -> None:
    """It is preallocated: on a disk that has no room for anything else it comes to its end."""
    settings = modelcask.load_settings(retries=0)
    uri = origin.add("/m.bin", CONTENTS[0], behaviours=[CutAfter(SIZE // 2), Normal()])
    with modelcask.ModelCache(settings=settings) as cache:
        with pytest.raises(modelcask.TransferError):
            cache.pull(uri)
        free[0] = len(CONTENTS[0]) + 4096
        assert cache.pull(uri)[0].path.read_bytes() == CONTENTS[0]


@pytest.mark.usefixtures("free")
def test_nothing_is_reserved_any_more_when_the_files_are_there(origin: Origin, layout: Layout) -> None:
    """Already while the revision is recorded; and while the bytes came, it was."""
    gate = Gate()
    seen: dict[str, int] = {}
    uri = origin.add("/m.bin", CONTENTS[0], behaviours=[HoldAfter(1000, gate)])

    def look(step: str) -> None:
        if step.startswith("manifest."):
            seen["recording"] = len(reservations(layout))

    thread = threading.Thread(target=modelcask.pull, args=(uri,))
    fs.on_step(look)
    try:
        thread.start()
        gate.wait()
        seen["fetching"] = len(reservations(layout))
        gate.open()
        thread.join()
    finally:
        fs.on_step(None)
    assert seen == {"fetching": 1, "recording": 0}


def test_a_download_of_unknown_size_stops_before_the_last_byte(
    origin: Origin, layout: Layout, free: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The floor stays free, the error says how much of which file is kept, and with room the pull goes on there."""
    monkeypatch.setattr(room, "_floor", lambda _: 1 << 20)
    monkeypatch.setattr(ingest, "SEGMENT_BYTES", 1 << 20)
    free[0] = 3 << 20
    uri = origin.add("/m.bin", CONTENTS[0], behaviours=[Chunked()])
    with modelcask.ModelCache() as cache:
        with pytest.raises(modelcask.StoreFullError) as caught:
            cache.pull(uri)
        assert fs.free_bytes(layout.root) >= 1 << 20
        kept = caught.value.bytes_kept
        assert 1 << 20 <= kept <= 2 << 20
        assert str(caught.value).startswith("m.bin: not enough space")
        assert f"{kept:,} bytes of it are kept; free some, then pull again to go on from there" in str(caught.value)
        free[0] = FREE
        [snapshot] = cache.pull(uri)
    assert snapshot.path.read_bytes() == CONTENTS[0]
    assert snapshot.bytes_reused == kept
    assert origin.requests[-1].headers["Range"] == f"bytes={kept}-"


def test_what_grows_leaves_alone_what_others_have_reserved(origin: Origin, layout: Layout, free: list[int]) -> None:
    """A file of unknown size is refused where it would need the room of one that is on its way."""
    gate = Gate()
    free[0] = 7 << 20
    other = room.Reservation(layout)
    other.take({"0" * 64: 4 << 20})
    uri = origin.add("/m.bin", CONTENTS[0], behaviours=[(Chunked(), HoldAfter(SIZE // 2, gate)), (Chunked(),)])
    gate.open()
    with modelcask.ModelCache() as cache:
        with pytest.raises(modelcask.StoreFullError) as caught:
            cache.pull(uri)
        assert caught.value.reserved == 4 << 20
        other.release()
        free[0] += 2 * room.FLOOR_BYTES
        assert cache.pull(uri)[0].path.read_bytes() == CONTENTS[0]


def test_a_local_file_that_must_be_copied_is_refused_before_the_first_byte(
    layout: Layout, free: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only then is it known that no blocks are shared; nothing of it is left."""
    monkeypatch.setattr("modelcask.store.system.clone_file", lambda *_: False)
    written: list[str] = []
    fs.on_step(lambda step: written.append(step) if step == "partial.data.write" else None)
    model = tmp_path / "m.bin"
    model.write_bytes(CONTENTS[0])
    free[0] = SIZE
    try:
        with modelcask.ModelCache() as cache, pytest.raises(modelcask.StoreFullError) as caught:
            cache.pull(model.as_uri())
    finally:
        fs.on_step(None)
    assert caught.value.needed == len(CONTENTS[0])
    assert re.search(r"nothing of it is kept; free some, .* then pull again", str(caught.value))
    assert written == []
    assert list(layout.partials.iterdir()) == []


def test_a_pull_that_is_cancelled_while_it_reserves_keeps_no_room(
    origin: Origin, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread may come to the end of that only afterwards: nobody would give back what it took then."""
    token = modelcask.CancelToken()

    def free_bytes(_: Path) -> int:
        token.cancel()
        return FREE

    monkeypatch.setattr(fs, "free_bytes", free_bytes)
    with modelcask.ModelCache() as cache, pytest.raises(modelcask.PullCancelledError):
        cache.pull(origin.add("/m.bin", CONTENTS[0]), cancel=token)
    assert reservations(layout) == []


@pytest.mark.usefixtures("free")
def test_a_cancelled_pull_gives_its_room_back(origin: Origin, layout: Layout) -> None:
    """At once, not when its process ends."""
    gate = Gate()
    uri = origin.add("/m.bin", CONTENTS[0], behaviours=[HoldAfter(1000, gate)])
    token = modelcask.CancelToken()
    errors: list[BaseException] = []

    def pull() -> None:
        try:
            modelcask.ModelCache().pull(uri, cancel=token)
        except modelcask.CacheError as error:
            errors.append(error)

    thread = threading.Thread(target=pull)
    thread.start()
    gate.wait()
    assert len(reservations(layout)) == 1
    token.cancel()
    thread.join()
    gate.open()
    assert [type(error) for error in errors] == [modelcask.PullCancelledError]
    assert reservations(layout) == []
