"""The rules of mirrors, as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcask.sources.mirrors import with_mirrors
from modelcask.types import Credential, FileLocation, HTTPLocation, Location, RemoteFile, Resolution
from modelcask.uri import parse_uri

URL = "https://host/models/a b.gguf"
CASES: dict[str, tuple[str, dict[str, list[str]], list[str]]] = {
    "any host": (URL, {"": ["https://m"]}, ["https://m/models/a b.gguf"]),
    "any host, below a path": (URL, {"": ["https://m/x/"]}, ["https://m/x/models/a b.gguf"]),
    "a host": (URL, {"https://host": ["https://m"]}, ["https://m/models/a b.gguf"]),
    "a path": (URL, {"https://host/models": ["https://m"]}, ["https://m/a b.gguf"]),
    "a path with a slash": (URL, {"https://host/models/": ["https://m"]}, ["https://m/a b.gguf"]),
    "the whole": (URL, {URL: ["https://m/x"]}, ["https://m/x"]),
    "half a host": (URL, {"https://ho": ["https://m"]}, []),
    "a host that begins so": ("https://host.evil/a", {"https://host": ["https://m"]}, []),
    "half a name": (URL, {"https://host/mod": ["https://m"]}, []),
    "another scheme": (URL, {"http://host": ["https://m"]}, []),
    "another port": ("https://host:444/a", {"https://host": ["https://m"]}, []),
    "several, in order": (
        URL,
        {"https://host": ["https://2", "https://1"], "": ["https://3", "https://1"]},
        [f"https://{n}/models/a b.gguf" for n in (2, 1, 3)],
    ),
    "itself": (URL, {"": ["https://host"]}, []),
    "a query": ("https://host/a?file=b", {"": ["https://m"]}, ["https://m/a?file=b"]),
    "a query behind the prefix": ("https://host/a?file=b", {"https://host/a": ["https://m/c"]}, ["https://m/c?file=b"]),
    "a signed URL": ("https://host/a?token=s3cret&X-Amz-Date=1", {"": ["https://m"]}, ["https://m/a"]),
}


def resolved(location: Location) -> Resolution:
    return Resolution(parse_uri("https://host/a"), None, (RemoteFile("a", 1, (), location),), complete=True)


@pytest.mark.parametrize(("url", "rules", "expected"), CASES.values(), ids=CASES.keys())
def test_a_rule_names_the_mirrors_of_what_begins_with_it(
    url: str, rules: dict[str, list[str]], expected: list[str]
) -> None:
    """Whole parts of a URL are compared; each mirror comes once; secrets of a query stay behind."""
    [file] = with_mirrors(resolved(HTTPLocation(url)), rules.items()).files
    assert [mirror.url for mirror in file.mirrors] == expected


def test_a_mirror_gets_no_credential_and_the_leave_for_plain_http() -> None:
    """A pinned digest proves the bytes, whoever sends them, but opens no door."""
    location = HTTPLocation(URL, Credential("https://host:443", (("X-Key", "1"),)), allow_http=True)
    [file] = with_mirrors(resolved(location), [("", ["http://m"])]).files
    [mirror] = file.mirrors
    assert (mirror.credential, mirror.allow_http) == (None, True)


def test_local_files_have_none() -> None:
    """Nothing of a disk lies elsewhere."""
    [file] = with_mirrors(resolved(FileLocation(Path("/a"))), [("", ["https://m"])]).files
    assert file.mirrors == ()
