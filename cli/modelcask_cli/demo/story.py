"""The demo's story: six steps, each with its sentence, its command line, and what really came of it.

It is a self-check too: every step holds its outcome against what was told, and the first difference ends the story
with :class:`DemoFailed`. Nothing shown is canned, and nothing is touched outside one temporary folder: no network but
loopback; no settings, tokens or caches of the user; no proxy.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

import modelcask
from modelcask_cli.demo.hub import HubRepo
from modelcask_cli.demo.models import small_files, tiny_gguf, tiny_safetensors
from modelcask_cli.demo.origin import Origin
from modelcask_cli.demo.stage import DemoFailed, Stage, sha256

GGUF: Final = "tiny-llama.gguf"
EMBED: Final = "tiny-embed.safetensors"
ADAPTER: Final = "tiny-adapter.safetensors"
REPO: Final = "acme/tiny-llama"

_RATE_BYTES_S: Final = 10_000_000
"""The origin's pace: slow enough for a bar to be seen, fast enough for a story of a few seconds."""
_LOOKUPS: Final = 200


def tell(console: Console) -> None:
    """Tell the whole story on ``console`` and leave nothing behind, however it ends.

    Bars are drawn if the console is a terminal, else lines only. The process's environment is changed while the
    story runs and put back after it, so nothing else should run in the process.

    Raises:
        DemoFailed: a step did not come out as told; the temporary folder is removed all the same.
    """
    with tempfile.TemporaryDirectory(prefix="modelcask-demo-") as folder:
        _tell_in(Path(folder), console)
    console.print(Text(f"\nThe server has stopped and {folder} is removed.", style="bold green"), soft_wrap=True)


def _tell_in(folder: Path, console: Console) -> None:
    home = folder / "cask"
    models = {GGUF: tiny_gguf(1), EMBED: tiny_safetensors(1)}
    # The mirror's file must be new to the store: bytes whose digest is held are never fetched again.
    files = models | {ADAPTER: tiny_safetensors(2)}
    repo = HubRepo(REPO, models | small_files())
    with _alone(folder), Origin(files, repo, rate_bytes_s=_RATE_BYTES_S) as origin:
        # A config file that is not there, so that the user's own neither changes the demo nor ends it.
        settings = modelcask.load_settings(
            {"MODELCASK_CONFIG": str(folder / "none.toml")}, home=home, hf_endpoint=origin.hub_url
        )
        console.print(Text("modelcask keeps each model file once, proved correct, found by its URI.", style="bold"))
        console.print(Text(f"A server on this machine plays the internet: {origin.url}"), soft_wrap=True)
        console.print(Text(f"The store is a temporary folder: {home}"), soft_wrap=True)
        steps = (_resume, _second_source, _dedup, _lookup, _flipped_byte, _everything)
        with modelcask.ModelCache(settings=settings) as cache:
            stage = Stage(console, origin, cache, home, len(steps))
            for step in steps:
                try:
                    step(stage)
                except DemoFailed:
                    raise
                except modelcask.CacheError as error:
                    raise DemoFailed(stage.step, str(error)) from error


def _resume(stage: Stage) -> None:
    data = stage.origin.files[GGUF]
    uri = _pinned(stage, "files", GGUF)
    stage.begin("Pull a GGUF by its URL, SHA-256 pinned. The server hangs up half-way.", "modelcask", "pull", uri)
    cut = len(data) // 2
    stage.origin.cut_once(GGUF, cut)
    snapshot = stage.pull(uri)
    stage.expect_bytes(snapshot.path, data, GGUF)
    stage.expect(len(stage.lost) == 1, f"{len(stage.lost)} connections were lost, not 1")
    kept = stage.lost[0].bytes_done
    # What was on its way when the connection ended may be lost; not one byte that had arrived is sent again.
    stage.expect(
        0 < kept <= cut and stage.bytes_sent == cut + len(data) - kept,
        f"{stage.bytes_sent:,} bytes were sent for a file of {len(data):,} of which {kept:,} had arrived",
    )
    stage.tell(f"went on from byte {kept:,}: the server sent {stage.bytes_sent:,} bytes for a file of {len(data):,}")
    stage.tell("stored: the SHA-256 of what came is the pinned one")


def _second_source(stage: Stage) -> None:
    data = stage.origin.files[EMBED]
    uri = f"{stage.origin.url}/files/{EMBED}"
    stage.begin("Pull a safetensors file by its URL alone; nobody promises a digest.", "modelcask", "pull", uri)
    snapshot = stage.pull(uri)
    stage.expect_bytes(snapshot.path, data, EMBED)
    stage.expect(stage.bytes_sent == len(data), f"{stage.bytes_sent:,} bytes were sent for a file of {len(data):,}")
    stage.tell(f"stored: {stage.bytes_sent:,} bytes, their digests computed while they arrived")


def _dedup(stage: Stage) -> None:
    uri = f"hf://{REPO}"
    stage.begin("Pull a whole repository from a Hub. It holds the same two models.", "modelcask", "pull", uri)
    snapshot = stage.pull(uri)
    sizes = {path: len(file.data) for path, file in stage.origin.repo.files.items()}
    got = {entry.path: entry.size_bytes for entry in snapshot.entries}
    stage.expect(got == sizes, f"the snapshot holds {got}, the repository {sizes}")
    held = sizes[GGUF] + sizes[EMBED]
    small = sum(sizes.values()) - held
    stage.expect(stage.bytes_sent == small, f"{stage.bytes_sent:,} bytes were sent, the small files have {small:,}")
    stage.expect(snapshot.bytes_reused == held, f"{snapshot.bytes_reused:,} bytes were reused, not {held:,}")
    stage.tell(f"the server sent {stage.bytes_sent:,} bytes; {snapshot.bytes_reused:,} were held since steps 1 and 2")


def _lookup(stage: Stage) -> None:
    uri = f"hf://{REPO}/{GGUF}"
    stage.begin("Ask where the model is. That needs no network.", "modelcask", "path", uri)
    before = stage.origin.requests
    seconds: list[float] = []
    path: Path | None = None
    for _ in range(_LOOKUPS):
        began = time.perf_counter()
        path = stage.cache.lookup(uri)
        seconds.append(time.perf_counter() - began)
    asked = stage.origin.requests - before
    stage.expect_bytes(path, stage.origin.files[GGUF], GGUF)
    stage.expect(asked == 0, f"the server was asked {asked} times")
    stage.tell(str(path))
    median = statistics.median(seconds) * 1e6
    stage.tell(f"found in {median:.0f} microseconds (median of {_LOOKUPS}); the server was asked {asked} times")


def _flipped_byte(stage: Stage) -> None:
    uri = _pinned(stage, "mirror", ADAPTER)
    stage.begin("Pull from a mirror that serves the file with one byte flipped.", "modelcask", "pull", uri)
    try:
        stage.pull(uri)
    except modelcask.DigestMismatchError as error:
        refusal = error
    else:
        raise DemoFailed(stage.step, "the wrong bytes were taken")
    promised = sha256(stage.origin.files[ADAPTER])
    came = sha256(stage.origin.mirrored(ADAPTER))
    stage.expect((refusal.expected, refusal.actual) == (promised, came), f"the refusal says: {refusal}")
    stage.expect(stage.cache.lookup(uri) is None, "the wrong bytes were published")
    stage.tell(f"refused with {type(refusal).__name__}, exit code {refusal.exit_code}; nothing was published")
    stage.tell(f"expected {refusal.expected}")
    stage.tell(f"got      {refusal.actual}")


def _everything(stage: Stage) -> None:
    stage.begin("Hash everything again, and count what the store holds.", "modelcask", "verify")
    verdicts = {str(blob.digest): blob.verdict for blob in stage.cache.verify()}
    files = {f"hf://{REPO}/{path}": file.data for path, file in stage.origin.repo.files.items()}
    files[_pinned(stage, "files", GGUF)] = stage.origin.files[GGUF]
    files[f"{stage.origin.url}/files/{EMBED}"] = stage.origin.files[EMBED]
    for uri, data in files.items():
        stage.expect_bytes(stage.cache.lookup(uri), data, uri)
    named = sum(map(len, files.values()))
    blobs = sorted(path.stat().st_size for path in (stage.home / "blobs").rglob("*") if path.is_file())
    distinct = sorted(len(data) for data in set(files.values()))
    stage.expect(blobs == distinct, f"the store holds blobs of {blobs} bytes, not of {distinct}")
    whole = len(verdicts) == len(blobs) and set(verdicts.values()) == {modelcask.Verdict.OK}
    stage.expect(whole, f"the blobs were found to be {verdicts}")
    stage.tell(f"{len(verdicts)} blobs hashed, every byte as it came")
    stage.tell(f"{len(files)} URIs name {named:,} bytes; the store keeps {sum(blobs):,}, each file once")


def _pinned(stage: Stage, folder: str, name: str) -> str:
    return f"{stage.origin.url}/{folder}/{name}#{sha256(stage.origin.files[name]).replace(':', '=')}"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep the user's proxies, tokens and Hub settings out of the process, and put them back afterwards."""
    changes: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith(("HF_", "HUGGING")))
    changes |= {"NO_PROXY": "*", "no_proxy": "*", "HF_HOME": str(folder / "hub"), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    before = {name: os.environ.get(name) for name in changes}
    _set_environment(changes)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
