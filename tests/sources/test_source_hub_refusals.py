"""Who may see what on a Hub, where the token goes, and what each failure says: one typed error, the next step."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from behaviours import LoginPage, Redirect, never_answer
from hub import FakeHub
from modelcask.config import Settings
from modelcask.errors import (
    AccessDeniedError,
    CacheError,
    ConnectionInterruptedError,
    ModelNotFoundError,
    OfflineError,
    PolicyError,
    ResponseError,
    RevisionNotFoundError,
    TransferTimeoutError,
)
from modelcask.net.client import Client
from modelcask.net.status import status_error
from modelcask.sources.blocking import in_thread
from modelcask.sources.hub import Hub
from modelcask.types import HTTPLocation, Resolution
from modelcask.uri import parse_uri
from origin import TLS_MISSING, Origin

Resolve = Callable[..., Awaitable[Resolution]]
TOKEN = "hf_" + "canary" * 6
FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


@pytest.fixture
def repo(hub: FakeHub) -> str:
    hub.add_token(TOKEN)
    return hub.add_repo("models", "org/name", FILES)


@pytest.fixture
def mirror() -> Iterator[Origin]:
    with Origin() as server:
        yield server


def sent(hub: FakeHub) -> set[str | None]:
    return {request.headers.get("Authorization") for request in hub.requests if request.origin == "hub"}


@pytest.mark.usefixtures("repo")
async def test_without_a_token_none_is_sent(resolve: Resolve, hub: FakeHub) -> None:
    """A public repository is read anonymously."""
    found = await resolve()
    assert sent(hub) == {None}
    assert all(isinstance(it.location, HTTPLocation) and it.location.credential is None for it in found.files)


@pytest.fixture(params=["variable", "file"])
def _logged_in(hf_home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.param == "variable":
        monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    else:
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(hf_home / "elsewhere"))
        (hf_home / "elsewhere").write_text(f"{TOKEN}\n")


@pytest.mark.usefixtures("repo", "_logged_in")
async def test_the_users_token_is_sent_to_the_hub_and_never_to_the_cdn(
    client: Client, resolve: Resolve, hub: FakeHub
) -> None:
    """HF_TOKEN and the token file are read; metadata, quantisations and files carry it as far as the Hub."""
    hub.add_repo("models", "org/quants", {"m-Q4_K_M.gguf": b"four"})
    found = [*(await resolve()).files, *(await resolve("hf:org/quants:Q4_K_M")).files]
    for file in found:
        assert isinstance(file.location, HTTPLocation)
        async with client.request("GET", file.location.url, credential=file.location.credential) as answer:
            assert await answer.read(100)
    assert sent(hub) == {f"Bearer {TOKEN}"}
    assert len([request for request in hub.requests if request.origin == "cdn"]) == 2
    assert hub.secrets_at_cdn() == []
    assert TOKEN not in repr(found)


@pytest.mark.usefixtures("repo")
async def test_a_token_that_the_user_keeps_back_is_not_sent(
    resolve: Resolve, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HUB_DISABLE_IMPLICIT_TOKEN is obeyed."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    await resolve()
    assert sent(hub) == {None}


async def test_a_token_never_travels_in_the_clear(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over plain http to another machine there is no credential, and without an allowance no request at all."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    plain = replace(settings, hf_endpoint="http://mirror.lan")
    with pytest.raises(PolicyError, match="plain http"):
        Hub(plain, parse_uri("hf://org/name"))
    hub = Hub(replace(plain, allow_http=True), parse_uri("hf://org/name"))
    await hub.log_in()
    assert hub.credential is None
    hub = Hub(replace(settings, hf_endpoint="https://hub.example/mirror"), parse_uri("hf://org/name"))
    await hub.log_in()
    assert hub.credential is not None
    assert hub.credential.origin == "https://hub.example:443"


@pytest.mark.parametrize("token", ["hf_a b\x00", "hf_\u00e9", "hf_a\tb"])
async def test_what_cannot_be_a_token_is_said_without_showing_it(
    resolve: Resolve, hub: FakeHub, hf_home: Path, token: str
) -> None:
    """A damaged token file is named before anything is sent."""
    (hf_home / "token").write_text(token, encoding="utf-8")
    with pytest.raises(AccessDeniedError, match="HF_TOKEN") as caught:
        await resolve()
    assert token not in str(caught.value)
    assert hub.requests == []


async def test_a_token_file_that_cannot_be_read_is_said(resolve: Resolve, hf_home: Path) -> None:
    """A folder in the place of the token is the user's to look at."""
    (hf_home / "token").mkdir()
    with pytest.raises(AccessDeniedError, match="token file"):
        await resolve()


async def test_the_next_page_is_asked_of_the_same_hub(
    resolve: Resolve, hub: FakeHub, mirror: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Link that names another host gets neither the request nor the token; its cursor is enough."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add_token(TOKEN)
    hub.add_repo("models", "org/name", {f"{number}.txt": b"" for number in range(5)})
    hub.page_size, hub.link_root = 2, mirror.url
    assert len((await resolve()).files) == 5
    assert mirror.requests == []


@pytest.mark.parametrize("link", ["<{url}>", "<{url}?recursive=true&expand=false>", "<?>"])
async def test_a_list_without_end_is_ended(resolve: Resolve, mirror: Origin, link: str) -> None:
    """A page that names itself as the next one is an error, not a loop."""
    commit = "c" * 40
    path = f"/api/models/org/name/tree/{commit}"
    mirror.add(path, b"[]", behaviours=[WithLink(link.format(url=mirror.url + path))])
    with pytest.raises(ResponseError, match="without end"):
        await resolve(f"hf://org/name@{commit}", hf_endpoint=mirror.url)
    assert len(mirror.requests) == 1


class WithLink(LoginPage):
    """Answer with a next page."""

    def __init__(self, link: str) -> None:
        object.__setattr__(self, "link", link)

    def answer(self, reply: object) -> None:
        reply.headers["Link"] = f'{self.link}; rel="next"'  # type: ignore[attr-defined]


@pytest.mark.parametrize("to", ["/", "//127.0.0.1:1/", "http://localhost:1/x", "https://hub.invalid/api/models/x"])
async def test_metadata_comes_from_the_hub_that_was_named(
    resolve: Resolve, mirror: Origin, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """A redirect to another server is refused with the way to name it; inside the Hub it is followed."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    mirror.add("/api/models/org/name/revision/main", b"", behaviours=[Redirect(to, 307)])
    mirror.add("/", b'{"sha": "x"}')
    with pytest.raises(ResponseError if to == "/" else PolicyError, match="HF_ENDPOINT"):
        await resolve(hf_endpoint=mirror.url)


async def test_redirects_inside_the_hub_end(resolve: Resolve, mirror: Origin) -> None:
    """A loop is a typed error after ten hops."""
    path = "/api/models/org/name/revision/main"
    mirror.add(path, b"", behaviours=[Redirect(path, 307)])
    with pytest.raises(ResponseError, match="without end"):
        await resolve(hf_endpoint=mirror.url)
    assert len(mirror.requests) == 11


@pytest.mark.usefixtures("repo")
@pytest.mark.parametrize(
    "refusal",
    [
        ("hf://org/nothing", None, ModelNotFoundError, "HF_TOKEN"),
        ("hf://org/nothing", TOKEN, ModelNotFoundError, "check the name"),
        ("hf://org/private", None, ModelNotFoundError, "HF_TOKEN"),
        ("hf://org/private", "hf_stranger", ModelNotFoundError, "HF_TOKEN"),
        ("hf://org/gated", None, AccessDeniedError, "accept its terms at {hub}/org/gated and set HF_TOKEN"),
        ("hf://org/gated", "hf_stranger", AccessDeniedError, "accept its terms at {hub}/org/gated and set HF_TOKEN"),
        ("hf://org/name", "hf_unknown", AccessDeniedError, "Invalid credentials"),
        ("hf://org/name@v9", None, RevisionNotFoundError, "'v9'"),
        (f"hf://org/name@{'0' * 40}", None, RevisionNotFoundError, "0000"),
        ("hf://org/name/nothing.bin", None, ModelNotFoundError, "nothing.bin"),
        ("hf:org/nothing:Q4_K_M", None, ModelNotFoundError, "HF_TOKEN"),
        ("hf:org/nothing:Q4_K_M", TOKEN, ModelNotFoundError, "no such repository"),
        ("hf:org/gated:Q4_K_M", None, AccessDeniedError, "accept its terms"),
    ],
)
async def test_a_refusal_is_told_in_its_own_words(
    resolve: Resolve,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    refusal: tuple[str, str | None, type[CacheError], str],
) -> None:
    """Missing, private, gated, a bad token, a wrong revision: each has its type and what to do, and no token."""
    uri, token, error, says = refusal
    hub.add_repo("models", "org/private", FILES)
    hub.make_private("models", "org/private", token=TOKEN)
    hub.add_repo("models", "org/gated", FILES)
    hub.gate("models", "org/gated", token=TOKEN, metadata=True)
    hub.add_token("hf_stranger")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(error) as caught:
        await resolve(uri)
    assert type(caught.value) is error
    assert says.format(hub=hub.endpoint) in str(caught.value)
    assert str(caught.value).isprintable()
    assert not caught.value.retryable
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("repo_id", ["org/private", "org/gated"])
async def test_the_right_token_opens(
    resolve: Resolve, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, repo_id: str
) -> None:
    """Whoever was admitted sees the repository and its files."""
    hub.add_repo("models", repo_id, FILES)
    hub.make_private("models", repo_id, token=TOKEN)
    hub.gate("models", repo_id, token=TOKEN, metadata=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    found = await resolve(f"hf://{repo_id}")
    assert [file.path for file in found.files] == list(FILES)


@pytest.mark.usefixtures("repo")
async def test_gated_files_of_an_open_listing_say_the_same(client: Client, resolve: Resolve, hub: FakeHub) -> None:
    """On the Hub the listing of a gated repository is public: the refusal comes with the first file."""
    hub.gate("models", "org/name")
    location = (await resolve()).files[0].location
    assert isinstance(location, HTTPLocation)
    async with client.request("GET", location.url) as answer:
        error = status_error(answer.status, answer.headers, answer.url)
    assert isinstance(error, AccessDeniedError)
    assert f"accept its terms at {hub.endpoint}/org/name and set HF_TOKEN" in str(error)


@pytest.mark.usefixtures("repo")
@pytest.mark.parametrize(
    "request_of",
    [
        ("hf://org/name", "/api/models/org/name/revision/main"),
        ("hf://org/name", "/api/models/org/name/tree/"),
        ("hf://org/name/config.json", "/api/models/org/name/paths-info/"),
        ("hf:org/name:Q4_K_M", "/v2/org/name/manifests/"),
    ],
)
@pytest.mark.parametrize(
    "busy",
    [(429, {"RateLimit": '"api";r=0;t=55'}, 56.0), (503, {"Retry-After": "3"}, 3.0), (500, {}, None)],
)
async def test_a_busy_hub_is_said_at_once(
    resolve: Resolve,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    request_of: tuple[str, str],
    busy: tuple[int, dict[str, str], float | None],
) -> None:
    """One answer, no sleep in a thread, and how long the Hub asks to wait: when to try again is for the caller."""
    (uri, at), (status, headers, wait_s) = request_of, busy
    monkeypatch.setattr(time, "sleep", _never)
    hub.answer_with(at, status, headers)
    with pytest.raises(ResponseError) as caught:
        await resolve(uri)
    assert (caught.value.status, caught.value.retryable, caught.value.retry_after) == (status, True, wait_s)
    assert len([call for call in hub.calls if at in call]) == 1


def _never(seconds: float) -> None:
    raise AssertionError(f"slept {seconds} s")


async def test_a_hub_that_is_not_there_is_said_at_once(
    resolve: Resolve, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused connection is not tried five times over 23 seconds, not even for a tree."""
    monkeypatch.setattr(time, "sleep", _never)
    gone = f"http://127.0.0.1:{unused_tcp_port}"
    for uri in ("hf://org/name", f"hf://org/name@{'c' * 40}"):
        with pytest.raises(ConnectionInterruptedError, match="HF_ENDPOINT") as caught:
            await resolve(uri, hf_endpoint=gone)
        assert caught.value.retryable


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_hub_that_does_not_answer_is_left(resolve: Resolve, mirror: Origin, method: str) -> None:
    """Every request has its time limits, those too to which huggingface_hub gives none."""
    commit = "c" * 40
    for path in (f"/api/models/org/name/tree/{commit}", f"/api/models/org/name/paths-info/{commit}"):
        mirror.add(path, b"[]", behaviours=[never_answer()])
    with pytest.raises(TransferTimeoutError) as caught:
        await resolve(
            f"hf://org/name@{commit}" + ("/a.bin" if method == "POST" else ""),
            hf_endpoint=mirror.url,
            stall_timeout_s=0.2,
        )
    assert caught.value.retryable
    assert [request.method for request in mirror.requests] == [method]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"sha": 5}', b'{"sha": "../../etc"}', b"\xff", b""])
async def test_an_answer_that_is_no_hubs_is_said_so(resolve: Resolve, mirror: Origin, body: bytes) -> None:
    """A login page, or any other server at the address, is an error that names HF_ENDPOINT."""
    mirror.add("/api/models/org/name/revision/main", body)
    with pytest.raises(ResponseError, match="HF_ENDPOINT") as caught:
        await resolve(hf_endpoint=mirror.url)
    assert not caught.value.retryable
    mirror.add("/v2/org/name/manifests/Q4_K_M", b"<html>")
    with pytest.raises(ResponseError, match="HF_ENDPOINT"):
        await resolve("hf:org/name:Q4_K_M", hf_endpoint=mirror.url)


async def test_a_file_that_is_listed_twice_is_refused(resolve: Resolve, mirror: Origin) -> None:
    """Two entries of one name would leave open which is meant."""
    commit = "c" * 40
    entry = b'{"type": "file", "path": "a.bin", "size": 3}'
    mirror.add(f"/api/models/org/name/tree/{commit}", b"[%b, %b]" % (entry, entry))
    with pytest.raises(ResponseError, match="twice"):
        await resolve(f"hf://org/name@{commit}", hf_endpoint=mirror.url)


@pytest.mark.parametrize("switch", ["setting", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("uri", ["hf://org/name", "hf:org/name:Q4_K_M"])
async def test_offline_nothing_is_asked(
    resolve: Resolve, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, switch: str, uri: str
) -> None:
    """Our own switch and huggingface_hub's both forbid every request."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", switch != "setting")
    with pytest.raises(OfflineError):
        await resolve(uri, offline=switch == "setting")
    assert hub.requests == []


@pytest.mark.skipif(TLS_MISSING is not None, reason=str(TLS_MISSING))
async def test_the_hubs_certificate_is_checked(
    resolve: Resolve,
) -> None:
    """An unknown authority is refused for good; ca_file makes it known for metadata too."""
    with Origin(tls=True) as secure:
        with pytest.raises(ConnectionInterruptedError, match="MODELCASK_CA_FILE") as caught:
            await resolve(hf_endpoint=secure.url)
        assert not caught.value.retryable
        with pytest.raises(ModelNotFoundError):  # the answer is 404: the connection was made
            await resolve(hf_endpoint=secure.url, ca_file=secure.ca_file)


@pytest.mark.usefixtures("repo")
async def test_a_hub_on_this_machine_is_reached_past_a_proxy(
    resolve: Resolve, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever works behind a proxy still reaches loopback, where no proxy could find it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    await resolve()
    assert len(hub.calls) == 2


async def test_the_session_of_the_process_is_left_as_it_was(resolve: Resolve, hub: FakeHub) -> None:
    """Whoever uses huggingface_hub beside us finds its session open and unchanged."""
    hub.add_repo("models", "org/name", FILES)
    session = huggingface_hub.get_session()
    hooks, follows = dict(session.event_hooks), session.follow_redirects
    await resolve()
    assert huggingface_hub.get_session() is session
    assert not session.is_closed
    assert (dict(session.event_hooks), session.follow_redirects) == (hooks, follows)


def test_a_blocked_call_holds_up_nobody() -> None:
    """Cancelled or late, the wait ends at once, and so does the event loop, while the call still blocks."""
    blocked, release = threading.Event(), threading.Event()

    def call() -> None:
        blocked.set()
        release.wait(60)

    async def cancelled() -> None:
        task = asyncio.create_task(in_thread(call, limit_s=60))
        await asyncio.to_thread(blocked.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def late() -> None:
        with pytest.raises(TimeoutError):
            await in_thread(call, limit_s=0.05)

    try:
        for scenario in (cancelled, late):
            asyncio.run(scenario())
            assert not release.is_set()
    finally:
        release.set()


async def test_a_call_in_a_thread_gives_its_result_or_its_error() -> None:
    """What the call returns is returned, what it raises is raised."""
    assert await in_thread(lambda: 5, limit_s=60) == 5
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, limit_s=60)
