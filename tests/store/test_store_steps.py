"""Whatever changes the file system is a named step of ``store/fs.py``, so that a test can stop the process there."""

from __future__ import annotations

import ast
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import modelcask
from modelcask.errors import StorageError, StoreFullError
from modelcask.store import fs

PACKAGE = Path(modelcask.__file__).parent

CHANGING = frozenset(
    {"rename", "renames", "replace", "link", "symlink", "unlink", "remove", "removedirs", "rmdir", "mkdir", "makedirs"}
    | {"mkfifo", "mknod", "chmod", "fchmod", "lchmod", "chown", "fchown", "lchown", "utime", "truncate", "ftruncate"}
    | {"posix_fallocate", "write", "writev", "pwrite", "pwritev", "sendfile", "copy_file_range", "setxattr", "chflags"}
)
OF_PATHS = frozenset(
    {"write_text", "write_bytes", "touch", "unlink", "rename", "mkdir", "rmdir", "symlink_to", "hardlink_to", "chmod"}
)
FOR_WRITING = frozenset({"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"})

ALLOWED = {
    "locks.py: os.open": "a lock file is made by whoever first wants the lock; it holds nothing that is ever believed",
    "locks.py: os.ftruncate": "the note of who holds a lock",
    "locks.py: os.pwrite": "the same",
    "locks.py: .unlink": "a lock file that is deleted with its lock",
    "reserve.py: os.open": "the reserve is cut where the catalog, which knows no step, meets a full disk",
    "reserve.py: os.ftruncate": "the same",
    "store/sessions.py: os.pwrite": "a lease, on the way of every lookup: one write of one line",
    "store/sessions.py: os.ftruncate": "a lease for which the disk has no room",
    "store/room.py: os.open": "what a pull has reserved: it goes with a session, and nothing is lost with it",
    "store/room.py: open for writing": "the same",
    "store/room.py: os.write": "the same",
    "store/room.py: .rename": "the same",
    "store/room.py: .unlink": "the same",
    "store/system.py: os.posix_fallocate": "how a step of fs.py is done on this system",
    "store/system.py: os.ftruncate": "the same",
    "store/system.py: os.pwrite": "the same",
    "fetch/xet_child.py: os.write": "what goes wrong, told to the parent on stderr",
    "fetch/xet_child.py: tempfile.TemporaryDirectory": "a folder that hf_xet wants, outside the root",
    "catalog/creation.py: os.open": "the catalog's file is made private before SQLite opens it",
    "catalog/creation.py: os.fchmod": "the same",
    "catalog/upgrade.py: .mkdir": "copies of the catalog, which SQLite itself writes, before an upgrade",
    "catalog/upgrade.py: .unlink": "the same",
    "catalog/upgrade.py: .rename": "the same",
}


def changes(tree: ast.AST) -> Iterator[str]:  # noqa: C901 - one case for each form of call
    """Yield each call in ``tree`` that changes the file system, or might."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in {"os", "shutil", "tempfile"}:
            yield f"from {node.module} import"
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Attribute(value=ast.Name(id="os"), attr="open"):
                if FOR_WRITING & {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}:
                    yield "os.open"
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in CHANGING:
                yield f"os.{name}"
            case ast.Attribute(value=ast.Name(id="shutil" | "tempfile" as module), attr=name):
                yield f"{module}.{name}"
            case ast.Attribute(value=ast.Name(id="fs")):
                pass  # the named steps
            case ast.Attribute(attr=name) if name in OF_PATHS:
                yield f".{name}"
            case ast.Name(id="open") | ast.Attribute(attr="open"):
                modes = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                if any(
                    isinstance(mode, str) and set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes
                ):
                    yield "open for writing"


def test_nothing_else_in_the_package_changes_the_file_system() -> None:
    """Each exception has its reason above, and each reason its use."""
    found: set[str] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name != "store/fs.py":
            found.update(f"{name}: {call}" for call in changes(ast.parse(path.read_text(encoding="utf-8"))))
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "code",
    [
        "os.rename(a, b)",
        "os.open(p, os.O_RDONLY | os.O_CREAT)",
        "path.write_bytes(b'')",
        "open(p, 'w')",
        "path.open(mode='r+b')",
        "shutil.rmtree(p)",
        "from os import rename",
        "layout.root.mkdir()",
    ],
)
def test_the_search_finds_what_it_is_for(code: str) -> None:
    """It would be of no use otherwise."""
    assert list(changes(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["os.open(p, os.O_RDONLY)", "open(p)", "path.open('rb')", "fs.unlink('x', p)", "os.stat(p)"]
)
def test_the_search_lets_reading_pass(code: str) -> None:
    """Nor would it be if it cried at everything."""
    assert not list(changes(ast.parse(code)))


def test_each_change_announces_itself_before_it_happens(tmp_path: Path) -> None:
    """For every function that takes ``what``: the hook stops it, and nothing has changed."""
    functions = [
        node.name
        for node in ast.parse(Path(fs.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "what"
    ]
    assert set(functions) == set(CALLS)
    for name, prepare in CALLS.items():
        folder = tmp_path / name
        folder.mkdir()
        call = prepare(folder)
        before = snapshot(folder)
        fs.on_step(stop)
        try:
            with pytest.raises(StopError):
                call()
        finally:
            fs.on_step(None)
        assert snapshot(folder) == before, name


class StopError(Exception):
    """The process ended here."""


def stop(_: str) -> None:
    raise StopError


def snapshot(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((path.name, path.lstat().st_mode, path.lstat().st_size) for path in folder.rglob("*"))


def with_file(action: Callable[[Path, int], object]) -> Callable[[Path], Callable[[], object]]:
    def prepare(folder: Path) -> Callable[[], object]:
        path = folder / "file"
        fd = fs.create("x", path)
        return lambda: action(path, fd)

    return prepare


def with_folder(folder: Path) -> Callable[[], object]:
    (folder / "there").mkdir()
    return lambda: fs.remove_folder("x", folder / "there")


def with_open_folder(folder: Path) -> Callable[[], object]:
    (folder / "there").mkdir(mode=0o755)
    (folder / "there").chmod(0o755)
    return lambda: fs.close_to_others("x", folder / "there")


CALLS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "make_folder": lambda folder: lambda: fs.make_folder("x", folder / "new"),
    "close_to_others": with_open_folder,
    "create": lambda folder: lambda: fs.create("x", folder / "new"),
    "occupy": with_file(lambda path, fd: fs.occupy("x", path, fd, 10)),
    "preallocate": with_file(lambda path, fd: fs.preallocate("x", path, fd, 10)),
    "write_at": with_file(lambda path, fd: fs.write_at("x", path, fd, [b"abc"], 0)),
    "truncate": with_file(lambda path, fd: fs.truncate("x", path, fd, 10)),
    "sync_data": with_file(lambda path, fd: fs.sync_data("x", path, fd)),
    "seal": with_file(lambda path, fd: fs.seal("x", path, fd)),
    "link": with_file(lambda path, _: fs.link("x", path, path.with_name("second"))),
    "rename": with_file(lambda path, _: fs.rename("x", path, path.with_name("second"))),
    "unlink": with_file(lambda path, _: fs.unlink("x", path)),
    "clear": with_file(lambda path, _: fs.clear("x", path)),
    "remove_folder": with_folder,
    "sync_folder": lambda folder: lambda: fs.sync_folder("x", folder),
    "write_atomic": lambda folder: lambda: fs.write_atomic("x", folder / "new", b"abc"),
    "symlink_below": lambda folder: lambda: fs.symlink_below("x", folder, "name", "target"),
}


def test_writing_takes_as_many_calls_as_it_needs(tmp_path: Path) -> None:
    """A thousand buffers, more than one call takes, and empty ones among them, end up one behind the other."""
    buffers = [bytes([number % 251]) * (number % 7) for number in range(1500)]
    fd = fs.create("x", tmp_path / "file")
    end = fs.write_at("x", tmp_path / "file", fd, buffers, 5)
    assert (tmp_path / "file").read_bytes() == bytes(5) + b"".join(buffers)
    assert end == 5 + sum(map(len, buffers))
    assert fs.write_at("x", tmp_path / "file", fd, [b"", b""], end) == end


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may take only a part of what it is given, at any place."""
    pwritev: Callable[[int, list[bytes], int], int] = os.pwritev

    def take_three(fd: int, buffers: list[memoryview], offset: int) -> int:
        return pwritev(fd, [b"".join(map(bytes, buffers))[:3]], offset)

    monkeypatch.setattr(os, "pwritev", take_three)
    fd = fs.create("x", tmp_path / "file")
    content: list[bytes | bytearray | memoryview] = [b"ab", b"cdefg", bytearray(b"h"), memoryview(b"ijklmnop")]
    assert fs.write_at("x", tmp_path / "file", fd, content, 0) == 16
    assert (tmp_path / "file").read_bytes() == b"abcdefghijklmnop"


def test_a_small_file_appears_as_a_whole(tmp_path: Path) -> None:
    """Its name is not there before all of it is durable; a failure at any step leaves nothing at all."""
    path = tmp_path / "file"
    for failing in ("x.create", "x.write", "x.fsync", "x.rename"):

        def hook(name: str, failing: str = failing) -> None:
            assert not path.exists()
            if name == failing:
                raise StopError

        fs.on_step(hook)
        with pytest.raises(StopError):
            fs.write_atomic("x", path, b"content")
        fs.on_step(None)
        assert list(tmp_path.iterdir()) == []


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Private, durable, and without a trace of how it was made; a failure leaves the old one and nothing else."""
    path = tmp_path / "file"
    steps: list[str] = []
    fs.on_step(steps.append)
    fs.write_atomic("x", path, b"first")
    fs.write_atomic("x", path, b"second")
    fs.on_step(None)
    assert steps == ["x.create", "x.write", "x.fsync", "x.rename", "x.fsync-folder"] * 2
    for failing in ("x.create", "x.write", "x.fsync", "x.rename"):
        fs.on_step(lambda name, failing=failing: stop(name) if name == failing else None)  # type: ignore[misc] # a default binds the loop's name
        with pytest.raises(StopError):
            fs.write_atomic("x", path, b"third")
        fs.on_step(None)
        assert path.read_bytes() == b"second"
        assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_name_that_is_taken_is_not_replaced_by_a_link(tmp_path: Path) -> None:
    """Publishing never overwrites."""
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    assert not fs.link("x", tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"b"
    assert fs.link("x", tmp_path / "a", tmp_path / "c")


def test_only_an_empty_folder_is_removed(tmp_path: Path) -> None:
    """One with something in it stays; one that is gone is removed."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    assert not fs.remove_folder("x", tmp_path / "full")
    assert fs.remove_folder("x", tmp_path / "empty")
    assert fs.remove_folder("x", tmp_path / "empty")
    with pytest.raises(StorageError):
        fs.remove_folder("x", tmp_path / "full" / "file")


def test_only_a_regular_file_is_opened_again(tmp_path: Path) -> None:
    """No link, no folder, no pipe that would wait for its other end; a sealed file for reading only."""
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "sealed").write_bytes(b"x")
    (tmp_path / "sealed").chmod(0o444)
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", "link", "pipe"):
        assert fs.reopen(tmp_path / name) is None
    for name, writable in (("file", True), ("sealed", False)):
        fd = fs.reopen(tmp_path / name)
        assert fd is not None
        flags = 3  # O_ACCMODE
        assert (fcntl.fcntl(fd, fcntl.F_GETFL) & flags == os.O_RDWR) is writable
        os.close(fd)


def test_what_cannot_be_opened_for_another_reason_is_an_error(tmp_path: Path) -> None:
    """Only what is not there is None."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        fs.reopen(tmp_path / "file" / "below")
    with pytest.raises(StorageError):
        fs.symlink_below("x", tmp_path, "n" * 300, "target")


def mount_of(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.is_mount())


@pytest.mark.parametrize(("number", "error"), [(28, StoreFullError), (122, StoreFullError), (5, StorageError)])
def test_an_error_of_the_system_becomes_one_that_says_what_to_do(
    tmp_path: Path, number: int, error: type[Exception]
) -> None:
    """Full is full, by quota too; the rest is the disk. The original is kept as the cause."""
    with pytest.raises(error) as caught, fs.translated(tmp_path / "file", 1000):
        raise OSError(number, "x")
    assert isinstance(caught.value.__cause__, OSError)
    if isinstance(caught.value, StoreFullError):
        assert caught.value.needed == 1000
        assert caught.value.available > 0
        assert str(mount_of(tmp_path)) in str(caught.value)


def test_a_disk_that_may_not_be_written_is_called_read_only(tmp_path: Path) -> None:
    """Not a matter of permissions, nor of a failing disk: the next step is a mount or another place."""
    with pytest.raises(StorageError, match=r"mounted read-only.*MODELCASK_HOME"), fs.translated(tmp_path / "file"):
        raise OSError(errno.EROFS, "x")


def test_clearing_a_name_takes_whatever_has_it(tmp_path: Path) -> None:
    """A folder with all in it, a pipe, a link and not what it points to; what is not there is no error."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "link").symlink_to(outside)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe", "none"):
        fs.clear("x", tmp_path / name)
        assert not os.path.lexists(tmp_path / name)
    assert outside.read_bytes() == b"precious"


def test_what_is_occupied_is_taken_from_the_disk(tmp_path: Path) -> None:
    """Its blocks are there, so that cutting it gives them back."""
    fd = fs.create("x", tmp_path / "file")
    fs.occupy("x", tmp_path / "file", fd, 1 << 20)
    assert os.fstat(fd).st_blocks * 512 >= 1 << 20
    os.close(fd)
