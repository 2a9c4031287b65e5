"""olah, a Hub that is not ours, over git repositories of this test.

It answers what huggingface_hub asks, with habits of its own: every miss is 401, files come in chunks without a length,
an ETag or regard for Range, HEAD has a git digest as ETag without quotes, a tree redirects to itself with a slash, and
no file has a SHA-256 unless git holds an LFS pointer in its place.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

PROGRAM = os.environ.get("MODELCASK_TEST_OLAH", "")
"""Read when this is imported: a test's own environment holds nothing of ours."""
MISSING = None if os.access(PROGRAM, os.X_OK) else "MODELCASK_TEST_OLAH names no olah-cli"

_CONFIG = """\
[basic]
host = "127.0.0.1"
port = 0
repos-path = "{folder}/cache"
mirrors-path = ["{folder}/git"]
[accessibility]
offline = true
"""
_RUNNING = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")
_GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "test@test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


class Olah:
    """The server, which ends with the ``with`` block."""

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self._folder = folder

    def __enter__(self) -> Self:
        (self._folder / "olah.toml").write_text(_CONFIG.format(folder=self._folder))
        log = self._folder / "output"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", "olah.toml"],
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder), "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=output,
            )
        end = time.monotonic() + 120
        while (running := _RUNNING.search(log.read_text())) is None:
            if self._process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise AssertionError(log.read_text())
            time.sleep(0.02)
        self.port = int(running[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def commit(
        self, repo: str, files: Mapping[str, bytes], *, lfs: tuple[str, ...] = (), tag: str | None = None
    ) -> str:
        """Put a commit with these files besides those that are there on ``main``; return its name.

        ``repo`` is as in ``models/org/name``. A file in ``lfs`` goes where git-lfs keeps it, and git gets its pointer.
        """
        folder = self._folder / "git" / repo
        if not folder.exists():
            folder.mkdir(parents=True)
            _git(folder, "init", "-q", "-b", "main")
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_keep_in_lfs(folder, content) if name in lfs else content)
        _git(folder, "add", "-A")
        _git(folder, "commit", "-q", "-m", "commit")
        if tag is not None:
            _git(folder, "tag", tag)
        return _git(folder, "rev-parse", "HEAD")


def _git(folder: Path, *arguments: str) -> str:
    environ = {"PATH": os.environ["PATH"], **_GIT}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environ, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _keep_in_lfs(folder: Path, content: bytes) -> bytes:
    name = hashlib.sha256(content).hexdigest()
    path = folder / ".git" / "lfs" / "objects" / name[:2] / name[2:4] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize {len(content)}\n".encode()
