"""Rebuilding believes bytes, not words."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

import modelcask


def pulled(cache: modelcask.ModelCache, path: Path, content: bytes) -> str:
    path.write_bytes(content)
    [snapshot] = cache.pull(path.as_uri())
    assert snapshot.entries[0].blob is not None
    return str(snapshot.entries[0].blob)


def test_a_manifest_that_contradicts_the_bytes_is_refused(cask: Path, tmp_path: Path):
    """A name never comes to mean another file: what was computed when it was pulled is held against the blob."""
    with modelcask.ModelCache() as cache:
        one = pulled(cache, tmp_path / "one.bin", b"one")
        two = pulled(cache, tmp_path / "two.bin", b"two")
        uri = (tmp_path / "one.bin").as_uri()
        [manifest] = [path for path in cask.glob("manifests/*/*.json") if one in path.read_text()]
        manifest.write_text(manifest.read_text().replace(one, two))
        rebuilt = cache.rebuild()

        assert len(rebuilt.refused) == 1
        assert cache.lookup(uri) is None


def test_one_hostile_manifest_does_not_stop_the_others(cask: Path, tmp_path: Path):
    """A path that leads out is refused with its manifest; everything else is found again."""
    with modelcask.ModelCache() as cache:
        pulled(cache, tmp_path / "one.bin", b"one")
        pulled(cache, tmp_path / "two.bin", b"two")
        [manifest] = [path for path in cask.glob("manifests/*/*.json") if "one.bin" in path.read_text()]
        manifest.write_text(manifest.read_text().replace('"path": "one.bin"', '"path": "../../evil"'))
        rebuilt = cache.rebuild()

        assert len(rebuilt.refused) == 1
        assert str(manifest) in rebuilt.refused[0]
        assert cache.lookup((tmp_path / "two.bin").as_uri()) is not None


def test_a_pipe_among_the_manifests_keeps_nobody_waiting(cask: Path, tmp_path: Path):
    """It is refused by its name, as anything else that is no manifest."""
    with modelcask.ModelCache() as cache:
        pulled(cache, tmp_path / "one.bin", b"one")
        [manifest] = cask.glob("manifests/*/*.json")
        os.mkfifo(manifest.with_name("pipe.json"))
        rebuilt = cache.rebuild()

        assert [refused.partition("pipe.json")[1] for refused in rebuilt.refused] == ["pipe.json"]
        assert cache.lookup((tmp_path / "one.bin").as_uri()) is not None


def test_a_newer_catalog_is_not_rebuilt_away(cask: Path, tmp_path: Path):
    """A rebuild by an older program would lose what only the newer one knows; doctor does not advise it either."""
    with modelcask.ModelCache() as cache:
        pulled(cache, tmp_path / "one.bin", b"one")
    connection = sqlite3.connect(cask / "catalog.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.execute("UPDATE meta SET value = '9999' WHERE key IN ('min_reader', 'min_writer')")
    connection.commit()
    connection.close()
    with modelcask.ModelCache() as cache:
        with pytest.raises(modelcask.SchemaVersionError):
            cache.rebuild()
        advice = [check.detail for check in cache.diagnose() if check.health is modelcask.Health.FAILURE]
        assert advice
        assert not any("rebuild" in detail for detail in advice)
