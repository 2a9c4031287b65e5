"""The programs that are measured: where each is found, the command it is given, and whether it syncs by itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from content import MODEL


@dataclass(frozen=True, slots=True)
class Job:
    """One transfer: from where, and into which empty folder."""

    url: str
    """Of the big file, as a plain download."""
    hub: str
    """What HF_ENDPOINT is set to."""
    repo: str
    whole_repo: bool
    """Every file of the repository, not only the big one."""
    target: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the table."""

    name: str
    about: str
    program: tuple[str, ...]
    """What starts it; the first is a name on PATH or a path, and so is each that ends in ``.js``."""
    arguments: Callable[[Job], list[str]]
    env: Callable[[Job], dict[str, str]] = lambda _: {}
    syncs: bool = False
    """Whether it leaves its files on disk by itself. The others are followed by ``sync``, which is counted."""
    many_files: bool = False
    """Whether it fetches repositories, rather than single URLs."""

    def command(self, job: Job) -> list[str]:
        """Return the whole of what is timed: the program, and what makes its files durable if it does not."""
        own = [*self.program, *self.arguments(job)]
        if self.syncs:
            return own
        if job.whole_repo:
            # One sync of the file system: what a person would do, and far cheaper than a thousand files one by one.
            return ["sh", "-c", 'target=$1; shift; "$@" && sync -f "$target"', "sh", str(job.target), *own]
        # Only what was fetched: a sync of the whole file system would count what others have written meanwhile.
        script = 'target=$1; shift; "$@" && find "$target" \\( -type f -o -type d \\) -exec sync {} +'
        return ["sh", "-c", script, "sh", str(job.target), *own]

    def missing(self) -> str | None:
        """Return what is not there, or None."""
        for word in self.program:
            found = Path(word).is_file() if word.endswith(".js") else shutil.which(word) is not None
            if not found:
                return f"{word} not found; bench/README.md says how to install it"
        return None

    def version(self) -> str:
        """Return the number that it says first."""
        told = subprocess.run([*self.program, "--version"], capture_output=True, text=True, check=False, timeout=60)
        number = re.search(r"\d+(\.\d+)+", told.stdout)
        return number[0] if number else "?"


def all_peers(tools: Path) -> list[Peer]:
    """Return every peer, curl first; ``tools`` is what install.sh made."""
    modelcask = Path(sys.executable).with_name("modelcask")
    own = (str(modelcask) if modelcask.exists() else "modelcask",)
    return [
        Peer(
            "curl",
            "curl -o: one connection, nothing checked",
            ("curl",),
            lambda job: ["-q", "-sS", "-f", "-o", str(job.target / MODEL), job.url],
        ),
        Peer(
            "aria2c",
            "aria2c -x16 -s16: up to 16 connections, nothing checked; pieces of 20 MiB at least, its default",
            ("aria2c",),
            lambda job: ["-x16", "-s16", *_aria2(job)],
            syncs=True,  # seen with strace: an fsync of the file after the last write
        ),
        Peer(
            "aria2c-k1M",
            "the same with -k1M, so that it opens all 16 for smaller files too",
            ("aria2c",),
            lambda job: ["-x16", "-s16", "-k1M", *_aria2(job)],
            syncs=True,
        ),
        Peer(
            "node-llama-cpp",
            "node-llama-cpp pull, which downloads by ipull: several connections, size checked",
            ("node", str(tools / "node/node_modules/node-llama-cpp/dist/cli/cli.js")),
            lambda job: ["pull", "--noProgress", "-d", str(job.target), "-n", MODEL, job.url],
        ),
        Peer(
            "hf",
            "hf download over plain HTTP: one connection a file, 8 files at a time, size checked",
            (str(tools / "hf/bin/hf"),),
            lambda job: ["download", "--quiet", job.repo, *([] if job.whole_repo else [MODEL])],
            _hub_env,
            many_files=True,
        ),
        Peer(
            "modelcask",
            "modelcask pull URL into a new store: SHA-256 and BLAKE3 of every byte",
            own,
            lambda job: ["pull", "--quiet", job.url],
            _store_env,
            syncs=True,
        ),
        Peer(
            "modelcask-hf",
            "modelcask pull hf://… into a new store: the same, held against the Hub's promised digest",
            own,
            lambda job: ["pull", "--quiet", f"hf://{job.repo}" + ("" if job.whole_repo else f"/{MODEL}")],
            lambda job: _store_env(job) | {"HF_ENDPOINT": job.hub},
            syncs=True,
            many_files=True,
        ),
    ]


def _aria2(job: Job) -> list[str]:
    return ["--no-conf=true", "--quiet=true", "--file-allocation=falloc", "-d", str(job.target), "-o", MODEL, job.url]


def _hub_env(job: Job) -> dict[str, str]:
    return {
        "HF_ENDPOINT": job.hub,
        "HF_HOME": str(job.target),
        "HF_HUB_DISABLE_XET": "1",  # no Xet server can be had on loopback
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",  # it would ask a registry, at every start
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def _store_env(job: Job) -> dict[str, str]:
    return {"MODELCASK_HOME": str(job.target / "store")}
