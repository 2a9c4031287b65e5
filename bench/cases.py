"""The cases: what is transferred, over which line; and one case played from its first warm-up to its last round."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lossy_link
from content import GIB, MIB, Content, differences, make_content
from measure import RunFailedError, measure
from origins import Origin, serve
from peers import Job, Peer

_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Case:
    """One table of the report."""

    name: str
    about: str
    line: str
    rounds: int
    model_bytes: int
    small_files: int = 0
    small_bytes: int = 0

    @property
    def whole_repo(self) -> bool:
        """Whether there is more than the big file, which only a repository can hold."""
        return self.small_files > 0

    def why_not(self) -> str | None:
        """Return why this machine cannot play it, or None."""
        return lossy_link.why_not() if self.line == "lossy" else None


CASES = [
    Case("loopback", "one file, loopback, nothing in the way", "loopback", 5, 2 * GIB),
    Case("throttled", "one file, 50 MB/s a connection", "throttled", 3, GIB),
    Case("lossy", "one file, 20 ms round trip, 1 % of packets lost each way, cubic", "lossy", 3, 64 * MIB),
    Case(
        "many", "a repository of 1,000 files of 20 KiB and a big one, loopback", "loopback", 5, 256 * MIB, 1000, 20_480
    ),
]


class Playing:
    """One case on this machine, in a folder that is removed at its end."""

    def __init__(self, case: Case, peers: Sequence[Peer], *, work: Path, say: Callable[[str], None]) -> None:
        self._case, self._work, self._say = case, work, say
        self._peers = [peer for peer in peers if peer.many_files or not case.whole_repo]
        self._failed: dict[str, str] = {}

    def play(self) -> dict[str, Any]:
        """Run every peer once a round, in turn; return the case as it stands in the JSON."""
        case = self._case
        with tempfile.TemporaryDirectory(prefix="modelcask-bench-", dir=self._work, ignore_cleanup_errors=True) as made:
            folder = Path(made)
            (folder / "served").mkdir()
            self._say(f"{case.name}: making {case.model_bytes // MIB} MiB")
            warm = make_content(folder / "served/warm", model_bytes=MIB)
            content = make_content(
                folder / "served/content",
                model_bytes=case.model_bytes,
                small_files=case.small_files,
                small_bytes=case.small_bytes,
            )
            with serve(folder / "served", folder / "nginx", line=case.line) as origin:
                for peer in self._peers:  # its program comes from disk once, and not in the first round
                    self._run(peer, origin, folder, warm, warming=True)
                rounds = [self._round(number, origin, folder, content) for number in range(case.rounds)]
        return {
            **asdict(case),
            "size_bytes": content.size_bytes,
            "files": content.files,
            "runs": rounds,
            "failed": self._failed,
        }

    def _round(self, number: int, origin: Origin, folder: Path, content: Content) -> dict[str, Any]:
        taken = {}
        for peer in self._peers:
            if peer.name not in self._failed:
                usage = self._run(peer, origin, folder, content)
                if usage is not None:
                    self._say(f"{self._case.name}: round {number + 1}, {peer.name}: {usage['seconds']:.2f} s")
                    taken[peer.name] = usage
        return taken

    def _run(
        self, peer: Peer, origin: Origin, folder: Path, content: Content, *, warming: bool = False
    ) -> dict[str, Any] | None:
        """Run a peer into an empty folder and compare what it fetched; None, and never again, if it failed."""
        target, home = folder / "target", folder / "home"
        for made in (target, home):
            made.mkdir()
        job = Job(
            url=f"{origin.url}/{'warm' if warming else 'content'}/{content.model.name}",
            hub=origin.url,
            repo="bench/warm" if warming else "bench/many" if self._case.whole_repo else "bench/one",
            whole_repo=self._case.whole_repo,
            target=target,
        )
        # Nothing of the caller's: no proxies, no tokens, no configuration of any peer.
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"} | peer.env(job)
        os.sync()  # what was written before is not this peer's to wait for
        try:
            command = [*origin.inside, *peer.command(job)]
            usage = measure(command, env=env, cwd=home, log=folder / "log", timeout_s=_TIMEOUT_S)
            wrong = [f"exit 0, but {told}" for told in differences(content, target)]
        except RunFailedError as error:
            wrong = [str(error)]
        for made in (target, home):
            shutil.rmtree(made)
        if wrong:
            self._failed[peer.name] = wrong[0]
            self._say(f"{self._case.name}: {peer.name} FAILED: {wrong[0]}")
            return None
        return asdict(usage)


def adjusted(case: Case, *, model_bytes: int | None, rounds: int | None) -> Case:
    """Return the case with another size of its big file, or another number of rounds."""
    return replace(case, model_bytes=model_bytes or case.model_bytes, rounds=rounds or case.rounds)
