"""The demo comes out as told, alone on loopback, and leaves nothing behind however it ends."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from rich.console import Console

import modelcask
from modelcask_cli.demo import story
from modelcask_cli.demo.origin import Origin
from modelcask_cli.demo.stage import DemoFailed

REPO_BYTES = re.compile(r"the server sent ([\d,]+) bytes; ([\d,]+) were held since")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the demo a folder of its own for temporary folders, and see it empty afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(story, "_RATE_BYTES_S", 60_000_000)
    yield folder
    assert list(folder.iterdir()) == []


def told(**options: object) -> str:
    console = Console(file=io.StringIO(), width=100, **options)  # type: ignore[arg-type] # any option of Console
    story.tell(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_step_is_told_in_plain_lines_without_a_terminal() -> None:
    """Six steps, each with its command, no escape codes and no bars; the figures are those of the real files."""
    text = told()
    assert re.findall(r"^(\d)/6 ", text, re.MULTILINE) == list("123456")
    assert len(re.findall(r"^   \$ modelcask (?:pull|path|verify)", text, re.MULTILINE)) == 6
    assert "\x1b" not in text
    assert "━" not in text
    assert "lost at byte" in text
    found = REPO_BYTES.search(text)
    assert found is not None
    sent, held = (int(figure.replace(",", "")) for figure in found.groups())
    assert (sent < 10_000, held > 10_000_000) == (True, True)
    assert "refused with DigestMismatchError, exit code 4" in text


def test_a_terminal_gets_bars() -> None:
    """With a terminal each file has a bar, and files that are held already say so."""
    text = told(force_terminal=True)
    assert "━━━━━" in text
    assert "already held" in text
    assert "lost at byte" in text


def test_the_users_tokens_proxies_and_settings_play_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token would be refused by the origin, these proxies do not answer, this config file cannot be read."""
    config = tmp_path / "config.toml"
    config.write_text("offline = true\nnonsense = 1\n")
    for name, value in {
        "HF_TOKEN": "hf_secret",
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "HF_HUB_OFFLINE": "1",
        "http_proxy": "http://127.0.0.1:1",
        "all_proxy": "http://127.0.0.1:1",
        "MODELCASK_CONFIG": str(config),
        "MODELCASK_OFFLINE": "1",
        "MODELCASK_HOME": str(tmp_path / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    told()
    assert dict(os.environ) == before
    assert not (tmp_path / "home").exists()


def test_a_console_that_knows_ascii_only_can_show_it() -> None:
    """Nothing that is printed needs more than the console's encoding has."""
    raw = io.BytesIO()
    story.tell(Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=100, force_terminal=True))


class _Steady(Origin):
    """An origin that never cuts."""

    def cut_once(self, name: str, after_bytes: int) -> None:
        pass


class _Honest(Origin):
    """An origin whose mirror serves the right bytes."""

    def mirrored(self, name: str) -> bytes:
        return self.files[name]


class _Misnamed(Origin):
    """An origin whose Hub names a commit as no Hub does."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.repo.commit = "not a commit"
        return self


@pytest.mark.parametrize(
    ("origin", "step", "difference"),
    [
        (_Steady, 1, "0 connections were lost"),
        (_Misnamed, 3, "does not answer as a Hub does"),
        (_Honest, 5, "the wrong bytes were taken"),
    ],
)
def test_a_step_that_comes_out_otherwise_ends_the_demo(
    origin: type[Origin], step: int, difference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the step and the difference, is a CacheError with exit code 1, and nothing is left."""
    monkeypatch.setattr(story, "Origin", origin)
    with pytest.raises(DemoFailed, match=difference) as caught:
        told()
    assert caught.value.step == step
    assert isinstance(caught.value, modelcask.CacheError)
    assert caught.value.exit_code == 1


def test_an_interrupt_in_the_middle_leaves_nothing(temporary: Path) -> None:
    """Ctrl-C while a file is on its way ends the process, and the folder is removed."""
    script = "from rich.console import Console; from modelcask_cli.demo import story; story.tell(Console())"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", script],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        reached = any(line.startswith("2/6") for line in process.stdout)
        held = list(temporary.iterdir())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (reached, len(held)) == (True, 1), said
    assert process.returncode == -signal.SIGINT, said
