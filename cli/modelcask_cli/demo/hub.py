"""What a Hub says of one small repository: enough of its protocol for a client to list it and fetch its files.

Pure answers without I/O; ``origin.py`` sends them. Shapes as in the Hub's public API: the revision object, the tree
entry (``oid`` is git's name of the blob; a large file has its SHA-256 under ``lfs``), and the headers that
``resolve`` adds to a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

LARGE_FROM_BYTES: Final = 1_000_000
"""Files of this size and above are told with their SHA-256, as the Hub does for what it keeps in LFS."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of the repository with the names that the Hub gives to its bytes."""

    path: str
    data: bytes
    git_sha1: str
    sha256: str | None
    """None for a small file: of those the Hub knows the git name only."""

    @classmethod
    def of(cls, path: str, data: bytes) -> HubFile:
        """Name the bytes."""
        sha256 = hashlib.sha256(data).hexdigest() if len(data) >= LARGE_FROM_BYTES else None
        stored = data if sha256 is None else _pointer(sha256, len(data))
        named = hashlib.sha1(b"blob %d\0" % len(stored) + stored, usedforsecurity=False)
        return cls(path, data, named.hexdigest(), sha256)

    @property
    def etag(self) -> str:
        """The strong validator: the SHA-256 of a large file, the git name of a small one, in quotes."""
        return f'"{self.sha256 or self.git_sha1}"'

    def headers(self) -> dict[str, str]:
        """Return what ``resolve`` says of the file beside its bytes."""
        large = {"X-Linked-Etag": self.etag, "X-Linked-Size": str(len(self.data))} if self.sha256 else {}
        return {"ETag": self.etag} | large

    def entry(self) -> dict[str, Any]:
        """Return the file's entry in a tree."""
        entry: dict[str, Any] = {"type": "file", "oid": self.git_sha1, "size": len(self.data), "path": self.path}
        if self.sha256 is not None:
            pointer = len(_pointer(self.sha256, len(self.data)))
            entry["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": pointer}
        return entry


class HubRepo:
    """One model repository with one commit, which ``main`` names."""

    def __init__(self, name: str, files: Mapping[str, bytes]) -> None:
        self.name = name
        self.files = {path: HubFile.of(path, data) for path, data in sorted(files.items())}
        listing = "".join(f"{file.git_sha1} {path}\n" for path, file in self.files.items())
        self.commit = hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()

    def has_revision(self, revision: str) -> bool:
        """Say whether ``revision`` names the one commit."""
        return revision in {"main", self.commit}

    def info(self) -> dict[str, Any]:
        """Return what the Hub says of the repository at its one revision."""
        return {
            "id": self.name,
            "modelId": self.name,
            "sha": self.commit,
            "private": False,
            "gated": False,
            "tags": ["gguf", "safetensors"],
            "siblings": [{"rfilename": path} for path in self.files],
        }

    def entries(self, paths: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Return the tree's entries, or those of ``paths``; a path that is not there is left out."""
        wanted = self.files if paths is None else paths
        return [self.files[path].entry() for path in wanted if path in self.files]


def _pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
