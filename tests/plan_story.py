"""A ``Plan`` told step by step: what is held, what is asked, what came of it, without any I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from modelcask.digest import Digest
from modelcask.errors import CacheError, ConnectionInterruptedError, DigestMismatchError
from modelcask.fetch.plan import Ask, Done, Drop, GiveUp, Place, Plan, Wait
from modelcask.fetch.transfer import Accept, Held
from modelcask.ranges import ByteRange, RangeSet
from modelcask.types import HTTPLocation, RemoteFile

SHA256 = Digest("sha256", "0" * 64)
GIT_SHA1 = Digest("git-sha1", "0" * 40)
ETAG = '"a"'
SMALL, LARGE = 100, 1000
"""Below and above what is split."""
FAULT = DigestMismatchError("m", "a", "b")


def remote(size: int | None = LARGE, *digests: Digest, etag: str | None = ETAG) -> RemoteFile:
    return RemoteFile("m.gguf", size, digests, HTTPLocation("https://source/m?s3cret"), etag)


def held_of(*parts: tuple[int, int]) -> RangeSet:
    return RangeSet(ByteRange(*part) for part in parts)


@dataclass
class Story:
    """A plan, the bytes that it has, and a clock."""

    file: RemoteFile
    held: RangeSet = field(default_factory=RangeSet)
    mirrors: Sequence[str] = ()
    retries: int = 2
    is_patient: bool = False
    now: float = 0.0

    def __post_init__(self) -> None:
        assert isinstance(self.file.location, HTTPLocation)
        locations = [*(HTTPLocation(f"https://{name}/m") for name in self.mirrors), self.file.location]
        self.plan = Plan(
            self.file,
            locations,
            lambda: self.held,
            retries=self.retries,
            is_patient=self.is_patient,
            backoff=lambda n, _: 2.0**n,
        )

    def step(self) -> Ask | Drop | Wait | Done | GiveUp:
        return self.plan.next(self.now)

    def ask(self) -> Ask:
        step = self.step()
        assert isinstance(step, Ask), step
        self.plan.began(step, self.now)
        return step

    def accept(self, ask: Ask, *, whole: bool = False, etag: str | None = ETAG, total: int | None = LARGE) -> bool:
        is_void = self.plan.accepted(ask, Accept(Held(total, etag), whole=whole))
        if is_void:
            self.held = RangeSet()
        return is_void

    def bring(self, ask: Ask, count: int) -> None:
        start = ask.span.position
        self.plan.arrived(ask, start, count)
        self.held.add(start, start + count)

    def finish(self, ask: Ask) -> None:
        self.accept(ask)
        self.bring(ask, ask.span.left)
        self.plan.ended(ask, self.now)

    def fail(self, ask: Ask, error: CacheError | None = None) -> float | None:
        return self.plan.failed(ask, error or ConnectionInterruptedError("cut"), self.now)

    @property
    def place(self) -> Place:
        return self.plan.places[-1]


def shown(step: Ask | Drop | Wait | Done | GiveUp) -> str:
    """Return a step in one line."""
    match step:
        case Ask(place, _, request, restart):
            wanted = request.headers.get("Range", "everything").removeprefix("bytes=")
            joined = " if the same" * (request.etag is not None and not request.is_whole)
            return f"{place.host}: {wanted}{joined}{', anew' * restart}"
        case Drop(ask):
            return f"drop {ask.place.host}: {ask.request.headers['Range'].removeprefix('bytes=')}"
        case Wait(until):
            return "wait" if until is None else f"wait until {until:g}"
        case GiveUp(error):
            return f"give up: {error}"
        case Done():
            return "done"
