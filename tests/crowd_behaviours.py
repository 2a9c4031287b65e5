"""What an ``Origin`` can do wrong to several requests of one file: to some ranges, to too many, after some uses."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from behaviours import Redirect, Status
from reply import Behaviour, Reply, Request, Turn


@dataclass(frozen=True, slots=True)
class Behind(Behaviour):
    """Misbehave only where a Range begins at or behind ``offset`` of the file."""

    offset: int
    behaviours: tuple[Behaviour, ...]

    def before(self, turn: Turn) -> None:
        for behaviour in self._meant(turn.request):
            behaviour.before(turn)

    def answer(self, reply: Reply) -> None:
        for behaviour in self._meant(reply.request):
            behaviour.answer(reply)

    def _meant(self, request: Request) -> tuple[Behaviour, ...]:
        # The log's copy: another behaviour may have struck the header out.
        start = re.match(r"bytes=(\d+)-", request.asked)
        return self.behaviours if start is not None and int(start[1]) >= self.offset else ()


@dataclass(frozen=True, slots=True)
class OpenEnd(Behaviour):
    """Answer a Range as if it had no end."""

    def before(self, turn: Turn) -> None:
        asked = turn.request.headers.get("Range", "")
        if asked:
            turn.request.headers["Range"] = f"{asked.partition('-')[0]}-"


@dataclass(frozen=True, slots=True)
class SignedURL(Behaviour):
    """Lead to a signed URL of the same path, each of which answers ``uses`` times and then 403 for ever."""

    uses: int
    _signed: Counter[str] = field(default_factory=Counter)
    _used: Counter[tuple[str, str]] = field(default_factory=Counter)

    def answer(self, reply: Reply) -> None:
        path, signature = reply.request.path, reply.request.query
        if not signature:
            self._signed[path] += 1
            Redirect(f"{path}?signature={self._signed[path]}").answer(reply)
            return
        self._used[path, signature] += 1
        if self._used[path, signature] > self.uses:
            Status(403).answer(reply)


@dataclass(frozen=True, slots=True)
class Crowded(Behaviour):
    """Answer ``most`` requests of a path at a time, and the others with a status."""

    most: int
    code: int
    retry_after: str | None = None
    _running: Counter[str] = field(default_factory=Counter)

    def answer(self, reply: Reply) -> None:
        path = reply.request.path
        if self._running[path] >= self.most:
            Status(self.code, self.retry_after).answer(reply)
            return
        self._running[path] += 1
        reply.at_end.append(lambda: self._running.subtract([path]))
