"""What to ask for next, of whom, and when to stop: decided from what is held, what runs, what failed, and the time.

No I/O and no clock of its own. The shell around it (``download``) does what it is told and says what came of it::

    next(now)          Ask       make this request, on a connection of its own
                       Drop      end this request: others would bring its bytes sooner (``pace``)
                       Wait      until a time, or until something that runs has ended
                       Done      all bytes are there
                       GiveUp    nobody is left who could send what is missing
    accepted(ask, …)   an answer fits; True: it brings the whole file, and all other requests are void
    ended(ask, …)      a request has ended, for better or worse

A file is asked for in one piece, unless it is large and two answers can be proved to be of one object (``transfer``);
then in spans, several at a time. A place that answers a range with the whole file is not asked for several again.

A transfer that keeps moving is never given up, however often it is cut: a failure after bytes that had never been
there before is the first again. Bytes that only repeat what was lost do not count, or a server that cuts every
answer at the same place would be asked for ever. What fails side by side fails once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from modelcask.errors import CacheError, TransferError
from modelcask.fetch import pace
from modelcask.fetch.retry import is_worth_another_try, wait_after
from modelcask.fetch.transfer import Accept, Held, Request, may_resume, proven_by_digest
from modelcask.fetch.work import Span, Work
from modelcask.ranges import RangeSet
from modelcask.types import HTTPLocation, RemoteFile

SPLIT_BYTES: Final = 16 << 20
"""A file below this is asked for in one piece."""
SPAN_BYTES: Final = (2 << 20, 64 << 20)
_SPAN_S: Final = 1.0
"""How long a span should take its connection: far above a round trip, far below anybody's patience."""
_SHARES: Final = 16
_WORTH_S: Final = 0.5
"""What is done sooner than this is not worth another connection's start."""
_UNBOUNDED: Final = 1 << 62
_REFUSALS: Final = 2


@dataclass(slots=True, eq=False)
class Place:
    """One location of the file, and what has become of asking it."""

    location: HTTPLocation
    held: Held
    host: str
    """Its host and port: safe to show."""
    shortcut: object = None
    """Where its redirects led the last time."""
    speed: float | None = None
    """The bytes a second of one connection; None: not known."""
    side_by_side: bool = True
    """Whether several ranges may be asked for at a time."""
    refusals: int = 0
    """Answers since the last good one that could not be joined to the bytes at hand."""
    failures: int = 0
    failed_at: float = float("-inf")
    not_before: float = float("-inf")
    gone: CacheError | None = None
    """Why it is not asked any more."""
    doubt: CacheError | None = None
    """Why it is not asked now: what it has sent may be wrong."""
    sent: RangeSet = field(default_factory=RangeSet)
    """The bytes at hand that came from it."""
    is_cleared: bool = False
    """Whether others have sent the same as it."""


@dataclass(slots=True, eq=False)
class Ask:
    """Make this request and write what comes from ``span.start`` on."""

    place: Place
    span: Span
    request: Request
    restart: bool = False
    """Whether what is held has to be thrown away first."""
    is_whole: bool = False
    """Whether the answer turned out to be the whole file."""
    began: float = float("inf")
    """When its connection was there for it."""
    watch: pace.Watch | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """End a request that runs, and say ``ended`` of it."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask nobody now."""

    until: float | None


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is missing."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody is left to ask."""

    error: CacheError


class Plan:
    """The decisions for one file, over one call of ``download``."""

    def __init__(
        self,
        file: RemoteFile,
        locations: Sequence[HTTPLocation],
        held: Callable[[], RangeSet],
        *,
        retries: int,
        is_patient: bool = False,
        backoff: Callable[[int, BaseException], float] = wait_after,
    ) -> None:
        """Begin with what is held.

        Args:
            file: what its source promised.
            locations: where its bytes are, the source's own last: its errors are the ones that count.
            held: tells which bytes are at hand.
            retries: how many tries of one place in a row may bring nothing new.
            is_patient: whether nobody is to be called slow: the user wants it so.
            backoff: how long to wait after the nth of them, in seconds.
        """
        self._file = file
        self._held = held
        self._retries = retries
        self._is_patient = is_patient
        self._backoff = backoff
        self.places = [Place(one, Held(file.size_bytes, None), _host(one)) for one in locations]
        self.places[-1].held = Held.of(file)
        self._order = self.places
        self._total = file.size_bytes
        self._work = Work(held().gaps(_UNBOUNDED if self._total is None else self._total))
        self._is_unseen = not held()
        """Whether no answer has been accepted yet: an empty file is asked for too, for who says so is often wrong."""
        self._received = self._received_before = 0
        self._furthest = 0
        self._running: list[Ask] = []
        """The requests that have their connections."""
        self._tried_at = float("-inf")
        """When a connection was last ended to try another place with."""

    # What to do.

    def next(self, now: float) -> Ask | Drop | Wait | Done | GiveUp:
        """Return what to do now."""
        if self._work.is_done and not self._is_unseen:
            return Done()
        usable = self._usable()
        if not usable:
            error = self.places[-1].gone or self.places[-1].doubt
            assert error is not None  # noqa: S101 - for the type checker: nobody is usable
            return GiveUp(error)
        if (late := self._late(now)) is not None:
            return Drop(late)
        ready = [place for place in usable if place.not_before <= now]
        if not ready:
            return Wait(min(place.not_before for place in usable))
        return self._ask(self._choose(ready)) or Wait(self._look_again_at())

    def _usable(self) -> list[Place]:
        return [place for place in self._order if place.gone is None and place.doubt is None]

    def _choose(self, ready: list[Place]) -> Place:
        place = pace.preferred(ready)
        return self._to_try(place, ready) or place

    def _to_try(self, place: Place, places: list[Place]) -> Place | None:
        if any(ask.place.speed is None for ask in self._running):
            return None
        count = sum(ask.place is place for ask in self._running)
        return pace.to_try(place, places, missing_bytes=self._missing_bytes(), connections=max(count, 1))

    def _missing_bytes(self) -> int:
        return _UNBOUNDED if self._total is None else self._work.missing_bytes

    def _late(self, now: float) -> Ask | None:
        """Return a request that is to be ended because it is slow."""
        for ask in self._running:
            rate = None if ask.watch is None else ask.watch.measure(ask.span.position, now)
            if rate is None:
                continue
            pace.take_note(ask.place, rate)
            others = [place for place in self._usable() if place is not ask.place and place.not_before <= now]
            # One that waits for its first byte is left alone where nobody else can be asked.
            comparable = [*others, ask.place] if ask.span.position > ask.span.start else others
            if pace.is_far_behind(rate, comparable):
                return ask
            if now >= self._tried_at + pace.WINDOW_S and self._to_try(ask.place, others) is not None:
                self._tried_at = now
                return ask
        return None

    def _look_again_at(self) -> float | None:
        return min((ask.watch.since + pace.WINDOW_S for ask in self._running if ask.watch is not None), default=None)

    def _ask(self, place: Place) -> Ask | None:
        if not self._joins(place):
            if self._work.spans:
                return None
            restart = bool(self._held())
            return Ask(place, self._take_over(), Request(0), restart)
        if not self._splits(place):
            span = None if self._work.spans else self._work.take(_UNBOUNDED)
        else:
            span = self._work.take(self._span_bytes(place)) or self._work.steal(self._least_bytes(place))
        if span is None:
            if self._work.spans:
                return None
            span = self._take_over()
        end = span.end if span.end < (_UNBOUNDED if self._total is None else self._total) else None
        etag = place.held.etag if (span.start or end) and not proven_by_digest(self._file) else None
        return Ask(place, span, Request(span.start, end, etag))

    def _joins(self, place: Place) -> bool:
        return may_resume(self._file, place.held) and place.refusals < _REFUSALS

    def _splits(self, place: Place) -> bool:
        return place.side_by_side and self._total is not None and self._total >= SPLIT_BYTES

    def _span_bytes(self, place: Place) -> int:
        least, most = SPAN_BYTES
        # A part of what is missing only, so that there is enough for many connections, should they pay.
        wanted = min(int((place.speed or 0) * _SPAN_S), self._work.missing_bytes // _SHARES)
        return min(max(wanted, least), most)

    def _least_bytes(self, place: Place) -> int:
        return max(SPAN_BYTES[0] // 2, int((place.speed or 0) * _WORTH_S))

    def _take_over(self) -> Span:
        for place in self.places:
            place.sent = RangeSet()
        return self._work.start_over(_UNBOUNDED if self._total is None else self._total)

    # What came of it.

    def began(self, ask: Ask, now: float) -> None:
        """Take note that a request has its connection."""
        ask.began = now
        self._running.append(ask)
        if not self._is_patient and self._joins(ask.place):
            ask.watch = pace.Watch(now, ask.span.position)

    def accepted(self, ask: Ask, action: Accept) -> bool:
        """Take note that an answer fits; say whether it makes all others void and starts at zero."""
        place = ask.place
        place.held = action.held
        place.refusals = 0
        self._is_unseen = False
        if action.whole:
            if not ask.request.is_whole:
                place.side_by_side = False
            self._total = action.held.total  # also where it is not that of the bytes which go
            ask.span, ask.is_whole = self._take_over(), True
            self._running = [ask]
            if len(self.places) == 1:
                ask.watch = None  # it may be a server that would begin anew
        elif self._total is None and action.held.total is not None:
            self._total = action.held.total
            self._work.limit(self._total)
        return action.whole

    def refused(self, ask: Ask) -> None:
        """Take note that an answer could not be joined to the bytes at hand."""
        ask.place.refusals += 1

    def arrived(self, ask: Ask, start: int, count: int) -> None:
        """Take note of bytes that are in the sink now."""
        self._received += count
        ask.span.position = start + count
        if len(self.places) == 1:
            return  # nobody will ever ask whose bytes they are
        for place in self.places:
            if place is ask.place:
                place.sent.add(start, start + count)
            elif place.sent:
                place.sent.remove(start, start + count)

    @property
    def is_bounded(self) -> bool:
        """Whether the size of the file is known."""
        return self._total is not None

    def end_of(self, ask: Ask) -> int:
        """Return where the answer to a request will end, as far as that is known."""
        if ask.request.end is not None and not ask.is_whole:
            return ask.request.end
        return _UNBOUNDED if self._total is None else self._total

    def came_to_the_end(self, ask: Ask) -> None:
        """Take note that the file ends where the span stands."""
        self._total = ask.span.position
        self._work.limit(self._total)

    def ended(self, ask: Ask, now: float) -> None:
        """Take note that a request has ended in good order, or was given up without anybody's fault."""
        came = ask.span.position - ask.span.start
        is_telling = came >= SPAN_BYTES[0] or (came > 0 and len(self.places) > 1 and ask.place.speed is None)
        if is_telling and now > ask.began:
            pace.take_note(ask.place, came / (now - ask.began))
        self._put_back(ask)

    def _put_back(self, ask: Ask) -> None:
        self._work.put_back(ask.span)
        if ask in self._running:
            self._running.remove(ask)

    def failed(self, ask: Ask, error: CacheError, now: float) -> float | None:
        """Take note that a request has failed; return how long its place is left in peace, None if that is for good."""
        self._put_back(ask)
        place = ask.place
        moved = self._has_moved()
        if not is_worth_another_try(error):
            place.gone = error
            return None
        if ask.began < place.failed_at and not moved:
            return max(place.not_before - now, 0.0)  # side by side with one that was counted
        place.failures = 1 if moved else place.failures + 1
        place.failed_at = now
        if place.failures > self._retries:
            place.gone = error
            return None
        asked_to_wait = isinstance(error, TransferError) and error.retry_after is not None
        if moved and self._work.spans and not asked_to_wait:
            return 0.0  # the others go on, so this was the connection's fault
        wait = self._backoff(place.failures, error)
        place.not_before = now + wait
        return wait

    def _has_moved(self) -> bool:
        """Say whether bytes have come since the last call and there are more of them than ever."""
        came = self._received > self._received_before
        self._received_before = self._received
        size = self._held().size_bytes
        if not came or size <= self._furthest:
            return False
        self._furthest = size
        return True

    # Whose bytes are wrong?

    @property
    def suspect(self) -> Place | None:
        """The first place of which bytes are at hand that nobody else has sent; None if nobody else can be asked."""
        suspect = next((place for place in self.places if place.sent and not place.is_cleared), None)
        return suspect if any(place.gone is None for place in self.places if place is not suspect) else None

    def doubt(self, place: Place, fault: CacheError) -> RangeSet:
        """Have everything that a place has sent fetched again from others; return what that is."""
        place.doubt = fault
        # The source first: of two mirrors that differ, nobody knows which one is wrong.
        self._order = self.places[::-1]
        parts, place.sent = place.sent, RangeSet()
        self._work.miss(parts)
        self._furthest = self._held().size_bytes - parts.size_bytes
        return parts

    def decide(self, place: Place, *, is_guilty: bool) -> None:
        """Say whether others have sent something else than a place under doubt."""
        fault, place.doubt = place.doubt, None
        place.is_cleared = not is_guilty
        place.gone = fault if is_guilty else place.gone


def _host(location: HTTPLocation) -> str:
    return urlsplit(location.url).netloc.rpartition("@")[2].lower()
