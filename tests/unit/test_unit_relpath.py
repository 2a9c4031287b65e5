"""Names from outside become paths below our folders, or are refused: by the rules of every system on each."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelcask.errors import PolicyError
from modelcask.relpath import (
    MAX_COMPONENT_BYTES,
    MAX_PATH_BYTES,
    check_no_collisions,
    check_relpath,
    gguf_parts,
)

CLIMBING = [
    "",
    "/",
    "//",
    ".",
    "..",
    "./",
    "../",
    "...",
    "....",
    "./a",
    "../a",
    "a/.",
    "a/..",
    "a/./b",
    "a/../b",
    "a/../../b",
    "a/b/../../../c",
    "/etc/passwd",
    "//server/share",
    "///a",
    "a/",
    "a//b",
    "a///b",
    "/a/",
    "~/../a",
    "a/.../b",
    "../../../../../../../../etc/shadow",
    "..%00/" + "..",
    ".. /a",
    "a/.. ",
    "a/. /b",
    "..\\..\\a",
    "a\\b",
    "\\a",
    "\\\\server\\share\\a",
    "\\\\?\\C:\\a",
    "\\\\.\\PhysicalDrive0",
    "a/..\\b",
]
WINDOWS = [
    "C:",
    "C:\\a",
    "C:/a",
    "c:a",
    "a:b",
    "a.gguf:stream",
    "a::$DATA",
    "a/b:c",
    "CON",
    "con",
    "Con",
    "con.txt",
    "CON.tar.gz",
    "con.",
    "con ",
    "con .txt",
    "NUL   .safetensors",
    "prn",
    "PRN.gguf",
    "aux",
    "AUX.json",
    "aux/a",
    "a/aux",
    "a/aux.c/b",
    "nul",
    "NUL.bin",
    "nul.gguf/x",
    "com0",
    "COM1",
    "com9.txt",
    "COM¹",
    "com².txt",
    "COM³.a.b",
    "lpt0",
    "LPT1",
    "lpt9.bin",
    "LPT¹",
    "lpt².x",
    "LPT³",
    "conin$",
    "CONOUT$",
    "CONOUT$.txt",
    "a<b",
    "a>b",
    'a"b',
    "a|b",
    "a?b",
    "a*b",
    "*",
    "?",
    "a.",
    "a..",
    "a. ",
    "a ",
    " a",
    "a/b.",
    "a./b",
    "a /b",
    "a/ b",
    " ",
    "  ",
    "a/ /b",
    ". .",
]
INVISIBLE = [
    "a\0b",
    "a\0",
    "\0",
    "a.gguf\0.txt",
    "a\nb",
    "a\rb",
    "a\tb",
    "a\vb",
    "a\fb",
    "a\x1b[31mb",
    "a\x01b",
    "a\x1fb",
    "a\x7fb",
    "a\x80b",
    "a\x9bb",
    "a\x85b",
    "a\u00adb",
    "a\u061cb",
    "a\u180eb",
    "a\u200bb",
    "a\u200cb",
    "a\u200db",
    "a\u200eb",
    "a\u200fb",
    "a\u2028b",
    "a\u2029b",
    "a\u202ab",
    "a\u202bb",
    "a\u202cb",
    "a\u202db",
    "gpj.\u202eexe",
    "a\u2060b",
    "a\u2061b",
    "a\u2064b",
    "a\u2066b",
    "a\u2067b",
    "a\u2068b",
    "a\u2069b",
    "a\u206fb",
    "\ufeffa",
    "a\ufeff",
    "a\ufff9b",
    "a\ufffbb",
    "a\ufdd0b",
    "a\uffffb",
    "a\ue000b",
    "a\uf8ffb",
    "a\U000f0000b",
    "a\U000e0001b",
    "a\U000e0061b",
    "a\U0010fffdb",
    "a\ud800b",
    "a\udc80b",
    "a\udfffb",
    "a\u0378b",
]
LONG = [
    "a" * (MAX_COMPONENT_BYTES + 1),
    "b/" + "a" * (MAX_COMPONENT_BYTES + 1),
    "a" * (MAX_COMPONENT_BYTES + 1) + "/b",
    "é" * 128,
    "模" * 86,
    "😀" * 64,
    "/".join(["a" * 100] * 11),
    "/".join("a" * 513),
    "a/" * 600 + "a",
    "a" * 100_000,
]
HOSTILE = [*CLIMBING, *WINDOWS, *INVISIBLE, *LONG]


def test_the_list_of_hostile_names_is_long_enough() -> None:
    """A shorter one would miss a kind."""
    assert len(set(HOSTILE)) >= 150


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:40])
def test_a_hostile_name_is_refused(name: str) -> None:
    """It climbs, is absolute, too long, unseen, or something else on Windows; the message can be shown."""
    with pytest.raises(PolicyError) as caught:
        check_relpath(name)
    message = str(caught.value)
    assert all(unicodedata.category(char)[0] != "C" for char in message)
    assert len(message) < 1000


GOOD = [
    "a",
    "model.gguf",
    "config.json",
    "onnx/model.onnx",
    "a/b/c/d/e/f/g.bin",
    "model-00001-of-00003.safetensors",
    "Qwen2.5-0.5B-Instruct-Q4_K_M.gguf",
    ".gitattributes",
    ".hidden/file",
    "..a",
    "...a",
    "a..b",
    "a...b/c",
    "-rf",
    "--help",
    "~",
    "~root/a",
    "$HOME",
    "`id`",
    "$(id)",
    "a;b",
    "a&b",
    "a'b",
    "a b",
    "a%2e%2e%2fb",
    "%2e%2e",
    "console",
    "contact.txt",
    "com",
    "com10",
    "lpt",
    "auxiliary",
    "null",
    "nul1",
    "a.con",
    "modèle.gguf",
    "模型/权重.safetensors",
    "модель.bin",
    "😀.gguf",
    "a\u0301",
    "a" * MAX_COMPONENT_BYTES,
    "/".join(["a" * 204] * 5),
    "a#b",
    "a@b",
    "a=b",
    "a+b,c[0]{1}^!",
]


@pytest.mark.parametrize("name", GOOD, ids=lambda name: ascii(name)[:40])
def test_a_real_name_passes_unchanged(name: str) -> None:
    """Names of real repositories, and names that only look dangerous, are kept to the letter."""
    assert check_relpath(name) == name


components = st.text(min_size=1, max_size=6) | st.sampled_from(
    ["..", ".", "", "con", "NUL ", "a.", " a", "C:", "a\\b", "~", "\u202e", "a"]
)


@given(st.lists(components, min_size=1, max_size=5).map("/".join))
@example("a" * MAX_PATH_BYTES)
def test_what_passes_stays_below_its_folder_on_every_system(name: str) -> None:
    """Joined to a folder, a name that passed is below it, by the rules of POSIX and by those of Windows."""
    try:
        check_relpath(name)
    except PolicyError:
        return
    assert len(name.encode()) <= MAX_PATH_BYTES
    posix = PurePosixPath("/root/folder") / name
    assert str(posix) == f"/root/folder/{name}"
    windows = PureWindowsPath("C:\\root\\folder") / name
    assert windows.parts[:3] == ("C:\\", "root", "folder")
    assert windows.parts[3:] == tuple(name.split("/"))
    devices = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
    assert all(part.partition(".")[0].rstrip(" ").lower() not in devices for part in name.split("/"))


@given(st.lists(components, min_size=1, max_size=3).map("/".join))
def test_what_passes_can_be_made(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """This file system takes each name that passed, and gives it back to the letter."""
    try:
        check_relpath(name)
    except PolicyError:
        return
    folder = tmp_path_factory.mktemp("names")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert [found.relative_to(folder).as_posix() for found in folder.rglob("*") if found.is_file()] == [name]


COLLIDING: list[tuple[str, ...]] = [
    ("a", "A"),
    ("model.gguf", "Model.GGUF"),
    ("dir/a", "DIR/a"),
    ("é", "e\u0301"),
    ("É", "e\u0301"),
    ("ﬁle", "FILE"),
    ("straße", "STRASSE"),
    ("Σ", "ς"),
    ("K", "\u212a"),
    ("Å", "\u212b"),
    ("\u0390", "\u1fd3"),
    ("model", "model/weights.bin"),
    ("model/weights.bin", "MODEL"),
    ("a/b/c", "a/b"),
    ("a/b/c", "x", "A"),
]


@pytest.mark.parametrize("names", COLLIDING, ids=ascii)
def test_names_that_are_one_file_somewhere_are_refused_together(names: tuple[str, ...]) -> None:
    """Case, composition, or a file where another name needs a folder: one would hide the other."""
    with pytest.raises(PolicyError):
        check_no_collisions(names)
    with pytest.raises(PolicyError):
        check_no_collisions(reversed(names))
    for name in names:
        check_no_collisions([name, name])


def test_names_that_differ_everywhere_pass_together() -> None:
    """Siblings, and the same name in two folders, are no collision."""
    check_no_collisions(GOOD[1:])
    check_no_collisions(["a/b", "a/c", "b/b", "a.b", "ab", "a-b/c", "modèle", "modele"])
    check_no_collisions([])


@given(st.text("-of0123456789.gu/", max_size=30) | st.from_regex(r"[a-z]{0,3}-\d{5}-of-\d{5}\.gguf", fullmatch=True))
def test_a_name_is_among_its_own_parts(name: str) -> None:
    """Whatever the digits: asking for one part always includes that very part, and each part has the same parts."""
    parts = gguf_parts(name)
    assert name in parts
    assert len(set(parts)) == len(parts)
    if len(parts) < 50:
        assert all(gguf_parts(part) == parts for part in parts)


PARTS = {
    "m-00001-of-00002.gguf": ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"),
    "m-00002-of-00002.gguf": ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"),
    "d/m-00001-of-00001.gguf": ("d/m-00001-of-00001.gguf",),
    "m-00003-of-00002.gguf": ("m-00003-of-00002.gguf",),
    "m-00000-of-00002.gguf": ("m-00000-of-00002.gguf",),
    "m-00001-of-99999.gguf": ("m-00001-of-99999.gguf",),
    "m-0001-of-0002.gguf": ("m-0001-of-0002.gguf",),
    "m-00001-of-00002.GGUF": ("m-00001-of-00002.GGUF",),
    "m-00001-of-00002.safetensors": ("m-00001-of-00002.safetensors",),
    "m-00001-of-00002.gguf.part": ("m-00001-of-00002.gguf.part",),
    "m.gguf": ("m.gguf",),
    "": ("",),
}


@pytest.mark.parametrize(("name", "parts"), PARTS.items())
def test_the_parts_of_a_split_model_are_those_of_llama_cpp(name: str, parts: tuple[str, ...]) -> None:
    """Five digits, from 1, in lower case; a number outside its count is a plain name."""
    assert gguf_parts(name) == parts


def test_a_name_cannot_ask_for_a_huge_number_of_parts() -> None:
    """The largest split has 4,096 parts: what a name says costs no more memory than that."""
    assert max(len(gguf_parts(f"m-00001-of-{count:05d}.gguf")) for count in (4096, 4097, 99999)) == 4096


def test_validation_does_not_touch_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name means the same whatever lies in the current folder."""
    (tmp_path / "a").symlink_to("/")
    monkeypatch.chdir(tmp_path)
    assert check_relpath("a/b") == "a/b"
