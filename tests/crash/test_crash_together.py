"""Many processes at once: each file is fetched once, every process gets the right bytes, and nothing is left over."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelcask.layout import Layout
from origin import Origin
from zygote import Zygote, ended

MANY = 8
ONE, TWO = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(500_000)


@pytest.fixture
def root(yard: Path, new_root: Path) -> Iterator[Path]:
    path = yard / "together"
    shutil.copytree(new_root, path)
    yield path
    shutil.rmtree(path)


def pull_together(zygote: Zygote, root: Path, shares: list[tuple[str, ...]]) -> list[Any]:
    """Let one process for each share pull its URIs, all at the same time."""
    children = [zygote.start("kill_jobs:run_together", root, share) for share in shares]
    with ended(*children):
        for child in children:
            child.hears("ready")
        for child in children:
            child.tell("go")
        return [child.result() for child in children]


def check(zygote: Zygote, root: Path, files: dict[str, bytes]) -> None:
    assert zygote.run("kill_jobs:look_up", root, files) == dict.fromkeys(files, True)
    assert zygote.run("kill_jobs:find_lies", root) == []
    assert zygote.run("kill_jobs:find_litter", root) == []
    assert zygote.run("kill_jobs:find_orphans", root) == []
    layout = Layout(root)
    assert len(list(layout.blobs.glob("*/*"))) == len(set(files.values()))
    assert list(layout.partials.iterdir()) == []
    assert list(layout.quarantine.iterdir()) == []
    assert list(layout.locks.glob("uri-*")) == []
    assert list(layout.sessions.iterdir()) == []


def test_one_uri_is_fetched_once_however_many_want_it(zygote: Zygote, root: Path, origin: Origin) -> None:
    """All but one wait, and find it."""
    url = origin.add("/one", ONE)
    results = pull_together(zygote, root, [(url,)] * MANY)
    assert origin.bytes_served == len(ONE)
    assert sum(fetched for [(fetched, _)] in results) == len(ONE)
    check(zygote, root, {url: ONE})


def test_different_uris_of_the_same_promised_bytes_are_fetched_once(zygote: Zygote, root: Path, origin: Origin) -> None:
    """The digest is the identity, whatever the place."""
    pin = f"#sha256={hashlib.sha256(ONE).hexdigest()}"
    urls = [origin.add(f"/{number}", ONE) + pin for number in range(MANY)]
    pull_together(zygote, root, [(url,) for url in urls])
    assert origin.bytes_served == len(ONE)
    check(zygote, root, dict.fromkeys(urls, ONE))


def test_different_uris_of_the_same_bytes_are_one_blob(zygote: Zygote, root: Path, tmp_path: Path) -> None:
    """Nobody promised anything, so each is read; the first to be published stays, and nothing is taken for damaged."""
    files: dict[str, bytes] = {}
    for number in range(MANY):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(ONE)
        files[path.as_uri()] = ONE
    pull_together(zygote, root, [(uri,) for uri in files])
    check(zygote, root, files)


def test_the_same_and_others_in_every_order(zygote: Zygote, root: Path, origin: Origin, seed: int) -> None:
    """Each process wants several, in an order of its own: none waits for ever, and each file is served once."""
    files = {
        origin.add(f"/{number}", content): content for number, content in enumerate([ONE, TWO, ONE + TWO, TWO * 2])
    }
    chance = random.Random(seed)
    shares = [tuple(chance.sample(list(files), 3)) for _ in range(MANY)]
    pull_together(zygote, root, shares)
    asked = Counter(request.path for request in origin.requests if request.method == "GET")
    assert set(asked.values()) == {1}
    check(zygote, root, {uri: files[uri] for share in shares for uri in share})


def test_the_first_pull_of_many_makes_one_root(zygote: Zygote, yard: Path, tmp_path: Path) -> None:
    """There is no root yet, and no catalog: made once, by whoever comes first."""
    path = tmp_path / "model.bin"
    path.write_bytes(TWO)
    root = yard / "made-together"
    try:
        pull_together(zygote, root, [(path.as_uri(),)] * MANY)
        check(zygote, root, {path.as_uri(): TWO})
    finally:
        shutil.rmtree(root)
