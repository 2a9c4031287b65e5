"""docs/architecture.md names what the code has: modules, tables, formats, invariants, errors."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from modelcask import errors
from modelcask.catalog.tables import METADATA
from modelcask.digest import Digest
from modelcask.store import manifests
from modelcask.store.journal import Identity, Journal, Segment
from modelcask.store.root import Format

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")
LIBRARY = TOP / "cache" / "modelcask"


def first_cells(heading: str) -> list[str]:
    """Return the first cell of each row of the tables under a heading, without back quotes."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [cell.strip("`*") for cell in re.findall(r"^\| ([^|]+?) \|", section, re.MULTILINE)]


def test_every_module_has_its_line() -> None:
    """The table of modules has each file of the library that is not empty, and no other."""
    files = {path.relative_to(LIBRARY).as_posix() for path in LIBRARY.rglob("*.py") if path.stat().st_size}
    named = {cell for cell in first_cells("2. Layers and modules") if cell.endswith(".py")}
    assert named == files


def test_the_rows_of_the_import_rule_are_those_that_are_checked() -> None:
    """Each layer in pyproject.toml stands in the drawing of the rows, in the same order."""
    contract = (TOP / "pyproject.toml").read_text(encoding="utf-8").partition("\nlayers = [")[2].partition("]")[0]
    layers = [re.findall(r"\w+", row) for row in re.findall(r'"([^"]+)"', contract)]
    drawing = PAGE.partition("from the top:\n\n```\n")[2].partition("```")[0]
    drawn = [re.findall(r"\w+", row) for row in drawing.splitlines()]
    assert len(layers) > 10
    assert len(drawn) == len(layers)
    for layer, row in zip(layers, drawn, strict=True):
        assert set(layer) == set(row)


def test_every_file_that_is_named_is_there() -> None:
    """A name that ends in .py is a file of the library, by its path or its own name, or one of the project."""
    files = [path.relative_to(LIBRARY).as_posix() for path in LIBRARY.rglob("*.py")]
    for name in set(re.findall(r"`([\w/]+\.py)`", PAGE)):
        assert (TOP / name).exists() or any(f"/{file}".endswith(f"/{name}") for file in files), name


def test_every_function_that_is_named_is_there() -> None:
    """Where the page says ``module.name``, a module of that name defines it."""
    sources: dict[str, str] = {}
    for path in LIBRARY.rglob("*.py"):
        sources[path.stem] = sources.get(path.stem, "") + path.read_text(encoding="utf-8")
    named = {(module, name) for module, name in re.findall(r"`(\w+)\.(\w+)[`(]", PAGE) if module in sources}
    told = {(module, name) for module, name in named if name not in {"py", "db", "toml"}}
    assert len(told) > 10
    for module, name in told:
        assert re.search(rf"\b(?:def|class) {name}\b", sources[module]), f"{module}.{name}"


def test_every_table_has_its_line() -> None:
    """The tables of the catalog are those of the page."""
    tables = set(METADATA.tables)
    assert {cell for cell in first_cells("4. Catalog") if cell != "table"} == tables


def claim_one(folder: Path) -> None:
    """Write a journal of one claim, and its meta."""
    journal = Journal(folder, Identity("s", None, "p", 1, '"e"', (Digest("sha256", "0" * 64),)))
    journal.add(Segment(0, 1, bytes(16)))
    journal.write()
    journal.close()


def test_the_record_of_the_journal_is_as_drawn(tmp_path: Path) -> None:
    """A claim takes as many bytes as the page says, and its last field ends there."""
    claim_one(tmp_path)
    size = (tmp_path / "journal").stat().st_size
    assert f"`journal` is append-only, {size} bytes a record" in PAGE
    ranges = [tuple(map(int, pair)) for pair in re.findall(r"^\| (\d+)\D(\d+) \|", PAGE, re.MULTILINE)]
    assert [start for start, _ in ranges] == [0, *(end + 1 for _, end in ranges[:-1])]
    assert ranges[-1][1] == size - 1


def test_the_fields_of_the_files_are_named(tmp_path: Path) -> None:
    """FORMAT, meta and manifest have the fields that the page names."""
    [form] = re.findall(r"^\*\*FORMAT\*\*.*$", PAGE, re.MULTILINE)
    assert re.findall(r"`(\w+)` \(", form) == [field.name for field in msgspec.structs.fields(Format)]

    claim_one(tmp_path)
    meta = tmp_path / "meta"
    [line] = re.findall(r"^`meta` is JSON with the fields.*$", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", line)) - {"meta"} == set(msgspec.json.decode(meta.read_bytes()))


def test_the_manifest_in_the_page_is_one(tmp_path: Path) -> None:
    """The example can be read as a manifest and uses each of its fields."""
    text = PAGE.partition("```json\n")[2].partition("```")[0]
    path = tmp_path / "manifest.json"
    path.write_text(text, encoding="utf-8")
    assert manifests.read_manifest(path) is not None
    for kind in (manifests.Manifest, manifests.ManifestEntry, manifests.ManifestRef):
        for field in msgspec.structs.fields(kind):
            assert f'"{field.name}":' in text


def test_every_invariant_is_told() -> None:
    """I1 to I7 each have a row of their own."""
    assert [cell for cell in first_cells("5. Invariants") if re.fullmatch(r"I\d", cell)] == [
        f"I{n}" for n in range(1, 8)
    ]


def test_every_error_has_its_exit_code() -> None:
    """The table has each error class with the code that ends the command, and no other."""
    section = PAGE.partition("\n## 14. Errors\n")[2].partition("\n## ")[0]
    told = {name: int(code) for name, code in re.findall(r"^\| `(\w+)` \| (\d+) \|", section, re.MULTILINE)}
    real = {
        name: value.exit_code
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.CacheError)
    }
    assert told == real
