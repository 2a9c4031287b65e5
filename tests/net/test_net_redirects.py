"""Redirects: what is followed, what a hop may be told, and where no redirect leads, however the host is spelled."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import replace

import pytest

from behaviours import Redirect
from modelcask.config import Settings
from modelcask.errors import CacheError, ConnectionInterruptedError, PolicyError, ResponseError
from modelcask.net import policy
from modelcask.net.client import Client
from modelcask.types import Credential
from origin import TLS_MISSING, Origin

CONTENT = b"the file"
TOKEN = "Bearer " + "canary"  # in two pieces, so that a traceback shows it only if an error holds it


@pytest.fixture
def other() -> Iterator[Origin]:
    with Origin() as server:
        yield server


async def read(client: Client, url: str, credential: Credential | None = None) -> bytes:
    async with client.request("GET", url, credential=credential, headers={"Range": "bytes=4-"}) as answer:
        return await answer.read(1000)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_each_kind_of_redirect_is_followed(origin: Origin, settings: Settings, code: int, method: str) -> None:
    """All five statuses lead on with the same method and the same range."""
    url = origin.add("/a", b"", behaviours=[Redirect("/b?sig=%2F", code)])
    origin.add("/b", CONTENT)
    async with (
        Client(settings) as client,
        client.request(method, url, headers={"Range": "bytes=4-", "If-Range": '"x"'}) as answer,
    ):
        assert answer.status == 200
        assert answer.url == f"{origin.url}/b"
    hop = origin.requests[-1]
    assert (hop.method, hop.path, hop.query) == (method, "/b", "sig=%2F")
    assert (hop.headers["Range"], hop.headers["If-Range"]) == ("bytes=4-", '"x"')


@pytest.mark.parametrize("code", [300, 304, 305])
async def test_other_statuses_of_the_class_are_answers(origin: Origin, settings: Settings, code: int) -> None:
    """A Location makes no redirect of a status that is none."""
    url = origin.add("/a", b"", behaviours=[Redirect("/b", code)])
    async with Client(settings) as client, client.request("GET", url) as answer:
        assert answer.status == code
    assert len(origin.requests) == 1


async def test_ten_hops_are_followed_and_no_eleventh(origin: Origin, settings: Settings) -> None:
    """A chain of ten ends at its file; one more, or a loop, is a typed error."""
    for number in range(11):
        origin.add(f"/{number}", b"", behaviours=[Redirect(f"/{number + 1}")])
    origin.add("/11", CONTENT)
    loop = origin.add("/loop", b"", behaviours=[Redirect("/loop")])
    async with Client(settings) as client:
        assert await read(client, f"{origin.url}/1") == CONTENT[4:]
        for url in (f"{origin.url}/0", loop):
            origin.requests.clear()
            with pytest.raises(ResponseError, match="more than 10 times") as caught:
                await read(client, url)
            assert not caught.value.retryable
            assert len(origin.requests) == 11


@pytest.mark.parametrize(
    ("location", "error"),
    [
        (None, ResponseError),
        ("", ResponseError),
        ("http://[bad/", ResponseError),
        ("http://user:canary@127.0.0.1/", PolicyError),
        ("//user:canary@127.0.0.1/", PolicyError),
        ("file:///etc/passwd", PolicyError),
        ("ftp://127.0.0.1/x", PolicyError),
        ("http://name.invalid/x?sig=canary", PolicyError),
    ],
)
async def test_a_bad_redirect_is_a_typed_error(
    origin: Origin, settings: Settings, location: str | None, error: type[CacheError]
) -> None:
    """Nowhere, other schemes, passwords, and plain http to another machine all end there, without secrets."""
    url = origin.add("/a", b"", behaviours=[Redirect(location)])
    async with Client(settings) as client:
        with pytest.raises(error) as caught:
            await read(client, url)
    assert not caught.value.retryable
    assert "canary" not in "".join(traceback.format_exception(caught.value, chain=True))
    assert len(origin.requests) == 1


@pytest.mark.skipif(TLS_MISSING is not None, reason=str(TLS_MISSING))
async def test_https_never_leads_to_http(origin: Origin, settings: Settings) -> None:
    """Not even to loopback, and not even where plain http is allowed."""
    plain = origin.add("/b", CONTENT)
    with Origin(tls=True) as secure:
        url = secure.add("/a", b"", behaviours=[Redirect(plain)])
        async with Client(replace(settings, allow_http=True, ca_file=secure.ca_file)) as client:
            with pytest.raises(PolicyError, match="from https to plain http"):
                await read(client, url)
    assert origin.requests == []


async def test_a_credential_stays_at_its_origin(origin: Origin, other: Origin, settings: Settings) -> None:
    """Out to another port and back: the token is sent to its own origin both times, and never in between."""
    url = origin.add("/a", b"", behaviours=[Redirect(f"{other.url}/b")])
    other.add("/b", b"", behaviours=[Redirect(f"{origin.url}/c")])
    origin.add("/c", CONTENT)
    async with Client(settings) as client:
        assert await read(client, url, Credential(origin.url, (("Authorization", TOKEN),))) == CONTENT[4:]
    assert [request.headers.get("Authorization") for request in origin.requests] == [TOKEN, TOKEN]
    assert [request.headers.get("Authorization") for request in other.requests] == [None]
    assert other.requests[0].headers["Range"] == "bytes=4-"


@pytest.mark.parametrize("bound_to", ["http://127.0.0.1", "https://127.0.0.1:{port}", "http://localhost:{port}"])
async def test_a_credential_for_another_origin_is_not_sent(origin: Origin, settings: Settings, bound_to: str) -> None:
    """Another port, scheme or name is another origin, from the first hop on."""
    url = origin.add("/a", CONTENT)
    async with Client(settings) as client:
        await read(client, url, Credential(bound_to.format(port=origin.port), (("Authorization", TOKEN),)))
    assert "Authorization" not in origin.requests[0].headers


# Spellings of hosts inside a private network. The first hop is called "localhost", so each of these is another host.
INSIDE = [
    *("127.0.0.1", "127.0.0.2", "127.255.255.254", "127.1", "127.0.1", "2130706433", "017700000001", "0177.0.0.1"),
    *("0x7f000001", "0x7f.0.0.1", "0x7F.1", "0x7f.0x0.0x0.0x1", "127.0.0.1.", "127.000.000.001", "00127.0.0.1"),
    *("0.0.0.0", "0", "0x0", "00000000000", "localhost.", "LOCALHOST.", "localhost..", "sub.localhost"),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]"),
    *("[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"),
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0xa9fea9fe", "2852039166", "100.64.0.1"),
    *("[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
    *("[::ffff:169.254.169.254]", "[::ffff:10.0.0.1]", "[64:ff9b::a9fe:a9fe]", "198.18.0.1", "192.0.0.192"),
]


@pytest.mark.parametrize("host", INSIDE)
async def test_no_redirect_leads_inside(origin: Origin, settings: Settings, host: str) -> None:
    """However a private address is spelled, the socket to it is never opened, even with plain http allowed."""
    origin.add("/inside", b"what the user's network knows")
    origin.add("/a", b"", behaviours=[Redirect(f"http://{host}:{origin.port}/inside")])
    async with Client(replace(settings, allow_http=True)) as client:
        # A spelling that the resolver does not take is as good: nothing was connected.
        with pytest.raises((PolicyError, ConnectionInterruptedError)) as caught:
            await read(client, f"http://localhost:{origin.port}/a")
    assert isinstance(caught.value, PolicyError) or "host name is not known" in str(caught.value)
    assert [request.path for request in origin.requests] == ["/a"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f000001"])
async def test_it_is_the_guard_that_refuses(
    origin: Origin, settings: Settings, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the verdict on addresses turned round, the same redirects go through: nothing else stops them."""
    monkeypatch.setattr(policy, "is_public_address", lambda _: True)
    origin.add("/inside", CONTENT)
    origin.add("/a", b"", behaviours=[Redirect(f"http://{host}:{origin.port}/inside")])
    async with Client(replace(settings, allow_http=True)) as client:
        assert await read(client, f"http://localhost:{origin.port}/a") == CONTENT[4:]


async def test_the_host_that_the_user_named_may_redirect_to_itself(
    origin: Origin, other: Origin, settings: Settings
) -> None:
    """A server of one's own network may use another port of itself, as a Hub and its files do."""
    other.add("/b", CONTENT)
    url = origin.add("/a", b"", behaviours=[Redirect(f"{other.url}/b")])
    async with Client(settings) as client:
        assert await read(client, url) == CONTENT[4:]


async def test_a_pooled_connection_is_no_way_in(origin: Origin, settings: Settings) -> None:
    """A connection made to a host that the user named is no way in for a redirect to the same address."""
    origin.add("/inside", CONTENT)
    origin.add("/a", b"", behaviours=[Redirect(f"http://127.0.0.1:{origin.port}/inside")])
    async with Client(replace(settings, allow_http=True)) as client:
        assert await read(client, f"http://127.0.0.1:{origin.port}/inside") == CONTENT[4:]
        with pytest.raises(PolicyError, match="inside a private network"):
            await read(client, f"http://localhost:{origin.port}/a")
    assert [request.path for request in origin.requests] == ["/inside", "/a"]
