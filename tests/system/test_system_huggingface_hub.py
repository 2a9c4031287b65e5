"""Our snapshot of a repository is huggingface_hub's own, file for file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import huggingface_hub
import pytest

import modelcask
from hub import FakeHub

LARGE = bytes(range(256)) * 8000
FILES = {
    "config.json": b'{"a": 1}',
    ".gitattributes": b"*.safetensors filter=lfs\n",
    "README.md": "# Größe\n".encode(),
    "model.safetensors": LARGE,
    "onnx/model.onnx": LARGE[::-1],
    "onnx/config.json": b"{}",
    "sub/folder/with space & 100%.txt": b"x" * 5000,
    "sub/ünïcode.json": b"[]",
    "empty.txt": b"",
}
NEXT = {**FILES, "config.json": b'{"a": 2}', "added.json": b"{}"}

# In a process of its own: the library reads its environment once, when it is imported.
SNAPSHOTS = """
import json, sys
from huggingface_hub import snapshot_download
asked = json.load(sys.stdin)
print(json.dumps([snapshot_download(**arguments) for arguments in asked]))
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One snapshot, in huggingface_hub's words."""

    repo_id: str
    repo_type: str = "model"
    revision: str | None = None
    allow_patterns: tuple[str, ...] | None = None
    ignore_patterns: tuple[str, ...] | None = None

    @property
    def uri(self) -> str:
        """The same in ours."""
        kind = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        return f"hf://{kind}{self.repo_id}" + (f"@{self.revision}" if self.revision else "")


CASES = {
    "a model": Asked("acme/tiny"),
    "a tag": Asked("acme/tiny", revision="v1"),
    "a pull request": Asked("acme/tiny", revision="refs%2Fpr%2F1"),
    "a dataset": Asked("acme/tiny", repo_type="dataset"),
    "a legacy name": Asked("gpt2"),
    "one suffix, in folders too": Asked("acme/tiny", allow_patterns=("*.json",)),
    "a folder": Asked("acme/tiny", allow_patterns=("onnx/",)),
    "a folder and more, less some": Asked("acme/tiny", allow_patterns=("sub/*", "*.md"), ignore_patterns=("*.txt",)),
    "all but": Asked("acme/tiny", ignore_patterns=("onnx/", "*.safetensors", "[Rc]*")),
}


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub(page_size=3) as hub:
        first = hub.add_repo("models", "acme/tiny", FILES)
        hub.add_tag("models", "acme/tiny", "v1", first)
        hub.add_commit("models", "acme/tiny", NEXT)
        hub.add_commit("models", "acme/tiny", {"config.json": b'{"a": 3}'}, branch="refs/pr/1")
        hub.add_repo("datasets", "acme/tiny", {"data/train.csv": b"a,b\n", "data/test.bin": LARGE})
        hub.add_repo("models", "gpt2", FILES)
        yield hub
    huggingface_hub.close_session()  # it is one for the process, and keeps connections to this hub


@pytest.fixture(scope="module")
def theirs(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders that huggingface_hub makes, each case in a cache of its own."""
    home = tmp_path_factory.mktemp("huggingface")
    asked = []
    for number, case in enumerate(CASES.values()):
        revision = case.revision and case.revision.replace("%2F", "/")
        asked.append({**asdict(case), "revision": revision, "cache_dir": str(home / f"cache{number}")})
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", SNAPSHOTS],
        env={**kept, "HF_HOME": str(home), "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, map(Path, json.loads(done.stdout)), strict=True))


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_the_snapshot_is_the_one_that_huggingface_hub_makes(hub: FakeHub, theirs: dict[str, Path], case: str) -> None:
    """The same commit, the same names, the same bytes, and nothing besides."""
    asked = CASES[case]
    with modelcask.ModelCache(settings=modelcask.load_settings(hf_endpoint=hub.endpoint)) as cache:
        [snapshot] = cache.pull(asked.uri, include=asked.allow_patterns or (), exclude=asked.ignore_patterns or ())
    expected = read(theirs[case])

    assert expected
    assert read(snapshot.path) == expected
    assert snapshot.path.name == theirs[case].name == snapshot.revision
    assert {entry.path for entry in snapshot.entries} == set(expected)
