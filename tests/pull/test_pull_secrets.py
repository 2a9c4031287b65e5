"""What a program lets modelcask say to servers is said to those servers, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelcask
from behaviours import CutAfter, Redirect, Status
from hub import FakeHub
from origin import Origin

CONTENT = bytes(range(256)) * 20_000  # 5 MB
CANARIES = ("hf_c4nary", "s3cr3t-header", "s1gned-query")
HEADERS = {"X-Api-Key": "s3cr3t-header", "authorization": "Basic s3cr3t-header", "user-agent": "mine/1"}


@pytest.fixture
def elsewhere() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def canaries_in(text: str | bytes) -> list[str]:
    raw = text.encode() if isinstance(text, str) else text
    return [canary for canary in CANARIES if canary.encode() in raw]


def canaries_below(folder: Path) -> list[tuple[str, str]]:
    return [
        (str(path), canary)
        for path in folder.rglob("*")
        if path.is_file()
        for canary in canaries_in(path.read_bytes()) + canaries_in(path.name)
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_secrets_go_to_their_own_origin_and_are_found_nowhere(
    origin: Origin, elsewhere: Origin, cask: Path, caplog: pytest.LogCaptureFixture, *, fails: bool
) -> None:
    """Headers reach the URL's origin with each request, no redirect's and no mirror's; nothing of them is kept."""
    caplog.set_level(logging.DEBUG)
    script = [CutAfter(2_000_000), *([Status(403)] if fails else []), CutAfter(1 << 40)]
    elsewhere.add("/moved.gguf", CONTENT, behaviours=script)
    url = origin.add("/m.gguf", CONTENT, behaviours=[Redirect(f"{elsewhere.url}/moved.gguf")])
    events: list[modelcask.Progress] = []
    downloader = modelcask.create_model_downloader(
        f"{url}?token=s1gned-query",
        cache=modelcask.ModelCache(settings=modelcask.load_settings(retries=0 if fails else 5)),
        headers=HEADERS,
        tokens={"huggingface": "hf_c4nary"},
        on_progress=events.append,
        request_id="mine",
    )
    told: list[str] = []
    try:
        asyncio.run(downloader.download(), debug=True)
    except modelcask.CacheError as error:
        told += traceback.format_exception(error)
        told.append(repr(vars(error)))
    assert (downloader.state is modelcask.DownloadState.FAILED) is fails

    assert len(origin.requests) >= 2
    for request in origin.requests:
        assert request.headers.getall("X-Api-Key") == ["s3cr3t-header"]
        assert request.headers.getall("Authorization") == ["Basic s3cr3t-header"]
        assert request.headers.getall("User-Agent") == ["mine/1"]
    assert elsewhere.requests
    for request in elsewhere.requests:
        assert canaries_in(repr(request)) == []
        assert request.headers["User-Agent"].startswith("modelcask/")
    told += [repr(event) for event in events]
    told += [record.getMessage() + repr(record.args) for record in caplog.records]
    told += [repr(one) for one in (downloader, vars(downloader), downloader.snapshot, downloader.cache.settings)]
    told += [repr(row) for row in downloader.cache.list_attempts()]
    assert [text for text in told if canaries_in(text)] == []
    assert canaries_below(cask) == []
    downloader.cache.close()
    assert canaries_below(cask) == []
    assert any("mine" in path.read_bytes().decode(errors="ignore") for path in cask.glob("catalog.db*"))


def test_a_token_goes_to_the_hub_and_not_to_where_the_bytes_are(cask: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A private repository is had with the token that was given; without it there is none."""
    caplog.set_level(logging.DEBUG)
    with FakeHub() as hub:
        hub.add_repo("models", "acme/tiny", {"m.safetensors": CONTENT, "config.json": b"{}"})
        hub.make_private("models", "acme/tiny", token="hf_c4nary")
        endpoints = {"huggingface": hub.endpoint}
        anonymous = modelcask.create_model_downloader("hf://acme/tiny", endpoints=endpoints)
        with pytest.raises(modelcask.CacheError):
            asyncio.run(anonymous.prepare())
        mine = modelcask.create_model_downloader(
            "hf://acme/tiny", endpoints=endpoints, tokens={"huggingface": "hf_c4nary"}, headers=HEADERS
        )
        # One cache, so one set of limits: access is the downloader's own.
        assert mine.cache is anonymous.cache

        async def main() -> None:
            await mine.prepare()
            await mine.download()

        asyncio.run(main())
        at_hub = [request for request in hub.requests if request.origin == "hub"][-3:]
        assert {request.headers["Authorization"] for request in at_hub} == {"Bearer hf_c4nary"}
        assert hub.secrets_at_cdn() == []
        with pytest.raises(modelcask.CacheError):
            asyncio.run(modelcask.create_model_downloader("hf://acme/tiny@v2", endpoints=endpoints).download())
    assert [record for record in caplog.records if canaries_in(record.getMessage())] == []
    assert canaries_below(cask) == []


def test_a_quantisation_is_found_whatever_a_caller_calls_himself() -> None:
    """A Hub tells file names only to those who ask as llama.cpp does."""
    with FakeHub() as hub:
        hub.add_repo("models", "acme/tiny", {"m-Q4_K_M.gguf": CONTENT})
        downloader = modelcask.create_model_downloader(
            "hf:acme/tiny:Q4_K_M", endpoints={"huggingface": hub.endpoint}, headers={"user-agent": "mine/1"}
        )
        assert asyncio.run(downloader.download()).name == "m-Q4_K_M.gguf"
        agents = {request.target.split("/")[1]: request.headers["User-Agent"] for request in hub.requests}
    assert agents["v2"] == "llama-cpp"
    assert agents["api"] == "mine/1"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, "Bearer hf_found"),
        ({"tokens": {"huggingface": "hf_given"}}, "Bearer hf_given"),
        ({"headers": {"authorization": "Basic x"}}, "Basic x"),
        ({"headers": {"authorization": "Basic x"}, "tokens": {"huggingface": "hf_given"}}, "Bearer hf_given"),
    ],
)
def test_what_a_program_gives_beats_what_is_found(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, dict[str, str]], sent: str
) -> None:
    """One login is sent, for metadata and bytes alike: a token given, a header given, a token of the environment."""
    monkeypatch.setenv("HF_TOKEN", "hf_found")
    with FakeHub() as hub:
        hub.add_repo("models", "acme/tiny", {"m.safetensors": CONTENT})
        for token in ("hf_found", "hf_given"):
            hub.add_token(token)
        downloader = modelcask.create_model_downloader(
            "hf://acme/tiny",
            endpoints={"huggingface": hub.endpoint},
            tokens=given.get("tokens"),
            headers=given.get("headers"),
        )
        with contextlib.suppress(modelcask.AccessDeniedError):  # this Hub knows no other way to log in
            asyncio.run(downloader.download())
        at_hub = [request.headers.getall("Authorization") for request in hub.requests if request.origin == "hub"]
    assert at_hub
    assert at_hub == [[sent]] * len(at_hub)


def test_access_shows_nothing_of_itself() -> None:
    """Neither by itself nor inside the settings."""
    access = modelcask.Access.of(tokens={"huggingface": "hf_c4nary"}, headers=HEADERS)
    assert canaries_in(repr(access) + str(access)) == []
    assert access == pickle.loads(pickle.dumps(access))
