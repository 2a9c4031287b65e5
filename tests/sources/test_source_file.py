"""Local files: regular ones only, known by inode, size and time."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from modelcask.config import Settings
from modelcask.digest import Digest
from modelcask.errors import AccessDeniedError, CacheError, InvalidURIError, ModelNotFoundError, StorageError
from modelcask.sources.file import FileSource
from modelcask.types import FileLocation, RemoteFile, Resolution
from modelcask.uri import parse_uri


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    return FileSource(Settings(home=tmp_path), None)


async def resolve(source: FileSource, path: Path, fragment: str = "") -> Resolution:
    return await source.resolve(parse_uri(path.as_uri() + fragment))


async def test_a_file_is_what_stat_says(source: FileSource, tmp_path: Path) -> None:
    """Name, size and place; the revision is made of inode, size and modification time."""
    path = tmp_path / "model #1 (é).gguf"
    path.write_bytes(b"weights")
    found = await resolve(source, path)
    stat = path.stat()
    assert found.files == (RemoteFile(path.name, 7, (), FileLocation(path)),)
    assert found.revision == f"stat:{stat.st_ino:x}-7-{stat.st_mtime_ns:x}"
    assert found.complete
    assert not source.needs_network


async def test_an_edited_file_is_another_revision(source: FileSource, tmp_path: Path) -> None:
    """A changed size or time, or another file of the same name, is a new version."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    revisions = [(await resolve(source, path)).revision]
    path.write_bytes(b"three")
    os.utime(path, ns=(1, 1))
    revisions.append((await resolve(source, path)).revision)
    os.utime(path, ns=(2, 2))
    revisions.append((await resolve(source, path)).revision)
    path.rename(tmp_path / "old")
    path.write_bytes(b"three")
    os.utime(path, ns=(2, 2))
    revisions.append((await resolve(source, path)).revision)
    assert len(set(revisions)) == 4


async def test_a_link_is_followed(source: FileSource, tmp_path: Path) -> None:
    """A symlink means the file behind it, under the link's name."""
    (tmp_path / "real").write_bytes(b"weights")
    link = tmp_path / "link.gguf"
    link.symlink_to("real")
    found = await resolve(source, link)
    assert (found.files[0].path, found.files[0].size_bytes) == ("link.gguf", 7)
    assert found.revision == (await resolve(source, tmp_path / "real")).revision


async def test_a_name_that_is_no_unicode_is_found(source: FileSource, tmp_path: Path) -> None:
    """A path is bytes: what is percent-encoded reaches the file, however it is named."""
    folder = tmp_path / os.fsdecode(b"folder-\xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    (folder / "m.gguf").write_bytes(b"weights")
    found = await source.resolve(parse_uri(f"{tmp_path.as_uri()}/folder-%FF/m.gguf"))
    assert found.files[0].size_bytes == 7


async def test_a_pin_is_a_promise(source: FileSource, tmp_path: Path) -> None:
    """The user's digest is what the bytes are held to."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights")
    found = await resolve(source, path, f"#sha256={'0' * 64}")
    assert found.files[0].digests == (Digest("sha256", "0" * 64),)


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "link to a folder", "device"])
async def test_what_is_no_regular_file_is_refused(
    source: FileSource, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is opened: a pipe would wait for ever, a device never end."""
    path = tmp_path / "m.gguf"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # a socket's address is shorter than many a path
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("m.gguf")
    elif kind == "link to a folder":
        path.symlink_to(tmp_path)
    else:
        path = Path("/dev/null")
    with pytest.raises(InvalidURIError, match="folder" if "folder" in kind else "no regular file"):
        await resolve(source, path)


@pytest.mark.parametrize("name", ["missing.gguf", "file/below.gguf", "dangling"])
async def test_a_missing_file_is_not_found(source: FileSource, tmp_path: Path, name: str) -> None:
    """Nothing there, a file in the place of a folder, or a link to nothing: check the path."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nothing")
    with pytest.raises(ModelNotFoundError, match="check the path"):
        await resolve(source, tmp_path / name)


@pytest.mark.parametrize(
    ("fault", "error"),
    [(PermissionError(13, "Permission denied"), AccessDeniedError), (OSError(5, "Input/output error"), StorageError)],
)
async def test_a_file_that_cannot_be_reached_is_said(
    source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError, error: type[CacheError]
) -> None:
    """Missing rights and a failing disk are told apart (root has all rights, so the system's answer is made up)."""

    def fail(_: Path) -> None:
        raise fault

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(error) as caught:
        await resolve(source, tmp_path / "m.gguf")
    assert caught.value.__cause__ is fault


async def test_a_loop_of_links_is_said(source: FileSource, tmp_path: Path) -> None:
    """Links that lead to each other are an error, not a hang."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(StorageError):
        await resolve(source, tmp_path / "a")


async def test_filters_do_not_apply_to_one_local_file(source: FileSource, tmp_path: Path) -> None:
    """Filters narrow what means several files; a file that was named is meant."""
    (tmp_path / "m.gguf").write_bytes(b"")
    found = await source.resolve(parse_uri((tmp_path / "m.gguf").as_uri()), wanted=lambda _: False)
    assert ([file.path for file in found.files], found.complete) == (["m.gguf"], True)
