"""Sources are found by scheme, from any installed package, without importing what is not used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelcask import sources
from modelcask.config import Settings
from modelcask.errors import ConfigError, InvalidURIError
from modelcask.sources import find_source
from modelcask.sources.file import FileSource
from modelcask.sources.http import HTTPSource
from modelcask.sources.huggingface import HuggingFaceSource
from modelcask.uri import parse_uri


@pytest.mark.parametrize(
    ("scheme", "source"),
    [("hf", HuggingFaceSource), ("http", HTTPSource), ("https", HTTPSource), ("file", FileSource)],
)
def test_each_scheme_has_its_source(scheme: str, source: type) -> None:
    """The four schemes of modelcask itself are found as any other would be."""
    assert find_source(scheme) is source


def test_an_unknown_scheme_is_answered_with_those_that_exist() -> None:
    """The error lists what is installed."""
    with pytest.raises(InvalidURIError, match=r"file://, hf://, http://, https://") as caught:
        find_source("gopher")
    assert caught.value.part == "gopher"


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    metadata = tmp_path / "plug_in-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[modelcask.sources]\ntoy = plug_in:Toy\nbroken = plug_in:Nothing\n")
    (tmp_path / "plug_in.py").write_text(
        "from modelcask.types import FileLocation, RemoteFile, Resolution\n"
        "from pathlib import Path\n"
        "class Toy:\n"
        "    needs_network = False\n"
        "    def __init__(self, settings, client):\n"
        "        self.home = settings.home\n"
        "    async def resolve(self, uri, *, wanted=None):\n"
        "        file = RemoteFile(uri.path, None, (), FileLocation(Path(self.home)))\n"
        "        return Resolution(uri, 'v1', (file,), complete=True)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sources._entry_points.cache_clear()
    yield tmp_path
    sources._entry_points.cache_clear()
    sys.modules.pop("plug_in", None)


@pytest.mark.usefixtures("plug_in")
async def test_another_package_can_bring_a_scheme(tmp_path: Path) -> None:
    """An entry point and a class are all that a new scheme needs."""
    uri = parse_uri("toy://shelf/bear.gguf")
    found = await find_source("toy")(Settings(home=tmp_path), None).resolve(uri)
    assert [(file.path, found.revision) for file in found.files] == [("bear.gguf", "v1")]


@pytest.mark.usefixtures("plug_in")
def test_a_package_that_cannot_be_loaded_is_named() -> None:
    """A broken plug-in is its own error, and the other schemes still work."""
    with pytest.raises(ConfigError, match="plug-in"):
        find_source("broken")
    assert find_source("file") is FileSource


def test_finding_a_source_imports_nothing_heavy() -> None:
    """aiohttp, huggingface_hub and its transport are imported by the first request, not by looking for a source."""
    program = (
        "import sys\n"
        "from modelcask.sources import find_source\n"
        "for scheme in ('hf', 'https', 'file'): find_source(scheme)\n"
        "print(*[name for name in ('aiohttp', 'yarl', 'huggingface_hub', 'httpx2') if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
