"""Which files a URI means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelcask.digest import Digest
from modelcask.errors import DigestMismatchError, ModelNotFoundError
from modelcask.selection import choose, select, with_pin
from modelcask.types import FileLocation, RemoteFile, Resolution
from modelcask.uri import ModelURI, parse_uri

SHA = Digest("sha256", "a" * 64)
OTHER = Digest("sha256", "b" * 64)
B3 = Digest("blake3", "c" * 64)
NAMES = (
    "README.md",
    "config.json",
    "m-Q4-00001-of-00002.gguf",
    "m-Q4-00002-of-00002.gguf",
    "model.safetensors",
    "onnx/a/model.onnx",
    "onnx/config.json",
    "onnx-fp16/x.bin",
)


def resolution(uri: str | ModelURI, *names: str, entrypoint: str = "", digests: tuple[Digest, ...] = ()) -> Resolution:
    parsed = parse_uri(uri) if isinstance(uri, str) else uri
    files = tuple(RemoteFile(name, 1, digests, FileLocation(Path("/nowhere") / name)) for name in names)
    return Resolution(parsed, "r1", files, complete=True, entrypoint=entrypoint)


CHOSEN: dict[str, tuple[str, list[str], list[str], set[str]]] = {
    "all": ("hf://o/r", [], [], set(NAMES)),
    "one file": ("hf://o/r/config.json", [], [], {"config.json"}),
    "one part brings all": ("hf://o/r/m-Q4-00002-of-00002.gguf", [], [], {n for n in NAMES if n.startswith("m-")}),
    "a folder": ("hf://o/r/onnx", [], [], {"onnx/a/model.onnx", "onnx/config.json"}),
    "include crosses folders": ("hf://o/r", ["*.json"], [], {"config.json", "onnx/config.json"}),
    "include a folder": ("hf://o/r", ["onnx/"], [], {"onnx/a/model.onnx", "onnx/config.json"}),
    "several includes": ("hf://o/r", ["*.md", "*.onnx"], [], {"README.md", "onnx/a/model.onnx"}),
    "exclude": ("hf://o/r", [], ["onnx*", "*.gguf"], {"README.md", "config.json", "model.safetensors"}),
    "exclude beats include": ("hf://o/r", ["*.json"], ["onnx/"], {"config.json"}),
    "a folder, filtered": ("hf://o/r/onnx", ["*.json"], [], {"onnx/config.json"}),
    "case counts": ("hf://o/r", ["*.MD", "config.json"], [], {"config.json"}),
    "a named file is wanted whatever the filter": ("hf://o/r/config.json", ["*.gguf"], [], {"config.json"}),
}


@pytest.mark.parametrize(("uri", "include", "exclude", "expected"), CHOSEN.values(), ids=CHOSEN.keys())
def test_a_uri_means_these_files(uri: str, include: list[str], exclude: list[str], expected: set[str]) -> None:
    """A file, all parts of a split model, a folder, or the filtered repository."""
    found = [file.path for file in choose(resolution(uri, *NAMES), select(include, exclude))]
    assert set(found) == expected
    assert found == [name for name in NAMES if name in expected]


@pytest.mark.parametrize(
    ("uri", "include"), [("hf://o/r/absent.bin", []), ("hf://o/r", ["*.bin2"]), ("hf://o/r/onnx", ["*.md"])]
)
def test_nothing_to_fetch_is_an_error_and_not_an_empty_snapshot(uri: str, include: list[str]) -> None:
    """A path that is not there, and filters that leave nothing."""
    with pytest.raises(ModelNotFoundError) as caught:
        choose(resolution(uri, *NAMES), select(include, []))
    assert caught.value.uri == parse_uri(uri).canonical


def test_a_split_model_with_a_missing_part_is_not_there() -> None:
    """Half a model is useless, and no later lookup would find it."""
    with pytest.raises(ModelNotFoundError, match="m-Q4-00001-of-00002"):
        choose(resolution("hf://o/r/m-Q4-00002-of-00002.gguf", "m-Q4-00002-of-00002.gguf"), None)


def test_a_quantisation_tag_means_what_its_source_resolved_it_to() -> None:
    """The source answers with the parts only: all of them are meant."""
    one = resolution("hf://o/r:Q4_K_M", "m-Q4-00001-of-00002.gguf", "m-Q4-00002-of-00002.gguf", entrypoint=NAMES[2])
    assert [file.path for file in choose(one, None)] == list(NAMES[2:4])


def test_no_filter_is_no_test() -> None:
    """None says that everything is wanted, so that nobody asks for each name."""
    assert select([], []) is None


def test_a_pin_is_the_first_promise_for_the_named_file() -> None:
    """It is checked against the bytes like any promise; other files are left as they are."""
    uri = f"hf://o/r/config.json#sha256={SHA.hex}"
    pinned = with_pin(resolution(uri, "README.md", "config.json", digests=(B3,)))
    assert [file.digests for file in pinned.files] == [(B3,), (SHA, B3)]
    again = with_pin(pinned)
    assert again == pinned
    plain = resolution("hf://o/r/config.json", "config.json", digests=(OTHER,))
    assert with_pin(plain) is plain


def test_a_pin_on_a_tag_is_for_its_entrypoint() -> None:
    """The tag names no path; its first file is what the digest is of."""
    uri = f"hf://o/r:Q4_K_M#sha256={SHA.hex}"
    pinned = with_pin(resolution(uri, *NAMES[2:4], entrypoint=NAMES[2]))
    assert [file.digests for file in pinned.files] == [(SHA,), ()]


def test_a_pin_that_contradicts_the_source_fails_before_the_first_byte() -> None:
    """Both digests are named; nothing needs to be fetched to see that they differ."""
    uri = f"hf://o/r/config.json#sha256={SHA.hex}"
    with pytest.raises(DigestMismatchError) as caught:
        with_pin(resolution(uri, "config.json", digests=(OTHER,)))
    assert (caught.value.expected, caught.value.actual) == (str(SHA), str(OTHER))


def test_a_file_without_a_promise_of_that_kind_takes_the_pin_too() -> None:
    """A weak promise beside the pin is kept and checked as well."""
    weak = Digest("git-sha1", "d" * 40)
    uri = f"hf://o/r/config.json#sha256={SHA.hex}"
    one = resolution(uri, "config.json", digests=(weak,))
    assert with_pin(one).files == (replace(one.files[0], digests=(SHA, weak)),)
