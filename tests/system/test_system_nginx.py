"""Pulling from nginx, the server that most models lie behind."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import modelcask
from modelcask.store.journal import claimed_bytes
from system.command import PROGRAM, run
from system.nginx import MISSING, Asked, Nginx

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SIZE = 64 << 20
SEGMENT_BYTES = 8 << 20

# Below /slow/ each answer comes slowly.
SERVER = """
location /slow/ { limit_rate 4m; }
location /pressed/ { gzip on; gzip_types *; gzip_min_length 1; }
location /listed/ { autoindex on; }
location = /moved.gguf { return 302 /model.gguf?signature=abc; }
location = /secret.gguf { deny all; }
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(tmp_path / "nginx", SERVER) as nginx:
        yield nginx


@pytest.fixture
def cache() -> Iterator[modelcask.ModelCache]:
    with modelcask.ModelCache() as cache:
        yield cache


def put(nginx: Nginx, name: str, content: bytes) -> str:
    """Serve a file from now on, in place of what was there; return its URL."""
    path = nginx.files / name
    path.parent.mkdir(exist_ok=True)
    aside = nginx.files / "aside"
    aside.write_bytes(content)
    aside.replace(path)
    return f"{nginx.url}/{name}"


def etag(nginx: Nginx, name: str) -> str:
    """Return the ETag that nginx gives to a file: its time in seconds and its size."""
    found = (nginx.files / name).stat()
    return f'"{int(found.st_mtime):x}-{found.st_size:x}"'


def until(found: Callable[[], bool], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def begin(uri: str, cask: Path) -> subprocess.Popen[str]:
    """Start a pull, and return when it is in the middle: at least two segments stand in its journal."""
    child = subprocess.Popen([*PROGRAM, "pull", "-q", uri], stdout=subprocess.PIPE, text=True)

    def is_in_the_middle() -> bool:
        assert child.poll() is None, "the pull has ended"
        return kept(cask) >= 2 * SEGMENT_BYTES

    until(is_in_the_middle)
    return child


def kept(cask: Path) -> int:
    """Return how many bytes of unfinished files are noted as safe on the disk."""
    return sum(map(claimed_bytes, (cask / "partial").glob("*/journal")))


def run_log(cask: Path) -> list[modelcask.AttemptRow]:
    with modelcask.ModelCache(cask) as cache:
        return cache.list_attempts()


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def asked_until(nginx: Nginx, gets: int) -> list[Asked]:
    """Return the log once that many GETs are in it: nginx notices late that a reader was killed."""
    log: list[Asked] = []

    def is_whole() -> bool:
        log.extend(nginx.asked())
        return sum(asked.method == "GET" for asked in log) >= gets

    until(is_whole)
    return log


def test_a_large_file_arrives_whole_under_the_revision_that_nginx_names(
    nginx: Nginx, cache: modelcask.ModelCache
) -> None:
    """One HEAD and ranges that nginx grants; the strong ETag is the revision, and asking again costs no bytes."""
    content = os.urandom(SIZE)
    uri = put(nginx, "model.gguf", content)
    [snapshot] = cache.pull(uri)

    assert snapshot.path.read_bytes() == content
    assert snapshot.revision == f"etag:{etag(nginx, 'model.gguf')[1:-1]}"
    head, *ranges = nginx.asked()
    assert (head.method, head.body_bytes) == ("HEAD", 0)
    assert {(asked.method, asked.status, asked.if_range) for asked in ranges} == {
        ("GET", 206, etag(nginx, "model.gguf"))
    }
    assert sum(asked.body_bytes for asked in ranges) >= SIZE
    [again] = cache.pull(uri, refresh=True)
    assert (again.path, again.bytes_fetched) == (snapshot.path, 0)
    assert [(asked.method, asked.body_bytes) for asked in nginx.asked()] == [("HEAD", 0)]
    assert cache.pull(uri)[0].path == snapshot.path
    assert nginx.asked() == []


def test_a_killed_pull_goes_on_where_it_stopped(nginx: Nginx, cache: modelcask.ModelCache, cask: Path) -> None:
    """SIGKILL in mid-download: the next one asks for the rest, under If-Range, and takes no more."""
    content = os.urandom(SIZE)
    uri = put(nginx, "slow/model.gguf", content)
    kill(begin(uri, cask))
    start = kept(cask)
    [snapshot] = cache.pull(uri)

    assert snapshot.path.read_bytes() == content
    assert list((cask / "partial").iterdir()) == []
    gets = [asked for asked in asked_until(nginx, 2) if asked.method == "GET"]
    assert {(asked.status, asked.if_range) for asked in gets} == {(206, etag(nginx, "slow/model.gguf"))}
    # What came too much before the far half of a span was given to another connection is thrown away.
    assert 0 < snapshot.bytes_fetched < SIZE - start + SEGMENT_BYTES


def test_a_file_that_was_replaced_after_the_kill_is_fetched_whole(
    nginx: Nginx, cache: modelcask.ModelCache, cask: Path
) -> None:
    """The kept part belongs to another revision: nothing of it is used, and the new bytes are right."""
    old, new = os.urandom(SIZE), os.urandom(5_000_000)
    uri = put(nginx, "slow/model.gguf", old)
    before = etag(nginx, "slow/model.gguf")
    kill(begin(uri, cask))
    put(nginx, "slow/model.gguf", new)
    [snapshot] = cache.pull(uri)

    assert snapshot.path.read_bytes() == new
    assert (snapshot.bytes_fetched, snapshot.bytes_reused) == (len(new), 0)
    assert {asked.if_range for asked in asked_until(nginx, 2) if asked.range} <= {before}


def test_a_file_that_is_replaced_in_mid_download_is_fetched_whole(nginx: Nginx, cask: Path) -> None:
    """nginx dies and comes back with another file: If-Range brings the new one, and never a splice of the two."""
    old, new = os.urandom(SIZE), os.urandom(5_000_000)
    uri = put(nginx, "slow/model.gguf", old)
    before = etag(nginx, "slow/model.gguf")
    child = begin(uri, cask)
    nginx.kill()
    put(nginx, "slow/model.gguf", new)
    nginx.start()
    out, _ = child.communicate(timeout=120)

    assert Path(out.strip()).read_bytes() == new
    assert (200, before) in {(asked.status, asked.if_range) for asked in nginx.asked() if asked.range}
    assert run("path", uri).path.read_bytes() == new


def test_nginx_that_dies_and_comes_back_loses_no_bytes(nginx: Nginx, cask: Path) -> None:
    """The same file is there again: the running pull asks for the rest by itself."""
    content = os.urandom(SIZE)
    uri = put(nginx, "slow/model.gguf", content)
    child = begin(uri, cask)
    nginx.kill()
    nginx.start()
    out, _ = child.communicate(timeout=120)

    assert Path(out.strip()).read_bytes() == content
    log = [asked for asked in nginx.asked() if asked.range]
    assert {(asked.status, asked.if_range) for asked in log} == {(206, etag(nginx, "slow/model.gguf"))}
    [row] = run_log(cask)
    assert row.outcome is modelcask.Outcome.DONE
    assert row.bytes_fetched < SIZE + 2 * SEGMENT_BYTES


def test_compression_switched_on_does_not_touch_a_model(nginx: Nginx, cache: modelcask.ModelCache) -> None:
    """nginx presses the file for whoever allows it; modelcask asks for it as it is, so its ETag stays strong."""
    content = b"0123456789abcdef" * 100_000
    uri = put(nginx, "pressed/model.gguf", content)
    other = nginx.get("/pressed/model.gguf", Accept_Encoding="gzip")
    assert (other["Content-Encoding"], other["ETag"][:2]) == ("gzip", "W/")
    [snapshot] = cache.pull(uri)

    assert snapshot.path.read_bytes() == content
    assert snapshot.revision == f"etag:{etag(nginx, 'pressed/model.gguf')[1:-1]}"
    assert nginx.asked()[-1].body_bytes == len(content)


def test_a_redirect_is_followed_and_forgotten(nginx: Nginx, cache: modelcask.ModelCache, cask: Path) -> None:
    """The file keeps the name and the URI that were asked for; where it lay behind a signature is stored nowhere."""
    content = os.urandom(1_000_000)
    put(nginx, "model.gguf", content)
    uri = f"{nginx.url}/moved.gguf"
    [snapshot] = cache.pull(uri)

    assert snapshot.path.name == "moved.gguf"
    assert snapshot.path.read_bytes() == content
    assert cache.lookup(uri) == snapshot.path
    assert cache.lookup(f"{nginx.url}/model.gguf") is None
    cache.close()
    stored = b"".join(path.read_bytes() for path in cask.rglob("*") if path.is_file())
    assert b"moved.gguf" in stored
    assert b"signature" not in stored


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("absent.gguf", 3, "404"),
        ("secret.gguf", 7, "403"),
        ("listed/folder.gguf", 6, "is a web page, not the file"),
    ],
)
def test_an_answer_that_is_no_model_is_refused(
    nginx: Nginx, cache: modelcask.ModelCache, name: str, code: int, told: str
) -> None:
    """nginx's pages for what is missing, denied or a folder never become a model."""
    (nginx.files / "listed" / "folder.gguf").mkdir(parents=True)
    with pytest.raises(modelcask.CacheError, match=told) as caught:
        cache.pull(f"{nginx.url}/{name}")

    assert caught.value.exit_code == code
    assert list((cache.root / "blobs").glob("b3/*/*")) == []
