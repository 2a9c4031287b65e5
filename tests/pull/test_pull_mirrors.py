"""Mirrors: bytes from elsewhere, believed because a digest proves them, and never at the price of a secret."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelcask
from behaviours import CutAfter, FlipByte, Status
from hub import FakeHub
from modelcask import Phase
from origin import Origin

CONTENT = bytes(range(256)) * 20_000  # 5 MB
PINNED = f"#sha256={hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def mirror() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def pull(uri: str, mirrors: object, **settings: object) -> modelcask.Snapshot:
    with modelcask.ModelCache(settings=modelcask.load_settings(mirrors=mirrors, **settings)) as cache:
        [snapshot] = cache.pull(uri)
    assert snapshot.path.read_bytes() == CONTENT
    return snapshot


def gets(server: Origin) -> list[str]:
    return [request.path for request in server.requests if request.method == "GET"]


@pytest.mark.parametrize("given", ["argument", "environment", "file", "file, as text"])
def test_bytes_come_from_the_mirror_and_the_source_says_what_they_are(
    origin: Origin, mirror: Origin, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """However the rule is given: the source is asked once what the file is, and sends nothing of it."""
    url = origin.add("/models/m.gguf", CONTENT) + PINNED
    mirror.add("/copy/m.gguf", CONTENT)
    prefix, base = f"{origin.url}/models", f"{mirror.url}/copy/"
    rules: object = None
    if given == "argument":
        rules = {prefix: [base]}
    elif given == "environment":
        monkeypatch.setenv("MODELCASK_MIRRORS", f"{prefix}={base}")
    else:
        config = Path(os.environ["MODELCASK_CONFIG"])
        config.parent.mkdir(parents=True)
        table = f'[mirrors]\n"{prefix}" = ["{base}"]\n'
        config.write_text(table if given == "file" else f'mirrors = "{prefix}={base}"\n')
    pull(url, rules)
    assert [request.method for request in origin.requests] == ["HEAD"]
    assert gets(mirror) == ["/copy/m.gguf"]


def test_without_a_digest_no_mirror_is_asked(origin: Origin, mirror: Origin) -> None:
    """Nobody could tell whether its bytes are right."""
    url = origin.add("/m.gguf", CONTENT)
    mirror.add("/m.gguf", CONTENT[::-1])
    pull(url, mirror.url)
    assert mirror.requests == []


def test_a_mirror_without_the_file_is_passed_over(origin: Origin, mirror: Origin) -> None:
    """Whether it answers that it has none, or does not answer at all; the source's own errors are those that count."""
    url = origin.add("/m.gguf", CONTENT) + PINNED
    pull(url, f"http://127.0.0.1:9 {mirror.url}", retries=0)
    assert gets(mirror) == ["/m.gguf"]
    assert gets(origin) == ["/m.gguf"]
    gone = origin.add("/gone.gguf", CONTENT, behaviours=[Status(404)]) + f"#sha256={'0' * 64}"
    with pytest.raises(modelcask.ModelNotFoundError, match=origin.url):
        pull(gone, mirror.url)


def test_mirrors_are_asked_in_the_order_of_the_rules(origin: Origin) -> None:
    """The first one that has it serves it; one that breaks off is continued by the next."""
    url = origin.add("/m.gguf", CONTENT) + PINNED
    with Origin() as first, Origin() as second, Origin() as third:
        first.add("/m.gguf", CONTENT, behaviours=[CutAfter(2_000_000), Status(404)])
        for other in (second, third):
            other.add("/m.gguf", CONTENT)
        pull(url, f"{first.url} {second.url} {third.url}", retries=0)
        assert len(gets(first)) >= 1
        assert first.bytes_served + second.bytes_served == len(CONTENT)
        assert gets(third) == gets(origin) == []


def test_a_mirror_that_sends_wrong_bytes_is_named_and_its_bytes_fetched_again(
    origin: Origin, mirror: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    """What is published is right; the log and an event name the host that was wrong."""
    url = origin.add("/m.gguf", CONTENT) + PINNED
    mirror.add("/m.gguf", CONTENT, behaviours=[FlipByte(1_000_000)])
    events: list[modelcask.Progress] = []
    with modelcask.ModelCache(settings=modelcask.load_settings(mirrors=mirror.url)) as cache:
        [snapshot] = cache.pull(url, progress=events.append)
    assert snapshot.path.read_bytes() == CONTENT
    assert origin.bytes_served == len(CONTENT)
    host = mirror.url.removeprefix("http://")
    [warning] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert host in warning
    assert "wrong bytes" in warning
    assert origin.url.removeprefix("http://") not in warning
    assert any(host in event.message for event in events if event.phase is Phase.RETRYING)


def test_a_mirror_gets_no_secret_of_the_url(origin: Origin, mirror: Origin) -> None:
    """A signature is the source's; what chooses the file goes along."""
    url = origin.add("/m.gguf", CONTENT)
    mirror.add("/m.gguf", CONTENT)
    pull(f"{url}?file=m&X-Amz-Signature=f00d&token=hunter2{PINNED}", mirror.url)
    assert origin.requests[0].query == "file=m&X-Amz-Signature=f00d&token=hunter2"
    assert [request.query for request in mirror.requests] == ["file=m"]


def test_a_hubs_bytes_come_from_a_mirror_and_its_word_from_the_hub(mirror: Origin) -> None:
    """Metadata and the token stay with the Hub; what it promises decides whether the mirror's bytes are right."""
    with FakeHub() as hub:
        commit = hub.add_repo("models", "acme/tiny", {"m.safetensors": CONTENT, "config.json": b"{}"})
        hub.make_private("models", "acme/tiny", token="hf_canary")
        mirror.add(f"/hub/acme/tiny/resolve/{commit}/m.safetensors", CONTENT)
        settings = modelcask.load_settings(hf_endpoint=hub.endpoint, mirrors={hub.endpoint: f"{mirror.url}/hub"})
        access = modelcask.Access.of(tokens={"huggingface": "hf_canary"}, headers={"X-Canary": "yellow"})
        with modelcask.ModelCache(settings=settings) as cache:
            [snapshot] = cache.pull("hf://acme/tiny", access=access)
        assert (snapshot.path / "m.safetensors").read_bytes() == CONTENT
        assert hub.bytes_served == len(b"{}")  # no strong digest is promised for a small file
        assert {request.headers.get("Authorization") for request in hub.requests if request.origin == "hub"} == {
            "Bearer hf_canary"
        }
        assert hub.secrets_at_cdn() == []
    assert len(gets(mirror)) == 1
    assert not {"authorization", "x-canary"} & {name.lower() for name in mirror.requests[0].headers}
