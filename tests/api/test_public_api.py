"""The public surface is what ``__all__`` says, and importing it stays cheap."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import modelcask
from modelcask import errors


def test_every_public_name_resolves():
    """Each name in __all__ can be had, and they are sorted."""
    assert sorted(modelcask.__all__) == modelcask.__all__
    for name in modelcask.__all__:
        assert getattr(modelcask, name).__name__ == name


def test_no_module_takes_the_place_of_a_public_name():
    """Importing a submodule puts it into the package under its own name: that may not be a public one."""
    modules = {module.name.rpartition(".")[2] for module in pkgutil.iter_modules(modelcask.__path__)}

    assert modules & set(modelcask.__all__) == set()


def test_every_error_is_public():
    """Whoever catches an error can name it without knowing a module of ours."""
    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and name.endswith("Error")}

    assert tree <= set(modelcask.__all__)


def test_an_unknown_name_is_an_attribute_error():
    """A typing slip shows as Python shows it elsewhere."""
    assert not hasattr(modelcask, "no_such_name")


def test_a_lookup_imports_none_of_the_heavy_libraries(tmp_path: Path):
    """A program that only looks models up pays for neither the network nor the ORM."""
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    uri = model.as_uri()
    with modelcask.ModelCache(tmp_path / "cask") as cache:
        [snapshot] = cache.pull(uri)
    script = (
        "import json, sys, modelcask\n"
        f"path = modelcask.ModelCache({str(tmp_path / 'cask')!r}).lookup({uri!r})\n"
        "heavy = {'aiohttp', 'sqlalchemy', 'alembic', 'huggingface_hub', 'rich', 'asyncio.base_events'}\n"
        "print(json.dumps([str(path), sorted((heavy - {'asyncio.base_events'}) & set(sys.modules))]))\n"
    )
    found, heavy = json.loads(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout)

    assert found == str(snapshot.path)
    assert heavy == []
