"""Bytes of the catalog are wrong: every command ends in an error that says what to do, and no wrong path is served."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelcask.errors import CacheError
from modelcask.layout import Layout
from modelcask.manager import ModelCache

Files = dict[str, bytes]
Broken = Callable[[], tuple[Layout, Files]]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Files]:
    """A root that nobody has open, and what each of its URIs means; two have one path's name, two have one blob."""
    folder = tmp_path_factory.mktemp("store")
    files: Files = {}
    for number, name in enumerate(("a/model.gguf", "b/model.gguf", "c.safetensors", "d.json", "e.json", "f.bin")):
        path = folder / "sources" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % min(number, 4) * 1000)
        files[path.as_uri()] = path.read_bytes()
    with ModelCache(folder / "cask") as cache:
        cache.pull(*files)
    return folder / "cask", files


@pytest.fixture
def broken(store: tuple[Path, Files], tmp_path: Path) -> Iterator[Broken]:
    """Put the whole catalog back each time; everything else is the same, so its stamps hold."""
    root, files = store

    def copy() -> tuple[Layout, Files]:
        for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
            (root / name).unlink(missing_ok=True)
        shutil.copy(tmp_path / "whole.db", root / "catalog.db")
        return Layout(root), files

    shutil.copy(root / "catalog.db", tmp_path / "whole.db")
    kept = {path: path.read_bytes() for path in root.glob("manifests/*/*.json")}
    yield copy
    copy()
    for path, content in kept.items():
        path.write_bytes(content)


def ways(cache: ModelCache, uri: str) -> list[Callable[[], Any]]:
    """Return everything else that reads the catalog, and what writes without deleting."""
    return [
        cache.list_snapshots,
        lambda: cache.list_snapshots("*model*", sort="size"),
        lambda: cache.show(uri),
        lambda: cache.get_path(uri),
        lambda: cache.plan_removal(uri),
        lambda: list(cache.verify(uri)),
    ]


def look_everywhere(layout: Layout, files: Files, what: str) -> int:
    """Use the catalog in every way; return how many of these failed. Only errors of ours, and no wrong byte."""
    failed = 0
    with ModelCache(layout.root) as cache:
        for uri, content in files.items():
            try:
                path = cache.lookup(uri)
            except CacheError:
                failed += 1
            except Exception as error:
                raise AssertionError(f"{what}: lookup raised {error!r}") from error
            else:
                assert path is None or path.read_bytes() == content, f"{what}: {uri} means {path}"
        for way in ways(cache, next(iter(files))):
            try:
                way()
            except CacheError:
                failed += 1
            except Exception as error:
                raise AssertionError(f"{what}: {error!r}") from error
        try:
            cache.diagnose()
        except Exception as error:
            raise AssertionError(f"{what}: doctor raised {error!r}") from error
    return failed


TEXTS = {
    "a state": b"present",
    "a level of trust": b"first-use",
    "a state of a revision": b"live",
    "a store": b"local",
    "a version": b"0001",
    "a revision": b"stat:",
    "a source": b"file://",
    "a path": b"model.gguf",
    "a digest's kind": b"sha256",
    "a digest's origin": b"computed",
    "a word of the catalog on itself": b"min_reader",
    "a column": b"entrypoint",
}


@pytest.mark.parametrize("change", [b"\xff", b"x", b"\0"], ids=["no text", "other text", "nothing"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_damaged_text_is_no_bug_of_ours(broken: Broken, text: bytes, change: bytes) -> None:
    """Wherever it stands: in rows, in indexes, in the schema. What was found by chance is a case here."""
    layout, files = broken()
    content = layout.catalog.read_bytes()
    assert text in content
    layout.catalog.write_bytes(content.replace(text, change + text[1:]))
    look_everywhere(layout, files, f"{text!r} with {change!r}")


def flip_bytes(broken: Broken, seed: int, rounds: int) -> int:
    rng = random.Random(seed)
    failed = 0
    for turn in range(rounds):
        layout, files = broken()
        content = bytearray(layout.catalog.read_bytes())
        # What is not filled with zeros: most of a small database is.
        used = [at for at in range(len(content)) if content[at]]
        places = sorted(rng.sample(used, rng.choice([1, 1, 1, 4, 64])))
        for at in places:
            content[at] ^= rng.choice([1, 2, 4, 8, 16, 32, 64, 128, 255])
        layout.catalog.write_bytes(content)
        failed += look_everywhere(layout, files, f"seed {seed}, turn {turn}, bytes {places}")
    return failed


def test_flipped_bytes_are_no_bug_of_ours(broken: Broken, seed: int) -> None:
    """Anywhere in the file, one or many at a time."""
    assert flip_bytes(broken, seed, 25) > 0


@pytest.mark.long
@pytest.mark.parametrize("turn", range(4))
def test_many_flipped_bytes_are_no_bug_of_ours(broken: Broken, seed: int, turn: int) -> None:
    """The same for longer."""
    flip_bytes(broken, seed + turn, 50)
