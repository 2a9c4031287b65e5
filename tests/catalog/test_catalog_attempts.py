"""The record of attempts: opened and closed in groups, closed for the dead, trimmed, told and summed up."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from dataclasses import replace

import pytest

from catalog.catalog_samples import HOUR_US, Clock, blake3, fill
from modelcask import locks
from modelcask.catalog import attempts
from modelcask.catalog.attempts import KEPT_US
from modelcask.catalog.catalog import Catalog, EndedAttempt, NewAttempt
from modelcask.catalog.rows import AttemptRow, Outcome, Statistics
from modelcask.layout import Layout
from modelcask.types import ReplicaState
from modelcask.uri import parse_uri

REPO = parse_uri("hf://org/repo")
FILE = parse_uri("https://host/model.gguf")
OURS, THEIRS = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
SECOND_US = 1_000_000


def everybody(_: str) -> bool:
    return True


def only_ours(session: str) -> bool:
    return session == OURS


def new(path: str = "a.gguf", **changes: object) -> NewAttempt:
    return replace(NewAttempt("request-1", OURS, REPO, path), **changes)  # type: ignore[arg-type] # fields by name


def begin(catalog: Catalog, *paths: str, **changes: object) -> list[int]:
    return catalog.begin_attempts([new(path, **changes) for path in paths])


def listed(catalog: Catalog, **options: object) -> list[str]:
    return [row.path for row in catalog.list_attempts(everybody, **options)]  # type: ignore[arg-type] # by name


def test_an_attempt_is_told_from_its_begin_to_its_end(catalog: Catalog, clock: Clock) -> None:
    """Open first, then with outcome, bytes and times; of a failure only the error's class."""
    began = clock.now
    [number] = begin(catalog, "a.gguf")
    going_on = AttemptRow(
        "request-1", "hf://models/org/repo@main", "hf://models/org/repo", "a.gguf", began, None, None, 0, 0, None
    )
    assert catalog.list_attempts(everybody) == [going_on]

    clock.advance(5 * SECOND_US)
    catalog.end_attempts([EndedAttempt(number, Outcome.FAILED, 10, 20, "TransferTimeoutError")])
    assert catalog.list_attempts(everybody) == [
        replace(
            going_on,
            finished_at=began + 5 * SECOND_US,
            outcome=Outcome.FAILED,
            bytes_fetched=10,
            bytes_reused=20,
            error_class="TransferTimeoutError",
        )
    ]


def test_a_file_that_is_held_already_is_done_as_it_is_recorded(catalog: Catalog, clock: Clock) -> None:
    """No second transaction for what costs no transfer; an empty file too."""
    begin(catalog, "held", bytes_reused=7)
    begin(catalog, "empty", bytes_reused=0)
    assert [(row.outcome, row.bytes_fetched, row.bytes_reused, row.finished_at) for row in listed_rows(catalog)] == [
        (Outcome.DONE, 0, 0, clock.now),
        (Outcome.DONE, 0, 7, clock.now),
    ]


def listed_rows(catalog: Catalog) -> list[AttemptRow]:
    return catalog.list_attempts(everybody)


def test_numbers_come_in_the_order_of_the_files(catalog: Catalog) -> None:
    """A thousand files, of which some are held: each number ends its own file, and no other."""
    names = [f"file-{number:04}" for number in range(1001)]
    numbers = catalog.begin_attempts(
        [new(name, bytes_reused=1 if place % 3 == 0 else None) for place, name in enumerate(names)]
    )
    ended = [EndedAttempt(number, Outcome.DONE, place) for place, number in enumerate(numbers) if place % 3]
    catalog.end_attempts(list(reversed(ended)))
    found = {row.path: (row.bytes_fetched, row.bytes_reused) for row in listed_rows(catalog)}
    assert found == {name: (place, 0) if place % 3 else (0, 1) for place, name in enumerate(names)}


def test_a_group_is_one_transaction(catalog: Catalog, layout: Layout) -> None:
    """Many files cost as many commits as one: another connection sees all or none."""
    seen = set()
    stop = threading.Event()

    def watch() -> None:
        with sqlite3.connect(layout.catalog) as reader:
            while not stop.is_set():
                [[began, ended]] = reader.execute("SELECT count(*), count(outcome) FROM attempt")
                seen.add((began, ended))
        reader.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        numbers = begin(catalog, *map(str, range(2000)))
        catalog.end_attempts([EndedAttempt(number, Outcome.DONE) for number in numbers])
    finally:
        stop.set()
        watcher.join()
    assert seen <= {(0, 0), (2000, 0), (2000, 2000)}


def test_nothing_to_record_writes_nothing(catalog: Catalog, layout: Layout) -> None:
    """Nor does looking for what was interrupted, where nothing was; reading never does: none waits for its turn."""
    begin(catalog, "a", "b")
    with locks.locked(layout.writer_lock):
        assert catalog.begin_attempts([]) == []
        catalog.end_attempts([])
        assert catalog.close_interrupted(everybody) == 0
        assert len(catalog.list_attempts(lambda _: False)) == 2
        assert catalog.statistics(lambda _: False).files == 2


def test_a_transfer_may_begin_long_after_its_row(catalog: Catalog, clock: Clock) -> None:
    """All files of a pull are recorded together; how long each took is told by its own times."""
    first, second = begin(catalog, "first", "second")
    began = clock.now
    later, end = began + 10 * SECOND_US, began + 12 * SECOND_US
    clock.advance(60 * SECOND_US)
    catalog.end_attempts(
        [
            EndedAttempt(first, Outcome.DONE, 1),
            EndedAttempt(second, Outcome.DONE, 1, started_at=later, finished_at=end),
        ]
    )
    times = {row.path: (row.started_at, row.finished_at) for row in listed_rows(catalog)}
    assert times == {"first": (began, clock.now), "second": (later, end)}


def test_ending_twice_is_harmless_and_the_last_word_counts(catalog: Catalog) -> None:
    """Where locks lie, a living process may have been taken for dead: its own word corrects that."""
    [number] = begin(catalog, "a")
    assert catalog.close_interrupted(lambda _: False) == 1
    for _ in range(2):
        catalog.end_attempts([EndedAttempt(number, Outcome.DONE, 5)])
    [row] = listed_rows(catalog)
    assert (row.outcome, row.bytes_fetched) == (Outcome.DONE, 5)
    catalog.end_attempts([EndedAttempt(number + 1000, Outcome.DONE, 5)])
    assert len(listed_rows(catalog)) == 1


def test_what_a_dead_process_left_open_is_closed_as_interrupted(catalog: Catalog) -> None:
    """Only that: what it had ended stays as it was, and what a living one has open stays open."""
    ours, _ = begin(catalog, "ours", "ours too")
    theirs, _ = begin(catalog, "theirs", "theirs too", session=THEIRS)
    catalog.end_attempts([EndedAttempt(theirs, Outcome.CANCELLED), EndedAttempt(ours, Outcome.DONE)])
    asked: list[str] = []

    def is_alive(session: str) -> bool:
        asked.append(session)
        return only_ours(session)

    assert catalog.close_interrupted(is_alive) == 1
    assert sorted(asked) == [OURS, THEIRS]
    assert {row.path: row.outcome for row in listed_rows(catalog)} == {
        "ours": Outcome.DONE,
        "ours too": None,
        "theirs": Outcome.CANCELLED,
        "theirs too": Outcome.INTERRUPTED,
    }
    assert next(row.finished_at for row in listed_rows(catalog) if row.path == "theirs too") is None
    assert catalog.close_interrupted(is_alive) == 0


def test_a_process_that_begins_while_others_are_judged_is_not_taken_for_dead(catalog: Catalog) -> None:
    """Its session is not among those that were read, whatever is said of it."""
    begin(catalog, "old", session=THEIRS)

    def is_alive(_: str) -> bool:
        begin(catalog, "new")
        return False

    assert catalog.close_interrupted(is_alive) == 1
    assert {row.path: row.outcome for row in listed_rows(catalog)} == {"old": Outcome.INTERRUPTED, "new": None}


def test_the_dead_are_told_as_interrupted_before_anybody_closes_them(catalog: Catalog) -> None:
    """In the list, in its filter and in the sums: reading writes nothing, and is right all the same."""
    begin(catalog, "theirs", session=THEIRS)
    begin(catalog, "ours")
    told = {row.path: row.outcome for row in catalog.list_attempts(only_ours)}
    assert told == {"theirs": Outcome.INTERRUPTED, "ours": None}
    [row] = catalog.list_attempts(only_ours, outcomes=[Outcome.INTERRUPTED])
    assert (row.path, row.finished_at) == ("theirs", None)
    sums = catalog.statistics(only_ours)
    assert (sums.running, sums.outcomes) == (1, {Outcome.INTERRUPTED: 1})


def test_the_list_is_filtered_and_the_newest_comes_first(catalog: Catalog, clock: Clock) -> None:
    """By a glob over URI or path that knows upper case from lower, by outcome, by time, and by number."""
    start = clock.now
    for path in ("a.gguf", "b.GGUF", "c_1.json", "cx1.json"):
        [number] = begin(catalog, path)
        catalog.end_attempts([EndedAttempt(number, Outcome.FAILED if path == "b.GGUF" else Outcome.DONE)])
        clock.advance(HOUR_US)
    catalog.begin_attempts([new("model.gguf", uri=FILE)])

    assert listed(catalog) == ["model.gguf", "cx1.json", "c_1.json", "b.GGUF", "a.gguf"]
    assert listed(catalog, pattern="*.gguf") == ["model.gguf", "a.gguf"]
    assert listed(catalog, pattern="hf://models/*") == ["cx1.json", "c_1.json", "b.GGUF", "a.gguf"]
    assert listed(catalog, pattern="c_1*") == ["c_1.json"]
    assert listed(catalog, pattern="gguf") == []
    assert listed(catalog, outcomes=[Outcome.FAILED, Outcome.CANCELLED]) == ["b.GGUF"]
    assert listed(catalog, outcomes=[]) == []
    assert listed(catalog, since=start + 2 * HOUR_US) == ["model.gguf", "cx1.json", "c_1.json"]
    assert listed(catalog, limit=2) == ["model.gguf", "cx1.json"]
    assert listed(catalog, limit=1, pattern="*.gguf", since=start, outcomes=[Outcome.DONE]) == ["a.gguf"]


def test_no_secret_of_a_url_is_recorded(catalog: Catalog, layout: Layout) -> None:
    """A signed URL's parameters are not part of what names it."""
    uri = parse_uri("https://host/model.gguf?X-Amz-Credential=me&X-Amz-Signature=f00d&token=hunter2")
    catalog.begin_attempts([new("model.gguf", uri=uri)])
    catalog.close()
    for file in layout.root.glob("catalog.db*"):
        assert b"host/model.gguf" in file.read_bytes()
        assert b"f00d" not in file.read_bytes()
        assert b"hunter2" not in file.read_bytes()


def test_old_attempts_are_forgotten_and_open_ones_never(catalog: Catalog, clock: Clock) -> None:
    """Beyond ninety days, as the next ones are recorded."""
    begin(catalog, "open")
    begin(catalog, "old", bytes_reused=1)
    clock.advance(KEPT_US)
    begin(catalog, "on the edge", bytes_reused=1)
    assert set(listed(catalog)) == {"open", "old", "on the edge"}
    clock.advance(1)
    begin(catalog, "new")
    assert set(listed(catalog)) == {"open", "on the edge", "new"}


def test_of_too_many_attempts_the_first_are_forgotten(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open ones stay: their process will want to end them."""
    monkeypatch.setattr(attempts, "KEPT_ROWS", 3)
    begin(catalog, "open")
    begin(catalog, "1", "2", "3", bytes_reused=1)
    assert set(listed(catalog)) == {"open", "1", "2", "3"}
    begin(catalog, "4", "5", bytes_reused=1)
    assert set(listed(catalog)) == {"open", "3", "4", "5"}


def test_sums_tell_hits_bytes_and_failures(catalog: Catalog, clock: Clock) -> None:
    """A hit is a file had without a byte fetched; what a partial kept is told apart from it."""
    start = clock.now
    begin(catalog, "hit", bytes_reused=100)
    clock.advance(HOUR_US)
    numbers = begin(catalog, *"abcdefg", request_id="request-2")
    catalog.end_attempts(
        [
            EndedAttempt(numbers[0], Outcome.DONE, 70, 30),
            EndedAttempt(numbers[1], Outcome.DONE, 0, 1000),
            EndedAttempt(numbers[2], Outcome.FAILED, 5, 2, "ResponseError"),
            EndedAttempt(numbers[3], Outcome.FAILED, 0, 0, "StoreFullError"),
            EndedAttempt(numbers[4], Outcome.FAILED, 0, 0, "StoreFullError"),
            EndedAttempt(numbers[5], Outcome.CANCELLED, 6, 0),
        ]
    )
    expected = Statistics(
        requests=2,
        files=8,
        hits=2,
        running=1,
        outcomes={Outcome.DONE: 3, Outcome.FAILED: 3, Outcome.CANCELLED: 1},
        failures={"StoreFullError": 2, "ResponseError": 1},
        bytes_fetched=81,
        bytes_hit=1100,
        bytes_resumed=32,
        first_at=start,
    )
    found = catalog.statistics(everybody)
    assert found == expected
    assert list(found.failures) == ["StoreFullError", "ResponseError"]
    assert found.hit_rate == 0.25
    later = catalog.statistics(everybody, since=start + 1)
    assert later == replace(
        expected, requests=1, files=7, hits=1, bytes_hit=1000, outcomes=later.outcomes, first_at=clock.now
    )
    assert later.outcomes[Outcome.DONE] == 2


def test_sums_of_nothing_are_zero(catalog: Catalog) -> None:
    """And there is no rate of nothing."""
    assert catalog.statistics(everybody) == Statistics()
    assert Statistics().hit_rate is None


def test_the_store_saves_what_files_share(catalog: Catalog) -> None:
    """Of a blob that three files are, two are saved; what nothing refers to saves nothing, what is gone is no blob."""
    fill(catalog, "k1", [10, 20], source="hf://org/one")
    fill(catalog, "k2", [10], source="hf://org/two")
    fill(catalog, "k3", [10, 50], source="https://host/three")
    orphaned = fill(catalog, "k4", [1000], source="hf://org/four")
    catalog.forget_entries(orphaned, None)
    catalog.set_state(blake3(50), ReplicaState.MISSING, expected=[ReplicaState.PRESENT])

    found = catalog.statistics(everybody)
    assert (found.blobs, found.bytes_stored) == (3, 1030)
    assert (found.bytes_without_dedup, found.bytes_saved) == (50, 20)
