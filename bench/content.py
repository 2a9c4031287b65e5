"""What is transferred: bytes that nothing can compress, the same on every machine."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

MODEL = "model.gguf"
"""The name of the one big file of each repository."""
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Content:
    """A folder of files to serve, flat: the big file, and as many small ones as the case wants."""

    folder: Path
    size_bytes: int
    """Of all files together."""
    files: int

    @property
    def model(self) -> Path:
        """The big file."""
        return self.folder / MODEL


def make_content(folder: Path, *, model_bytes: int, small_files: int = 0, small_bytes: int = 0) -> Content:
    """Write the files into a new folder, and sync them; afterwards they stand in the page cache."""
    folder.mkdir()
    source = random.Random(model_bytes)  # noqa: S311 - nothing here is a secret, and everybody gets the same bytes
    with (folder / MODEL).open("wb") as file:
        for start in range(0, model_bytes, MIB):
            file.write(source.randbytes(min(MIB, model_bytes - start)))
    for number in range(small_files):
        # Not a suffix that a Hub keeps in LFS: these are served by the Hub itself, as they would be.
        (folder / f"part-{number:05}.json").write_bytes(source.randbytes(small_bytes))
    os.sync()
    return Content(folder, model_bytes + small_files * small_bytes, 1 + small_files)


def differences(content: Content, target: Path) -> list[str]:
    """Return what keeps ``target`` from holding every file, byte for byte: a line each, none if all is well.

    Peers lay their files out as they like, so files are looked for by name, through links, anywhere below it.
    """
    found: dict[str, Path] = {}
    for folder, _, names in os.walk(target):
        found |= {name: Path(folder, name) for name in names}
    told = []
    for wanted in sorted(content.folder.iterdir()):
        here = found.get(wanted.name)
        if here is None or not here.is_file():
            told.append(f"{wanted.name} is missing")
        elif not _equal(wanted, here):
            told.append(f"{wanted.name} has other bytes")
    return told


def _equal(left: Path, right: Path) -> bool:
    with left.open("rb") as one, right.open("rb") as other:
        while True:
            block = one.read(MIB)
            if block != other.read(MIB):
                return False
            if not block:
                return True
