"""Paths under the root: distinct things have distinct places, and none is outside."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from modelcask import layout as layout_module
from modelcask.digest import Digest
from modelcask.layout import Layout, ingest_key, revision_slug, slug

PLAIN = re.compile(r"[A-Za-z0-9._-]+")
ROOT = Path("/srv/cask")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(texts)
def test_a_slug_is_a_plain_short_file_name(text: str) -> None:
    """Whatever the text: safe letters, no hidden or special name, far below the limit of any file system."""
    name = slug(text)
    assert PLAIN.fullmatch(name)
    assert name not in {".", ".."}
    assert name[0] != "."
    assert len(name) <= 97


@given(texts, texts)
def test_two_texts_have_two_slugs_even_where_case_does_not_count(one: str, other: str) -> None:
    """Texts that differ in case, in replaced characters or beyond the cut are two folders."""
    assume(one != other)
    assert slug(one).lower() != slug(other).lower()


def test_texts_that_read_alike_have_two_slugs() -> None:
    """The cases that chance would not find."""
    alike = ["a/b", "a-b", "a--b", "A/b", "a/b/", "-a/b", "a:b", "", "-", ".", "x" * 200, "x" * 201]
    assert len({slug(text).lower() for text in alike}) == len(alike)


def test_a_slug_never_changes() -> None:
    """It is part of the on-disk format: another one would orphan every snapshot and manifest."""
    assert slug("hf://models/org/name") == "hf-models-org-name-866a88ab1d5f153a"
    assert slug("https://host/m.gguf") == "https-host-m.gguf-1e4aba58a3cdbffc"


def test_a_commit_is_its_own_folder_and_nothing_else_is() -> None:
    """A commit stays as it is; what only looks like one is made safe."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert revision_slug(commit) == commit
    assert revision_slug(commit + "a" * 24) == commit + "a" * 24
    for other in (commit[:-1], commit.upper(), commit + "\n", '"etag"', "stat:1-2-3", "../..", "٠" * 40):  # noqa: RUF001 - digits that are no hex digits
        assert revision_slug(other) == slug(other)


def test_one_file_has_one_key_wherever_it_comes_from() -> None:
    """A promised digest is the identity; without one the place is, and no two places share a key."""
    digest = Digest("sha256", "ab" * 32)
    by_digest = {
        ingest_key(expected=digest, source=source, revision=revision, path=path)
        for source in "ab"
        for revision in ("1", None)
        for path in "xy"
    }
    assert by_digest == {digest.hex}
    places = [(source, rev, path) for source in ("a", "ab", "a/b") for rev in ("1", "b", None) for path in ("x", "b/x")]
    keys = {ingest_key(expected=None, source=source, revision=rev, path=path) for source, rev, path in places}
    assert len(keys) == len(places)
    assert digest.hex not in keys


def test_every_path_is_below_the_root_and_drawn() -> None:
    """The picture at the head of the module names the first component of each path."""
    digest = Digest("blake3", "0f" * 32)
    at = Layout(ROOT)
    found = [
        at.format_file,
        at.cachedir_tag,
        at.blobs,
        at.blob(digest),
        at.partials,
        at.partial("key"),
        at.snapshots,
        at.snapshot("hf://models/o/r", "../../etc"),
        at.manifests,
        at.manifest("../../etc", "../../etc"),
        at.trash,
        at.quarantine,
        at.sessions,
        at.locks,
        at.gc_lock,
        at.schema_lock,
        at.writer_lock,
        at.blob_lock(digest),
        at.key_lock("key"),
        at.catalog,
        at.backups,
    ]
    assert len(set(found)) == len(found)
    drawn = layout_module.__doc__ or ""
    for path in found:
        relative = path.relative_to(ROOT)
        assert ".." not in relative.parts
        assert relative.parts[0] in drawn
    assert at.blob(digest) == ROOT / "blobs" / "b3" / "0f" / ("0f" * 32)


def test_a_catalog_that_is_being_rebuilt_has_files_and_a_schema_lock_of_its_own() -> None:
    """It stands beside the one in use; the stripe locks and the writer's gate are the same."""
    old, new = Layout(ROOT), Layout(ROOT, "rebuild")
    assert old.catalog != new.catalog
    assert old.schema_lock != new.schema_lock
    assert old.writer_lock == new.writer_lock
