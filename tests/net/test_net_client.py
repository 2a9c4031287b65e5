"""One request to a real server that misbehaves: each fault is a typed error, and no secret is in it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from behaviours import (
    Chunked,
    CloseFramed,
    ContentLength,
    CutAfter,
    Drip,
    Gzip,
    HeaderFlood,
    Normal,
    StallAfter,
    Status,
    hang_up_at_once,
    never_answer,
)
from modelcask.config import Settings
from modelcask.errors import (
    CacheError,
    ConfigError,
    ConnectionInterruptedError,
    OfflineError,
    PolicyError,
    ResponseError,
    TransferTimeoutError,
)
from modelcask.net.client import Client
from modelcask.types import Credential
from origin import TLS_MISSING, Origin
from reply import Behaviour

CONTENT = bytes(range(256)) * 1000
SIGNATURE = "?X-Signature=" + "canary"  # in two pieces, so that a traceback shows it only if an error holds it


async def get(client: Client, url: str, *, limit: int = 1 << 20) -> bytes:
    async with client.request("GET", url) as answer:
        return await answer.read(limit)


@contextlib.asynccontextmanager
async def raw_server(wire: bytes, *, for_ever: bool = False) -> AsyncIterator[str]:
    """Answer any request with these bytes, once or for ever, and close; yield the URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(wire)
            await writer.drain()
            while for_ever:
                writer.write(wire)
                await writer.drain()
                await asyncio.sleep(0.01)
            writer.close()
            await writer.wait_closed()
        except (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_body_arrives_whole_in_any_framing(origin: Origin, settings: Settings) -> None:
    """A length, chunks, and an HTTP/1.0 close all deliver the same bytes, over a reused connection or not."""
    script = [Normal(), Chunked(), Normal(), CloseFramed(), Normal()]
    url = origin.add("/m", CONTENT, behaviours=script)
    async with Client(settings) as client:
        for _ in script:
            assert await get(client, url) == CONTENT


async def test_a_head_request_has_headers_and_no_body(origin: Origin, settings: Settings) -> None:
    """HEAD tells the size; its body is empty."""
    async with Client(settings) as client, client.request("HEAD", origin.add("/m", CONTENT)) as answer:
        assert (answer.status, answer.headers["content-length"]) == (200, str(len(CONTENT)))
        assert await answer.read(0) == b""
        assert answer.url == f"{origin.url}/m"


async def test_only_what_is_meant_is_sent(origin: Origin, settings: Settings) -> None:
    """The wire carries our name, identity encoding, the caller's few headers, and nothing of the environment."""
    url = origin.add("/m", CONTENT)
    async with Client(settings) as client:
        async with client.request("GET", url, headers={"range": "bytes=0-3", "User-Agent": "llama-cpp"}) as answer:
            assert answer.status == 206
        await get(client, url)
    first, second = (request.headers for request in origin.requests)
    assert sorted(first) == ["Accept", "Accept-Encoding", "Host", "Range", "User-Agent"]
    assert (first["User-Agent"], first["Range"], first["Accept-Encoding"]) == ("llama-cpp", "bytes=0-3", "identity")
    assert second["User-Agent"].startswith("modelcask/")
    assert "Range" not in second


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-Api-Key", "Accept-Encoding", "Host"])
async def test_a_header_that_could_be_a_secret_is_refused(origin: Origin, settings: Settings, name: str) -> None:
    """A header goes to every hop, so only harmless ones are taken; nothing is sent."""
    async with Client(settings) as client:
        with pytest.raises(ValueError, match=name):
            async with client.request("GET", origin.add("/m", b""), headers={name: "x"}):
                pass
    assert origin.requests == []


async def test_netrc_and_cookies_are_never_sent(
    origin: Origin, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password in ~/.netrc and a cookie that the server sets stay where they are."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password canary\ndefault login a password canary\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    url = origin.add("/m", CONTENT, behaviours=[SetCookie()])
    async with Client(settings) as client:
        await get(client, url)
        await get(client, url)
        credential = Credential(origin.url, (("Authorization", "Bearer ours"),))
        async with client.request("GET", url, credential=credential) as answer:
            await answer.read(1 << 20)
    sent = [request.headers.get("Authorization") for request in origin.requests]
    assert sent == [None, None, "Bearer ours"]
    assert not any("Cookie" in request.headers for request in origin.requests)


class SetCookie(Behaviour):
    """Try to be remembered."""

    def answer(self, reply: object) -> None:
        reply.headers["Set-Cookie"] = "id=canary; Path=/"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fault", "error", "retryable"),
    [
        (CutAfter(1000), ConnectionInterruptedError, True),
        (CutAfter(1000, reset=True), ConnectionInterruptedError, True),
        ((Chunked(), CutAfter(1000)), ConnectionInterruptedError, True),
        (hang_up_at_once(), ConnectionInterruptedError, True),
        (ContentLength(+10), ConnectionInterruptedError, True),
        (Gzip(), ResponseError, False),
        (HeaderFlood(), ResponseError, False),
        (StallAfter(1000), TransferTimeoutError, True),
        (never_answer(), TransferTimeoutError, True),
    ],
)
async def test_a_fault_of_the_server_is_a_typed_error_without_secrets(
    origin: Origin,
    settings: Settings,
    fault: Behaviour | tuple[Behaviour, ...],
    error: type[CacheError],
    retryable: bool,
) -> None:
    """No fault is taken for a whole body, and neither message nor traceback shows the signature of the URL."""
    settings = replace(settings, stall_timeout_s=0.3)
    url = origin.add("/m", CONTENT, behaviours=[fault]) + SIGNATURE
    async with Client(settings) as client:
        with pytest.raises(error) as caught:
            await get(client, url)
    assert type(caught.value) is error
    assert caught.value.retryable is retryable
    assert str(caught.value).startswith(f"{origin.url}/m")
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert str(caught.value).isprintable()


async def test_bytes_beyond_the_length_are_never_part_of_a_body(origin: Origin, settings: Settings) -> None:
    """A server that sends more than it announced delivers at most what it announced."""
    url = origin.add("/m", CONTENT, behaviours=[ContentLength(-10)])
    async with Client(settings) as client:
        with contextlib.suppress(ResponseError, ConnectionInterruptedError):
            assert await get(client, url) == CONTENT[:-10]


async def test_an_encoded_error_page_is_no_policy_matter(origin: Origin, settings: Settings) -> None:
    """Only a success that is encoded is refused: of an error the status must get through."""
    url = origin.add("/m", CONTENT, behaviours=[(Status(503), Gzip())])
    async with Client(settings) as client, client.request("GET", url) as answer:
        assert answer.status == 503


async def test_a_small_body_that_is_large_is_cut_off(origin: Origin, settings: Settings) -> None:
    """``read`` stops at its limit, so that no answer fills the memory."""
    url = origin.add("/m", CONTENT)
    async with Client(settings) as client:
        assert await get(client, url, limit=len(CONTENT)) == CONTENT
        with pytest.raises(ResponseError, match="more than"):
            await get(client, url, limit=len(CONTENT) - 1)


async def test_a_drip_that_never_stalls_is_ended(origin: Origin, settings: Settings) -> None:
    """Bytes that keep coming at less than 1 KiB a second for a minute of our clock end in a timeout."""
    url = origin.add("/m", CONTENT, behaviours=[Drip(64, 0.001)])
    ticks = count()
    async with Client(settings, clock=lambda: next(ticks) * 2.0) as client:
        with pytest.raises(TransferTimeoutError, match="1 KiB"):
            await get(client, url)
    assert origin.bytes_served < len(CONTENT)


async def test_headers_that_drip_are_ended(settings: Settings) -> None:
    """Informational answers for ever are not an answer: the wait for the real one is bounded."""
    settings = replace(settings, connect_timeout_s=0.2, stall_timeout_s=0.2)
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    async with raw_server(early, for_ever=True) as url, Client(settings) as client:
        with pytest.raises(TransferTimeoutError):
            await get(client, url)


@pytest.mark.parametrize(
    "wire", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\x00: b\r\n\r\n"]
)
async def test_what_is_not_http_is_said_so(settings: Settings, wire: bytes) -> None:
    """Another protocol on the port, or a broken head, is a typed error that will not be tried again."""
    async with raw_server(wire) as url, Client(settings) as client:
        with pytest.raises(ResponseError, match="not valid HTTP") as caught:
            await get(client, url + SIGNATURE)
    assert not caught.value.retryable
    assert "canary" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"Transfer-Encoding: gzip\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n",
    ],
)
async def test_ambiguous_framing_is_refused(settings: Settings, framing: bytes) -> None:
    """Two lengths, or chunks that are none, never make a body."""
    async with raw_server(b"HTTP/1.1 200 OK\r\n" + framing) as url, Client(settings) as client:
        with pytest.raises((ResponseError, ConnectionInterruptedError)):
            await get(client, url)


async def test_a_refused_connection_is_said_at_once(settings: Settings, unused_tcp_port: int) -> None:
    """Nobody listens: one error, retryable, that names the place."""
    async with Client(settings) as client:
        with pytest.raises(ConnectionInterruptedError, match="no connection") as caught:
            await get(client, f"http://127.0.0.1:{unused_tcp_port}/m{SIGNATURE}")
    assert caught.value.retryable
    assert "canary" not in str(caught.value)


async def test_an_unknown_host_is_said_so(settings: Settings) -> None:
    """A name that does not resolve is told apart from a server that does not answer."""
    async with Client(settings) as client:
        with pytest.raises(ConnectionInterruptedError, match="host name is not known"):
            await get(client, "https://name.invalid/m")


async def test_offline_nothing_is_connected(origin: Origin, settings: Settings) -> None:
    """The setting is obeyed before any socket, and the error says how to undo it."""
    async with Client(replace(settings, offline=True)) as client:
        with pytest.raises(OfflineError, match="--offline") as caught:
            await get(client, origin.add("/m", CONTENT))
    assert not caught.value.retryable
    assert origin.requests == []


async def test_a_cancelled_read_stays_a_cancellation(origin: Origin, settings: Settings) -> None:
    """CancelledError is never turned into an error of the network."""
    url = origin.add("/m", CONTENT, behaviours=[StallAfter(1000)])
    started = asyncio.Event()

    async def read(client: Client) -> None:
        async with client.request("GET", url) as answer:
            async for _ in answer.chunks():
                started.set()

    async with Client(settings) as client:
        task = asyncio.create_task(read(client))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_block_that_is_left_early_frees_its_connection(origin: Origin, settings: Settings) -> None:
    """Leaving in the middle of a body closes the connection; the next request works, and nothing is leaked."""
    url = origin.add("/m", CONTENT * 40)
    async with Client(settings) as client:
        for _ in range(3):
            async with client.request("GET", url) as answer:
                async for _ in answer.chunks():
                    break
        assert await get(client, url, limit=1 << 30) == CONTENT * 40
    gc.collect()  # a socket left behind is a ResourceWarning, and so an error


async def test_plain_http_to_another_machine_is_refused_before_a_socket(settings: Settings) -> None:
    """The policy speaks first, so the name is not even resolved; each allowance lets it through to the resolver."""
    async with Client(settings) as client:
        with pytest.raises(PolicyError, match="--allow-http"):
            await get(client, "http://name.invalid/m")
        with pytest.raises(ConnectionInterruptedError):
            async with client.request("GET", "http://name.invalid/m", allow_http=True):
                pass
    async with Client(replace(settings, allow_http=True)) as client:
        with pytest.raises(ConnectionInterruptedError):
            await get(client, "http://name.invalid/m")


@pytest.fixture
def tls_origin() -> Iterator[Origin]:
    with Origin(tls=True) as server:
        yield server


@pytest.mark.skipif(TLS_MISSING is not None, reason=str(TLS_MISSING))
async def test_a_certificate_is_checked_always(tls_origin: Origin, settings: Settings) -> None:
    """An unknown authority is refused for good, with the way to name it; named, it is trusted."""
    url = tls_origin.add("/m", CONTENT)
    async with Client(settings) as client:
        with pytest.raises(ConnectionInterruptedError, match="MODELCASK_CA_FILE") as caught:
            await get(client, url)
    assert not caught.value.retryable
    trusting = replace(settings, ca_file=tls_origin.ca_file)
    async with Client(trusting) as client, client.request("HEAD", url) as answer:
        assert (answer.status, answer.url) == (200, url)


@pytest.mark.parametrize("write", [lambda _: None, lambda path: path.write_text("not a certificate")])
async def test_a_file_of_certificates_that_cannot_be_read_is_a_setting_to_fix(
    settings: Settings, tmp_path: Path, write: Callable[[Path], object]
) -> None:
    """A missing or broken ca_file is named, and never means that nothing is checked."""
    write(tmp_path / "ca.pem")
    async with Client(replace(settings, ca_file=tmp_path / "ca.pem")) as client:
        with pytest.raises(ConfigError, match="ca_file"):
            await get(client, "https://127.0.0.1:1/")


async def test_a_proxy_is_used_and_told_its_own_password_only(
    origin: Origin, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy from the environment gets the request in absolute form, and its password goes nowhere else."""
    monkeypatch.setenv("http_proxy", origin.url.replace("http://", "http://me:pass@"))
    origin.add("http://name.invalid/m", CONTENT)
    async with Client(replace(settings, allow_http=True)) as client:
        assert await get(client, "http://name.invalid/m") == CONTENT
        assert await get(client, origin.add("/direct", CONTENT)) == CONTENT
    through, direct = origin.requests
    assert through.headers["Proxy-Authorization"].startswith("Basic ")
    assert (direct.path, "Proxy-Authorization" in direct.headers) == ("/direct", False)


async def test_no_proxy_is_obeyed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that the environment excepts is connected directly."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "name.invalid")
    async with Client(replace(settings, allow_http=True)) as client:
        with pytest.raises(ConnectionInterruptedError, match="host name is not known"):
            await get(client, "http://name.invalid/m")


async def test_a_proxy_that_cannot_be_spoken_to_is_not_passed_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who set a SOCKS proxy wants no direct connection: an error that says what would work."""
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    async with Client(settings) as client:
        with pytest.raises(ConfigError, match="HTTPS_PROXY"):
            await get(client, "https://name.invalid/m")
