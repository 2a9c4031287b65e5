"""The repositories of the fake Hub (``hub.py``): commits, refs and files in memory, named as git and LFS name them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

_LARGE = (".gguf", ".safetensors", ".bin", ".onnx", ".pt", ".h5")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_FIRST_PART = re.compile(r"-00001-of-\d{5}\.gguf$")


def is_large_by_name(path: str, content: bytes) -> bool:
    """Say whether the Hub would keep a file in LFS, from its suffix."""
    del content
    return path.endswith(_LARGE)


def git_sha1(kind: str, content: bytes) -> str:
    """Name an object as git does."""
    return hashlib.sha1(b"%b %d\0%b" % (kind.encode(), len(content), content), usedforsecurity=False).hexdigest()


class File:
    """One file's content and its names."""

    def __init__(self, content: bytes, *, large: bool) -> None:
        self.content = content
        self.large = large
        self.xet_hash: str | None = None

    @cached_property
    def sha256(self) -> str:
        """The LFS object id."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def oid(self) -> str:
        """The git blob that stands in the tree: the content, or the LFS pointer."""
        return git_sha1("blob", self.pointer if self.large else self.content)

    @property
    def pointer(self) -> bytes:
        """The text that git keeps in place of a large file."""
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        return text.encode()

    @property
    def etag(self) -> str:
        """What the Hub calls the file's ETag, without quotes."""
        return self.sha256 if self.large else self.oid

    @property
    def cdn_etag(self) -> str:
        """The CDN's ETag: it looks like a digest of the content and is none."""
        return hashlib.sha256(b"cdn" + self.sha256.encode()).hexdigest()

    @property
    def signature(self) -> str:
        """The secret of the CDN's URL."""
        return "signed-" + hashlib.sha256(b"key" + self.sha256.encode()).hexdigest()[:24]

    def cut(self, asked: str) -> tuple[int, bytes, str]:
        """Return status, body and Content-Range for a ``Range`` header, by RFC 9110, section 14."""
        span, size = _RANGE.fullmatch(asked), len(self.content)
        if span is None:
            return 200, self.content, ""
        start, end = int(span[1]), min(int(span[2] or size), size - 1)
        if start >= size:
            return 416, b"", f"bytes */{size}"
        return 206, self.content[start : end + 1], f"bytes {start}-{end}/{size}"

    def entry(self, path: str) -> dict[str, object]:
        """Return the file as trees and paths-info list it."""
        large = {"lfs": {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}}
        return {"type": "file", "oid": self.oid, "size": len(self.content), "path": path} | (
            large | ({"xetHash": self.xet_hash} if self.xet_hash else {}) if self.large else {}
        )

    def sibling(self) -> dict[str, object]:
        """Return the file as repository information with ``blobs=true`` lists it."""
        large = {"lfs": {"sha256": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}}
        return {"size": len(self.content), "blobId": self.oid} | (large if self.large else {})


@dataclass(slots=True)
class Repo:
    """One repository."""

    kind: str
    id: str
    lfs: Callable[[str, bytes], bool]
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    gated_metadata: bool = False
    admitted: set[str] = field(default_factory=set)

    def commit(self, files: Mapping[str, bytes], branch: str) -> str:
        """Put a commit with exactly these files on a branch; return its name."""
        tree = {path: File(content, large=self.lfs(path, content)) for path, content in files.items()}
        text = json.dumps([self.id, self.branches.get(branch), {path: file.oid for path, file in sorted(tree.items())}])
        name = git_sha1("commit", text.encode())
        self.commits[name] = tree
        self.branches[branch] = name
        return name

    def resolve(self, revision: str) -> str | None:
        """Return the commit that a branch, tag, ref or (abbreviated) commit names."""
        named = self.branches.get(revision) or self.tags.get(revision)
        if named is None and _COMMIT.fullmatch(revision):
            return next((commit for commit in self.commits if commit.startswith(revision)), None)
        return named

    def all_files(self) -> Iterator[File]:
        """Yield the files of all commits."""
        for files in self.commits.values():
            yield from files.values()

    def entries(self, commit: str, folder: str = "", *, recursive: bool) -> list[dict[str, object]]:
        """Return the entries below a folder, files and folders, in the order of their paths."""
        inside = f"{folder}/" if folder else ""
        found: dict[str, dict[str, object]] = {}
        for path in self.commits[commit]:
            if not path.startswith(inside):
                continue
            names = path[len(inside) :].split("/")
            for depth in range(1, len(names) + 1 if recursive else 2):
                below = inside + "/".join(names[:depth])
                entry = self.entry(commit, below)
                if entry is not None:
                    found[below] = entry
        return [found[path] for path in sorted(found)]

    def entry(self, commit: str, path: str) -> dict[str, object] | None:
        """Return one file or folder as it is listed, or None."""
        files = self.commits[commit]
        if path in files:
            return files[path].entry(path)
        if any(name.startswith(f"{path}/") for name in files):
            return {"type": "directory", "oid": git_sha1("tree", path.encode()), "size": 0, "path": path}
        return None

    def pick(self, tag: str) -> tuple[tuple[str, File] | None, tuple[str, File] | None]:
        """Return the model's (first) file for a quantisation tag, and its projector, each None where there is none."""
        files = sorted(self.commits[self.branches["main"]].items())
        models = [
            it
            for it in files
            if it[0].endswith(".gguf") and "mmproj" not in it[0] and ("-of-" not in it[0] or _FIRST_PART.search(it[0]))
        ]
        wanted = [tag] if tag != "latest" else ["Q4_K_M", "Q8_0", ""]
        chosen = next((it for name in wanted for it in models if name.lower() in it[0].lower()), None)
        projector = next((it for it in files if "mmproj" in it[0] and it[0].endswith(".gguf")), None)
        return chosen, projector
