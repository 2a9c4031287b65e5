"""Blobs, entries and records for the catalog's tests, each the same for the same number."""

import hashlib
import random
from collections.abc import Iterable
from dataclasses import replace

from modelcask.catalog.catalog import Catalog, NewBlob, RevisionRecord
from modelcask.digest import Digest
from modelcask.types import Entry, ReplicaState, StatStamp, TrustLevel

SOURCE = "hf://org/repo"
HOUR_US = 3600 * 1_000_000


class Clock:
    """A clock that stands still until it is told otherwise; UTC microseconds."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, us: int) -> None:
        self.now += us


def blake3(number: int) -> Digest:
    return Digest("blake3", hashlib.sha256(b"name %d" % number).hexdigest())


def sha256(number: int) -> Digest:
    return Digest("sha256", hashlib.sha256(b"bytes %d" % number).hexdigest())


def git_sha1(number: int) -> Digest:
    return Digest("git-sha1", hashlib.sha256(b"git %d" % number).hexdigest()[:40])


def stamp(number: int) -> StatStamp:
    return StatStamp(number, 10_000 + number, 20_000 + number, 30_000 + number)


def new_blob(number: int) -> NewBlob:
    return NewBlob(blake3(number), number, (blake3(number), sha256(number), git_sha1(number)), stamp(number))


def held(path: str, number: int, trust: TrustLevel = TrustLevel.UPSTREAM_SHA256) -> Entry:
    return Entry(path, number, blake3(number), (sha256(number),), trust)


def known(path: str, number: int) -> Entry:
    return Entry(path, number, None, (sha256(number), git_sha1(number)))


def record(key: str, *entries: Entry, source: str = SOURCE, **changes: object) -> RevisionRecord:
    made = RevisionRecord(source, source.partition(":")[0], key, True, {"main": ""}, entries)
    return replace(made, **changes)  # type: ignore[arg-type] # the fields of the record, by name


def fill(catalog: Catalog, key: str, numbers: Iterable[int], source: str = SOURCE, **changes: object) -> int:
    """Record blobs and a revision that holds each under ``file-<number>``; return its number."""
    numbers = list(numbers)
    catalog.record_blobs([new_blob(number) for number in numbers])
    entries = [held(f"file-{number}", number) for number in numbers]
    return catalog.record_revision(replace(record(key, *entries, source=source), **changes))  # type: ignore[arg-type] # by name


def random_catalog(catalog: Catalog, rng: random.Random) -> None:
    """Fill a catalog with a few of everything, in every state that the public methods can bring about."""
    blobs = range(12)
    catalog.record_blobs([new_blob(number) for number in blobs])
    for _ in range(rng.randrange(1, 12)):
        entries = {}
        for _ in range(rng.randrange(1, 8)):
            path = rng.choice(["a", "a/b", "a/c", "a.b", "a0", "b", "Q/é", "%", "_"])
            number = rng.choice(blobs)
            entries[path] = rng.choice([held(path, number, rng.choice(list(TrustLevel))), known(path, number)])
        refs = {
            name: rng.choice(["", *entries]) for name in rng.sample(["", "main", "v1", "main:Q4"], rng.randrange(3))
        }
        catalog.record_revision(
            record(
                rng.choice(["k1", "k2", "k3"]),
                *entries.values(),
                source=rng.choice(SOURCES),
                refs=refs,
                listed=rng.random() < 0.5,
            )
        )
    for number in rng.sample(blobs, 4):
        catalog.set_state(blake3(number), rng.choice(list(ReplicaState)), expected=list(ReplicaState))
    catalog.delete_replica(blake3(rng.choice(blobs)))


SOURCES = ("hf://org/repo", "hf://org/other", "https://host/model.gguf")
