"""The README holds: its commands exist, its URIs can be read, its Python uses public names, its links lead on."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import modelcask
from modelcask.layout import slug
from modelcask_cli.app import COMMANDS, app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEX = "0123456789abcdef" * 4


def blocks(language: str) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def spans() -> list[str]:
    """Return what stands between backticks in the prose."""
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def lines() -> Iterator[str]:
    """Yield each line of a shell, prompts and comments taken off; what a console block answers is left out."""
    for block in blocks("sh"):
        yield from block.splitlines()
    for block in blocks("console"):
        yield from (line[2:] for line in block.splitlines() if line.startswith("$ "))


def commands() -> list[list[str]]:
    """Return the words of every call of modelcask, also inside another command; a name in the prose is no call."""
    found: list[list[str]] = []
    for text in [*lines(), *(span for span in spans() if span.count(" ") > 1)]:
        plain = text.replace("<", "(").replace(">", ")")  # a placeholder is no redirection
        calls = re.findall(r"(?:^|\.venv/bin/|\$\()modelcask (.*)", plain)
        found += [shlex.split(call.partition(')"')[0].partition(" | ")[0], comments=True) for call in calls]
    return found


def mentions() -> list[str]:
    """Return the commands that the prose names."""
    return [span.removeprefix("modelcask ") for span in spans() if re.fullmatch(r"modelcask [a-z]+", span)]


def uris() -> list[str]:
    """Return every URI, its placeholders filled in."""
    texts = [word for words in commands() for word in words[1:]]
    texts += spans()
    texts += re.findall(r'"((?:hf|https?|file):[^"]+)"', "".join(blocks("python")))
    looks_like_one = re.compile(r"(?:hf:|hf\.co/|huggingface:|https?://|file://|…[/#])")
    return sorted({filled_in(text) for text in texts if looks_like_one.match(text)})


def filled_in(text: str) -> str:
    """Put something in the place of what only a person can read."""
    text = re.sub(r"\(64 hex digits\)|\bHEX\b", HEX, text)
    text = re.sub(r"#sha256=([0-9a-f]{1,63})…", lambda match: f"#sha256={(match[1] + HEX)[:64]}", text)
    text = re.sub(r"^…(?=#)", "https://host/file", text)
    text = re.sub(r"^…(?=/)", "https://huggingface.co/org/repo", text)
    return re.sub(r"(?<=/)…$", "host/file", text)


def test_the_main_job_and_the_tests_are_one_line_each_that_needs_nothing_but_python() -> None:
    """Both make a virtual environment, install this project into it and run; what they install exists."""
    for marker, installed, runs in [
        ("the main job", ".", "modelcask demo"),
        ("the tests", "-e '.[test]'", "pytest -q"),
    ]:
        found = re.findall(rf"^<!-- {marker} -->\n```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
        assert len(found) == 1
        [line] = found[0].splitlines()
        make, install, run = line.split(" && ")
        assert make == "python3 -m venv .venv"
        assert install == f".venv/bin/python -m pip install -q {installed}"
        assert run.startswith(".venv/bin/")
        assert run.endswith(runs)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "test" in project["optional-dependencies"]
    assert "modelcask" in project["scripts"]


def test_every_line_for_a_shell_is_one() -> None:
    """bash reads them all."""
    subprocess.run(["bash", "-n"], input="\n".join(lines()), check=True, text=True)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_exists_with_its_options(words: list[str]) -> None:
    """click reads each of them; nothing is run."""
    with app.make_context("modelcask", list(words), resilient_parsing=False) as context:
        name, command, rest = app.resolve_command(context, [*context._protected_args, *context.args])
        assert isinstance(command, click.Command)
        assert name is not None
        with command.make_context(name, rest, parent=context) as inner:
            assert inner.args == []


def test_what_the_prose_calls_a_command_is_one() -> None:
    """The names that stand without arguments."""
    assert set(mentions()) <= set(COMMANDS)


@pytest.mark.parametrize("uri", uris())
def test_a_uri_can_be_read(uri: str) -> None:
    """Each means something, and its canonical form reads back as itself."""
    parsed = modelcask.parse_uri(uri)
    assert modelcask.parse_uri(parsed.canonical) == parsed


def test_there_are_commands_and_uris_to_check() -> None:
    """The search finds what a reader sees."""
    assert {words[0] for words in commands()} >= {"demo", "pull", "path", "ls", "show", "rm", "explain", "verify"}
    assert mentions()
    kinds = {modelcask.parse_uri(uri).scheme for uri in uris()}
    assert kinds == {"hf", "http", "https", "file"}
    assert len(uris()) >= 12


def test_the_python_compiles_and_uses_public_names() -> None:
    """Attributes of modelcask are in __all__, in the blocks and in the prose."""
    names = set()
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "modelcask":
                names.add(node.attr)
    names |= {name for span in spans() for name in re.findall(r"^modelcask\.(\w+)$", span)}
    names |= {span for span in spans() if re.fullmatch(r"\w+_async", span)}

    assert len(names) >= 5
    assert names <= set(modelcask.__all__)


def test_its_words_for_proofs_and_its_sample_output_are_ours() -> None:
    """The trust levels, the snapshot's folder, the error and its exit code in the first example."""
    assert {span for span in spans() if span in set(modelcask.TrustLevel)} == set(modelcask.TrustLevel)
    sample = blocks("console")[0]
    assert f"/snapshots/{slug('hf://models/acme/tiny-llama')}/" in sample
    told = re.search(r"^error: (.*?)\n\$ echo \$\?\n(\d+)$", sample, re.DOTALL | re.MULTILINE)
    assert told is not None
    name, expected, actual = re.findall(r"^(\S+) has|expected (\S+),|got (\S+);", told[1], re.MULTILINE)
    error = modelcask.DigestMismatchError(name[0], expected[1], actual[2])
    assert told[1].replace("\n", " ") == str(error)
    assert int(told[2]) == error.exit_code


def test_its_links_lead_to_files_of_the_repository() -> None:
    """Every link that is not to the web."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).is_file()] == []
