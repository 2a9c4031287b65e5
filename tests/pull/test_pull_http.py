"""Pulling from plain URLs: the whole way from a server to a path."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

import modelcask
from behaviours import CutAfter, FlipByte, Gate, HoldAfter, Normal, Replaced, StallAfter, Status, WeakETag, throttle
from modelcask import Phase
from modelcask.store import fs, journal
from modelcask.store.ingest import SEGMENT_BYTES
from origin import Origin

CONTENT = bytes(range(256)) * 40_000  # 10 MB: more than one segment


@pytest.fixture
def cache() -> Iterator[modelcask.ModelCache]:
    with modelcask.ModelCache(settings=modelcask.load_settings(stall_timeout_s=2.0)) as cache:
        yield cache


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def blobs(cask: Path) -> list[Path]:
    return sorted((cask / "blobs").glob("b3/*/*"))


def test_a_pull_gives_the_bytes_and_later_lookups_need_no_server(cache: modelcask.ModelCache, cask: Path):
    """What was pulled once is found again with the server gone, under its own name, read-only."""
    with Origin() as origin:
        uri = origin.add("/models/tiny.gguf", CONTENT)
        [snapshot] = cache.pull(uri)

    assert snapshot.path.name == "tiny.gguf"
    assert snapshot.path.read_bytes() == CONTENT
    assert (snapshot.bytes_fetched, snapshot.bytes_reused) == (len(CONTENT), 0)
    assert cache.lookup(uri) == snapshot.path
    assert cache.pull(uri)[0].bytes_fetched == 0
    assert [path.stat().st_mode & 0o777 for path in blobs(cask)] == [0o444]
    assert list((cask / "partial").iterdir()) == []


def test_a_connection_cut_in_the_middle_is_taken_up_where_it_ended(cache: modelcask.ModelCache):
    """After a cut only the missing bytes are fetched."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT, behaviours=[CutAfter(6_000_000), Normal()])
        events: list[modelcask.Progress] = []
        [snapshot] = cache.pull(uri, progress=events.append)
        ranges = [request.headers.get("Range") for request in origin.requests if request.method == "GET"]

    assert snapshot.path.read_bytes() == CONTENT
    assert ranges[0] is None
    assert ranges[1] is not None
    assert origin.bytes_served < len(CONTENT) + 2_000_000
    assert Phase.RETRYING in {event.phase for event in events}
    done = [event.bytes_done for event in events if event.phase is Phase.DOWNLOADING]
    assert done == sorted(done)


def test_a_killed_process_loses_no_finished_segment(cache: modelcask.ModelCache, cask: Path):
    """SIGKILL in mid-download: the next process checks what was claimed and fetches only the rest."""
    content = os.urandom(64 << 20)
    with Origin() as origin:
        uri = origin.add("/m.bin", content, behaviours=[throttle(4 << 20)])
        child = subprocess.Popen([sys.executable, "-c", "import sys, modelcask; modelcask.pull(sys.argv[1])", uri])
        try:
            [partial] = _until(lambda: [p for p in (cask / "partial").glob("*/journal") if p.stat().st_size >= 32 * 3])
        finally:
            child.kill()
            child.wait()
        claimed = sum(segment.length for segment in journal.read(partial))
        origin.add("/m.bin", content)
        [snapshot] = cache.pull(uri)

    assert snapshot.path.read_bytes() == content
    # What a connection has sent too much, before the rest of its span was given to another one, is thrown away.
    assert 0 < snapshot.bytes_fetched < len(content) - claimed + SEGMENT_BYTES
    assert claimed < snapshot.bytes_reused + SEGMENT_BYTES
    assert list((cask / "partial").iterdir()) == []


def _until(found: Callable[[], list[Path]], timeout_s: float = 60.0) -> list[Path]:
    end = time.monotonic() + timeout_s
    while not (result := found()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
    return result


def test_an_interrupted_pull_keeps_what_arrived():
    """When the tries are used up the error says how much is kept, and the next pull goes on from there."""
    with Origin() as origin:
        settings = modelcask.load_settings(retries=0)
        uri = origin.add("/m.bin", CONTENT, behaviours=[CutAfter(6_000_000), Normal()])
        with modelcask.ModelCache(settings=settings) as cache:
            with pytest.raises(modelcask.ConnectionInterruptedError) as caught:
                cache.pull(uri)
            [snapshot] = cache.pull(uri)

    assert 0 < caught.value.bytes_kept <= 6_000_000
    assert snapshot.bytes_fetched == len(CONTENT) - caught.value.bytes_kept
    assert snapshot.path.read_bytes() == CONTENT


def test_a_flipped_byte_is_refused_and_nothing_is_published(cache: modelcask.ModelCache, cask: Path):
    """With a pinned digest one wrong byte is an error with both digests, and the cache stays as it was."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT, behaviours=[FlipByte(5_000_000)]) + f"#sha256={sha256(CONTENT)}"
        with pytest.raises(modelcask.DigestMismatchError) as caught:
            cache.pull(uri)

    assert caught.value.expected == f"sha256:{sha256(CONTENT)}"
    assert caught.value.actual != caught.value.expected
    assert caught.value.exit_code == 4
    assert cache.lookup(uri) is None
    assert blobs(cask) == []
    assert list((cask / "partial").iterdir()) == []


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_a_pinned_file_that_is_held_costs_nothing_from_any_source(
    cache: modelcask.ModelCache, algorithm: str, tmp_path: Path
):
    """A digest that the store has proved is never downloaded again, not even asked for."""
    local = tmp_path / "model.bin"
    local.write_bytes(CONTENT)
    cache.pull(local.as_uri())
    pin = {"sha256": sha256(CONTENT), "blake3": blake3(CONTENT).hexdigest()}[algorithm]
    with Origin() as origin:
        uri = origin.add("/other/name.bin", CONTENT) + f"#{algorithm}={pin}"
        [snapshot] = cache.pull(uri)

        assert origin.requests == []
    assert (snapshot.bytes_fetched, snapshot.bytes_reused) == (0, len(CONTENT))
    assert snapshot.path.name == "name.bin"
    assert snapshot.path.read_bytes() == CONTENT
    assert cache.lookup(uri) == snapshot.path
    assert snapshot.entries[0].trust is modelcask.TrustLevel.PINNED


def test_refresh_fetches_only_what_changed(cache: modelcask.ModelCache):
    """With refresh an unchanged ETag costs no bytes, and a new one gives the new bytes, the old ones kept."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT)
        [first] = cache.pull(uri)
        [same] = cache.pull(uri, refresh=True)
        origin.add("/m.bin", CONTENT[::-1])
        [stale] = cache.pull(uri)
        [fresh] = cache.pull(uri, refresh=True)

    assert (same.bytes_fetched, same.path) == (0, first.path)
    assert stale.path == first.path
    assert fresh.path.read_bytes() == CONTENT[::-1]
    assert first.path.read_bytes() == CONTENT
    assert cache.lookup(uri) == fresh.path


def test_a_file_that_changes_while_it_is_fetched_is_fetched_whole_again(cache: modelcask.ModelCache):
    """Two versions are never spliced: the pull ends with one of them, whole."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT, behaviours=[CutAfter(6_000_000), Replaced(CONTENT[::-1])])
        [snapshot] = cache.pull(uri)

    assert snapshot.path.read_bytes() == CONTENT[::-1]


def test_without_a_strong_validator_nothing_is_resumed(cache: modelcask.ModelCache):
    """A weak ETag proves nothing, so a cut transfer begins again."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT, behaviours=[(WeakETag(), CutAfter(6_000_000)), WeakETag()])
        [snapshot] = cache.pull(uri)
        ranges = [request.headers.get("Range") for request in origin.requests if request.method == "GET"]

    assert ranges == [None, None]
    assert snapshot.path.read_bytes() == CONTENT
    assert snapshot.revision == f"sha256:{sha256(CONTENT)}"


def test_a_stalled_connection_is_dropped_and_taken_up(cache: modelcask.ModelCache):
    """A server that falls silent does not hold a pull for ever."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT, behaviours=[StallAfter(3_000_000), Normal()])
        [snapshot] = cache.pull(uri)

    assert snapshot.path.read_bytes() == CONTENT


def test_one_bad_uri_does_not_stop_the_others(cache: modelcask.ModelCache):
    """Of several URIs the good ones are cached, and the error is the bad one's."""
    with Origin() as origin:
        good = origin.add("/good.bin", CONTENT)
        bad = origin.add("/bad.bin", b"", behaviours=[Status(404)])
        with pytest.raises(modelcask.ModelNotFoundError):
            cache.pull(bad, good)

    assert cache.lookup(good) is not None
    assert cache.lookup(bad) is None


def test_offline_answers_from_the_cache_and_says_what_is_missing(cache: modelcask.ModelCache):
    """With the network forbidden, what is cached is given and the rest is an OfflineError."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT)
        [snapshot] = cache.pull(uri)
        with modelcask.ModelCache(settings=modelcask.load_settings(offline=True)) as offline:
            assert offline.pull(uri)[0].path == snapshot.path
            with pytest.raises(modelcask.OfflineError):
                offline.pull(origin.add("/other.bin", CONTENT))


def test_a_disk_without_room_fails_before_the_first_byte(cache: modelcask.ModelCache, monkeypatch: pytest.MonkeyPatch):
    """A file larger than the free space is refused with the missing amount, and no byte is fetched."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT)
        monkeypatch.setattr(fs, "free_bytes", lambda _: 1_000_000)
        with pytest.raises(modelcask.StoreFullError) as caught:
            cache.pull(uri)

        assert origin.bytes_served == 0
    assert (caught.value.needed, caught.value.available) == (len(CONTENT), 1_000_000)


def test_an_empty_file_is_a_file(cache: modelcask.ModelCache):
    """Zero bytes are cached like any others."""
    with Origin() as origin:
        [snapshot] = cache.pull(origin.add("/empty.bin", b""))

    assert snapshot.path.read_bytes() == b""


def test_several_processes_that_want_one_file_fetch_it_once():
    """Single flight: the others wait and find it."""
    gate = Gate()
    script = "import sys, json, modelcask\nprint(modelcask.get(sys.argv[1]))"
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT, behaviours=[HoldAfter(1_000_000, gate), Normal()])
        children = [subprocess.Popen([sys.executable, "-c", script, uri], stdout=subprocess.PIPE) for _ in range(4)]
        gate.wait()
        gate.open()
        paths = {child.communicate(timeout=120)[0].decode().strip() for child in children}

        assert origin.bytes_served == len(CONTENT)
    assert [child.returncode for child in children] == [0] * 4
    [path] = paths
    assert Path(path).read_bytes() == CONTENT


def test_a_damaged_blob_is_noticed_quarantined_and_healed_by_a_pull(cache: modelcask.ModelCache, cask: Path):
    """Bytes that change behind our back are never served; the evidence is kept and a pull brings good ones."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT)
        [snapshot] = cache.pull(uri)
        [blob] = blobs(cask)
        blob.chmod(0o644)
        blob.write_bytes(CONTENT[:-1] + b"!")

        assert cache.lookup(uri) is None
        assert len(list((cask / "quarantine").iterdir())) == 1
        [healed] = cache.pull(uri)
    assert healed.path.read_bytes() == CONTENT
    assert cache.lookup(uri) == snapshot.path


def test_a_touched_blob_is_proved_again_and_served(cache: modelcask.ModelCache, cask: Path):
    """A changed time is no damage: the bytes are hashed again and the lookup answers."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT)
        [snapshot] = cache.pull(uri)
    [blob] = blobs(cask)
    os.utime(blob, (1, 1))

    assert cache.lookup(uri) == snapshot.path
    assert [check for check in cache.diagnose() if check.health is modelcask.Health.FAILURE] == []


def test_a_lost_snapshot_link_is_made_again(cache: modelcask.ModelCache):
    """Links hold nothing of their own: a lookup puts a missing one back."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT)
        [snapshot] = cache.pull(uri)
    snapshot.path.unlink()

    assert cache.lookup(uri) == snapshot.path
    assert snapshot.path.read_bytes() == CONTENT


def test_a_removed_model_frees_its_bytes_unless_somebody_uses_them(cache: modelcask.ModelCache, cask: Path):
    """rm gives the space back, but not under a process that was given the path."""
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT)
        script = "import sys, modelcask\nprint(modelcask.get(sys.argv[1]), flush=True)\nsys.stdin.read()"
        user = subprocess.Popen(
            [sys.executable, "-c", script, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert user.stdin is not None
        assert user.stdout is not None
        path = Path(user.stdout.readline().strip())
        blob = path.resolve()
        removal = cache.remove(cache.plan_removal(uri))

        assert cache.lookup(uri) is None
        assert removal.bytes_freed == 0
        assert len(removal.in_use) == 1
        assert blob.read_bytes() == CONTENT
        user.stdin.close()
        user.wait()
        user.stdout.close()
        cache.pull(uri)
    removal = cache.remove(cache.plan_removal(uri))
    assert removal.bytes_freed == len(CONTENT)
    assert blobs(cask) == []


def test_progress_is_json_serialisable_facts(cache: modelcask.ModelCache):
    """Every event names its URI and file and ends with DONE."""
    events: list[modelcask.Progress] = []
    with Origin() as origin:
        uri = origin.add("/m.bin", CONTENT)
        cache.pull(uri, progress=events.append)

    assert events[0].phase is Phase.RESOLVING
    assert events[-1].phase is Phase.DONE
    assert events[-1].bytes_done == len(CONTENT)
    assert {event.uri for event in events} == {cache.parse(uri).canonical}
    json.dumps([event.message for event in events])
