"""Killed before any step of a command, and the command run again: it succeeds, and nothing is lost or half there."""

from __future__ import annotations

import hashlib
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kill_jobs import Files, Preparation
from zygote import Zygote

ONE, TWO = random.Random(1).randbytes(100_000), random.Random(2).randbytes(2_500_000)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A command on a root that was brought to some state; the URIs are the names of files in ``sources``."""

    verb: str
    uris: tuple[str, ...]
    before: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    found: frozenset[str] = frozenset({"one"})
    """What lookups find after the recovery, from ``sources``."""
    damaged: bytes | None = None
    quarantine: tuple[int, ...] = (0,)
    """How many files may be in quarantine in the end."""


AT_ONCE = "a pull of two files at once"

SCENARIOS = {
    "making the root": Scenario("make", (), found=frozenset()),
    "a first pull": Scenario("pull", ("one",)),
    "a first pull into no root": Scenario("pull", ("one",)),
    AT_ONCE: Scenario("pull", ("one", "two"), found=frozenset({"one", "two"})),
    "a pull of bytes that are held": Scenario("pull", ("again",), (("pull", ("one",)),), frozenset({"one", "again"})),
    "a pull of a pinned digest that is held": Scenario(
        "pull", ("pinned",), (("pull", ("one",)),), frozenset({"one", "pinned"})
    ),
    "a pull over a damaged blob": Scenario(
        "pull", ("again",), (("pull", ("one",)), ("damage", (ONE,))), frozenset({"one", "again"}), ONE, (1,)
    ),
    "a pull over a file that nobody recorded": Scenario("pull", ("one",), (("lose_row", (ONE,)),)),
    "a removal": Scenario("rm", ("one",), (("pull", ("one", "two")),), frozenset({"two"})),
    "a removal of bytes that another URI needs": Scenario(
        "rm", ("one",), (("pull", ("one", "again")),), frozenset({"again"})
    ),
    "verifying a damaged blob": Scenario(
        "verify", (), (("pull", ("one", "two")), ("damage", (ONE,))), frozenset({"two"}), ONE, (1,)
    ),
    "a rebuild": Scenario("rebuild", (), (("pull", ("one", "two")),), frozenset({"one", "two"})),
    "a rebuild after a process that was killed": Scenario(
        "rebuild", (), (("pull_and_die", ("one", "two")),), frozenset({"one", "two"})
    ),
    "a rebuild with a damaged blob": Scenario(
        "rebuild", (), (("pull", ("one", "two")), ("damage", (ONE,))), frozenset({"two"}), ONE, (1,)
    ),
}
NO_ROOT = {"making the root", "a first pull into no root"}


@pytest.fixture(scope="session")  # a module's tests need not run one after the other
def sources(yard: Path) -> dict[str, tuple[str, bytes]]:
    """Return each name's URI and bytes: ``again`` and ``pinned`` have those of ``one``."""
    folder = yard / "sources"
    folder.mkdir()
    found: dict[str, tuple[str, bytes]] = {}
    for name, content in {"one": ONE, "again": ONE, "pinned": ONE, "two": TWO}.items():
        path = folder / f"{name}.bin"
        path.write_bytes(content)
        found[name] = (path.as_uri(), content)
    uri, _ = found["pinned"]
    found["pinned"] = f"{uri}#sha256={hashlib.sha256(ONE).hexdigest()}", ONE
    return found


_known_steps: dict[str, list[tuple[int, str]]] = {}


class Bench:
    """Runs one scenario in roots of its own, as often as it is asked."""

    def __init__(
        self, name: str, zygote: Zygote, yard: Path, new_root: Path, sources: dict[str, tuple[str, bytes]]
    ) -> None:
        self._name = name
        self.scenario = SCENARIOS[name]
        self._zygote = zygote
        self._new = None if name in NO_ROOT else new_root
        self._root = yard / "root"
        self.files: Files = dict(sources.values())
        self._sources = sources
        self._uris = tuple(sources[uri][0] for uri in self.scenario.uris)
        self._before: Preparation = tuple(
            (verb, tuple(sources[one][0] if isinstance(one, str) else one for one in arguments))
            for verb, arguments in self.scenario.before
        )
        self._listing = sorted(yard.iterdir())

    def _fresh(self) -> Path:
        shutil.rmtree(self._root, ignore_errors=True)
        if self._new is not None:
            shutil.copytree(self._new, self._root)
        return self._root

    def steps(self) -> list[tuple[int, str]]:
        """Return number and name of each step before which a kill leaves something new.

        Of those that are the same many times over, as the making of 256 folders, the first three stand for all.
        """
        if self._name not in _known_steps:
            steps = self._zygote.run(
                "kill_jobs:list_steps", self._fresh(), self._before, self.scenario.verb, self._uris
            )
            names = [name for name, _ in steps]
            _known_steps[self._name] = [
                (at, name)
                for at, (name, changed) in enumerate(steps)
                if changed and (name != "root.mkdir" or names[:at].count(name) < 3)
            ]
        return _known_steps[self._name]

    def kill(self, at: int) -> None:
        child = self._zygote.start(
            "kill_jobs:run_killed", self._fresh(), self._before, self.scenario.verb, self._uris, at
        )
        # Two files at once do not take the same number of steps every time: groups are published as they come.
        through = {0} if self._name == AT_ONCE else set()
        assert child.wait() in {-9} | through

    def kill_again(self, at: int) -> None:
        """Run the command where the last one was killed, and kill it too; it may be through before that."""
        self._zygote.start("kill_jobs:run_killed", self._root, (), self.scenario.verb, self._uris, at).wait()

    def check(self, after: str) -> None:
        """Run the command again and compare what is there with what must be."""
        scenario = self.scenario
        found = self._zygote.run(
            "kill_jobs:recover", self._root, scenario.verb, self._uris, self.files, scenario.damaged
        )
        quarantined = found.pop("quarantine")
        orphans = found.pop("orphans")
        assert found == {
            "lies": [],
            "found": {self._sources[name][0] for name in scenario.found},
            "partials": [],
            "litter": [],
        }, after
        assert quarantined in scenario.quarantine, after
        assert orphans == [] or scenario.verb == "rm", after  # the collector's
        assert sorted(self._root.parent.iterdir()) == sorted({*self._listing, self._root}), after


@pytest.fixture(params=SCENARIOS)
def bench(
    request: pytest.FixtureRequest, zygote: Zygote, yard: Path, new_root: Path, sources: dict[str, tuple[str, bytes]]
) -> Bench:
    return Bench(request.param, zygote, yard, new_root, sources)


@pytest.mark.parametrize("bench", ["a first pull", "a pull of bytes that are held"], indirect=True)
def test_a_pull_that_was_killed_anywhere_succeeds_when_it_is_run_again(bench: Bench) -> None:
    """At every step: rows name whole files, lookups give right bytes, nothing foreign is left (I1 to I3)."""
    for at, name in bench.steps():
        bench.kill(at)
        bench.check(f"killed before step {at}, {name}")


@pytest.mark.parametrize("bench", [name for name in SCENARIOS if name != "a first pull"], indirect=True)
def test_a_command_that_was_killed_somewhere_succeeds_when_it_is_run_again(bench: Bench, seed: int) -> None:
    """The same at a sample of the steps of every command."""
    steps = bench.steps()
    for at, name in random.Random(seed).sample(steps, min(len(steps), 4)):
        bench.kill(at)
        bench.check(f"killed before step {at}, {name}")


@pytest.mark.long
def test_a_command_that_was_killed_anywhere_succeeds_when_it_is_run_again(bench: Bench) -> None:
    """The same at every step of every command."""
    for at, name in bench.steps():
        bench.kill(at)
        bench.check(f"killed before step {at}, {name}")


def kill_twice(bench: Bench, chance: random.Random) -> None:
    steps = bench.steps()
    first, name = chance.choice(steps)
    second = chance.randrange(steps[-1][0] + 1)
    bench.kill(first)
    bench.kill_again(second)
    bench.check(f"killed before step {first}, {name}, and when run again before step {second}")


def test_a_recovery_that_was_killed_too_succeeds_the_third_time(bench: Bench, seed: int) -> None:
    """At one pair of steps of each command."""
    kill_twice(bench, random.Random(seed))


@pytest.mark.long
def test_many_recoveries_that_were_killed_too_succeed_the_third_time(bench: Bench, seed: int) -> None:
    """At twenty pairs."""
    chance = random.Random(seed)
    for _ in range(20):
        kill_twice(bench, chance)
