"""Where redirects led is asked at once the next time, under the rules that held on the way there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from behaviours import Redirect
from modelcask.config import Settings
from modelcask.errors import PolicyError
from modelcask.net import policy
from modelcask.net.client import Client
from modelcask.types import Credential
from origin import Origin

CONTENT = b"the file"
SECRET = (("Authorization", "Bearer s3cret"),)


@pytest.fixture
def other() -> Iterator[Origin]:
    with Origin() as server:
        yield server


async def follow(client: Client, url: str, shortcut: object = None, credential: Credential | None = None) -> object:
    async with client.request("GET", url, shortcut=shortcut, credential=credential) as answer:
        assert await answer.read(1000) == CONTENT
        return answer.shortcut


async def test_there_is_none_without_a_redirect(origin: Origin, settings: Settings) -> None:
    """A URL that answers by itself needs no shortcut."""
    async with Client(settings) as client:
        assert await follow(client, origin.add("/a", CONTENT)) is None


async def test_the_end_of_the_redirects_is_asked_at_once(origin: Origin, other: Origin, settings: Settings) -> None:
    """The URL itself and the hops between are not asked again, and the shortcut stays good."""
    url = origin.add("/a", b"", behaviours=[Redirect("/b")])
    origin.add("/b", b"", behaviours=[Redirect(f"{other.url}/c?signature=1")])
    other.add("/c", CONTENT)
    async with Client(settings) as client:
        shortcut = await follow(client, url)
        assert await follow(client, url, shortcut) == shortcut
    assert [request.path for request in origin.requests] == ["/a", "/b"]
    assert [request.query for request in other.requests] == ["signature=1"] * 2


async def test_a_shortcut_may_lead_on(origin: Origin, settings: Settings) -> None:
    """A redirect behind it is followed as any other, and is the next shortcut."""
    url = origin.add("/a", b"", behaviours=[Redirect("/b")])
    origin.add("/b", CONTENT, behaviours=[(), Redirect("/c")])
    origin.add("/c", CONTENT)
    async with Client(settings) as client:
        first = await follow(client, url)
        second = await follow(client, url, first)
        await follow(client, url, second)
    assert [request.path for request in origin.requests] == ["/a", "/b", "/b", "/c", "/c"]


async def test_a_credential_still_goes_to_its_own_origin_only(
    origin: Origin, other: Origin, settings: Settings
) -> None:
    """The token of the first URL is not sent to where it led; one for that place would be."""
    url = origin.add("/a", b"", behaviours=[Redirect(f"{other.url}/c")])
    other.add("/c", CONTENT)
    async with Client(settings) as client:
        ours = Credential(origin.url, SECRET)
        shortcut = await follow(client, url, credential=ours)
        await follow(client, url, shortcut, ours)
        await follow(client, url, shortcut, Credential(other.url, SECRET))
    assert [request.headers.get("Authorization") for request in origin.requests] == ["Bearer s3cret"]
    assert [request.headers.get("Authorization") for request in other.requests] == [None, None, "Bearer s3cret"]


async def test_a_shortcut_is_no_way_inside(origin: Origin, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address behind it is judged at each request: a name that has moved into a private network is refused."""
    url = f"http://localhost:{origin.port}/a"
    origin.add("/a", b"", behaviours=[Redirect(f"http://127.0.0.1:{origin.port}/b")])
    origin.add("/b", CONTENT)
    async with Client(replace(settings, allow_http=True)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(policy, "is_public_address", lambda _: True)
            shortcut = await follow(client, url)
    async with Client(replace(settings, allow_http=True)) as client:
        with pytest.raises(PolicyError, match="inside a private network"):
            await follow(client, url, shortcut)
    assert [request.path for request in origin.requests] == ["/a", "/b"]
