"""What is in the repository is what is shipped."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_folder_is_shipped():
    """Each folder with an __init__.py below a source root lies in one of the packages of the wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = [ROOT / name for name in settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
    packages = [path.parent for root in ("cache", "cli", "migrations") for path in (ROOT / root).rglob("__init__.py")]

    assert packages
    assert [path for path in packages if not any(path.is_relative_to(one) for one in shipped)] == []


def test_the_entry_points_exist():
    """The command and each source that pyproject names can be loaded."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = [*project["scripts"].values(), *project["entry-points"]["modelcask.sources"].values()]
    for point in points:
        module, _, name = point.partition(":")
        assert hasattr(__import__(module, fromlist=[name]), name)
