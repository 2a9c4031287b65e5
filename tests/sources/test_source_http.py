"""What a plain URL resolves to: one request, and an honest account of what the server promises."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import pytest

from behaviours import CloseFramed, ETag, Gzip, LoginPage, Redirect, Status, WeakETag, hang_up_at_once
from modelcask.config import Settings
from modelcask.digest import Digest
from modelcask.errors import (
    AccessDeniedError,
    CacheError,
    ConnectionInterruptedError,
    ModelNotFoundError,
    PolicyError,
    ResponseError,
)
from modelcask.net.client import Client
from modelcask.sources.http import HTTPSource
from modelcask.types import HTTPLocation, RemoteFile, Resolution
from modelcask.uri import parse_uri
from origin import Origin
from reply import Behaviour, Reply

CONTENT = b"weights" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()

Resolve = Callable[[str], Awaitable[Resolution]]


class RefuseHead(Behaviour):
    """Answer GET, but HEAD with a status: as a URL does that is signed for GET alone."""

    def __init__(self, code: int) -> None:
        self.code = code

    def answer(self, reply: Reply) -> None:
        if reply.request.method == "HEAD":
            Status(self.code).answer(reply)


class OnlyForHead(Behaviour):
    """Misbehave towards HEAD only."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    def answer(self, reply: Reply) -> None:
        if reply.request.method == "HEAD":
            self.behaviour.answer(reply)


@pytest.fixture
def resolve(settings: Settings, client: Client) -> Resolve:
    async def call(uri: str) -> Resolution:
        return await HTTPSource(settings, client).resolve(parse_uri(uri))

    return call


def methods(origin: Origin) -> list[str]:
    return [request.method for request in origin.requests]


async def test_a_url_is_one_head(origin: Origin, resolve: Resolve) -> None:
    """Name, size, strong ETag and address come from one HEAD; the ETag is the revision."""
    found = await resolve(origin.add("/dir/m%20x.gguf", CONTENT, etag='"v1-abc"'))
    url = f"{origin.url}/dir/m%20x.gguf"
    assert found.files == (RemoteFile("m x.gguf", len(CONTENT), (), HTTPLocation(url), '"v1-abc"'),)
    assert (found.revision, found.complete) == ("etag:v1-abc", True)
    assert methods(origin) == ["HEAD"]


@pytest.mark.parametrize("etag", ['W/"v1"', "v1", '"v1', '""', '"a"b"', '"\x7f"', f'"{"x" * 300}"'])
async def test_only_a_strong_etag_is_a_validator(origin: Origin, resolve: Resolve, etag: str) -> None:
    """A weak, broken or endless ETag promises no bytes: it is neither sent back nor a revision."""
    found = await resolve(origin.add("/m.gguf", CONTENT, etag=etag))
    assert (found.files[0].etag, found.revision) == (None, None)


async def test_without_an_etag_a_pinned_sha256_is_the_revision(origin: Origin, resolve: Resolve) -> None:
    """The user's digest names the version where the server does not; a strong ETag goes before it."""
    url = origin.add("/m.gguf", CONTENT, behaviours=[WeakETag(), ETag(None), ETag('"v1"')])
    pin = Digest("sha256", SHA256)
    for revision in (f"sha256:{SHA256}", f"sha256:{SHA256}", "etag:v1"):
        found = await resolve(f"{url}#sha256={SHA256}")
        assert (found.revision, found.files[0].digests) == (revision, (pin,))
        assert found.files[0].location == HTTPLocation(url, allow_http=True)
    plain = origin.add("/n.gguf", CONTENT, etag=None)
    blake3 = await resolve(f"{plain}#blake3={'0' * 64}")
    assert (blake3.revision, blake3.files[0].digests) == (None, (Digest("blake3", "0" * 64),))


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 500, 501, 503])
async def test_where_head_is_refused_a_get_decides(origin: Origin, resolve: Resolve, code: int) -> None:
    """A server that does not like HEAD is asked once more, and no byte of the body is needed."""
    found = await resolve(origin.add("/m.gguf", CONTENT, behaviours=[RefuseHead(code)], etag='"v1"'))
    assert (found.files[0].size_bytes, found.revision) == (len(CONTENT), "etag:v1")
    assert methods(origin) == ["HEAD", "GET"]


@pytest.mark.parametrize("fault", [Gzip(), LoginPage(), Redirect(None)])
async def test_a_strange_answer_to_head_decides_nothing(origin: Origin, resolve: Resolve, fault: Behaviour) -> None:
    """Servers that treat HEAD as an afterthought may still have the file."""
    found = await resolve(origin.add("/m.gguf", CONTENT, behaviours=[OnlyForHead(fault)]))
    assert found.files[0].size_bytes == len(CONTENT)
    assert methods(origin) == ["HEAD", "GET"]


async def test_a_size_that_is_not_told_is_unknown(origin: Origin, resolve: Resolve) -> None:
    """An answer that only the connection's end will end has no size."""
    found = await resolve(origin.add("/m.gguf", CONTENT, behaviours=[CloseFramed()]))
    assert found.files[0].size_bytes is None


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (Status(404), ModelNotFoundError, "no such file"),
        (Status(410), ModelNotFoundError, "no such file"),
        (Status(401), AccessDeniedError, "token"),
        (Status(403), AccessDeniedError, "signed URL"),
        (Status(503, "9"), ResponseError, "9 s"),
        (Status(418), ResponseError, "418"),
        (LoginPage(), ResponseError, "web page"),
        (Gzip(), ResponseError, "compressed"),
        (Redirect("ftp://127.0.0.1/"), PolicyError, "ftp"),
        (hang_up_at_once(), ConnectionInterruptedError, "connection"),
    ],
)
async def test_what_is_not_the_file_is_a_typed_error(
    origin: Origin, resolve: Resolve, fault: Behaviour, error: type[CacheError], says: str
) -> None:
    """Each kind of refusal is told apart, and the signature of the URL is not shown."""
    url = origin.add("/m.gguf", CONTENT, behaviours=[fault])
    with pytest.raises(error, match=says) as caught:
        await resolve(f"{url}?X-Amz-Signature=canary")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("kind", ["Text/HTML; charset=utf-8", "application/xhtml+xml"])
@pytest.mark.parametrize("path", ["/m.gguf", "/M.SafeTensors", "/LICENSE", "/models/latest", "/dir/", "/a.html/get"])
async def test_a_web_page_is_no_model(origin: Origin, resolve: Resolve, path: str, kind: str) -> None:
    """HTML where no page is named is a login, an error or a consent in disguise, whatever the name looks like."""
    with pytest.raises(ResponseError, match=r"web page.*; open it in a browser") as caught:
        await resolve(origin.add(path, b"<html>", media_type=kind))
    assert not caught.value.retryable


async def test_under_a_pin_the_bytes_tell_what_a_web_page_is(origin: Origin, resolve: Resolve) -> None:
    """Some servers call everything HTML; who knows the digest need not believe them."""
    url = origin.add("/m.gguf", CONTENT, media_type="text/html")
    found = await resolve(f"{url}#sha256={SHA256}")
    assert found.files[0].size_bytes == len(CONTENT)


@pytest.mark.parametrize("name", ["card.html", "Card.HTM", "card.xhtml"])
async def test_a_web_page_that_was_asked_for_is_a_file(origin: Origin, resolve: Resolve, name: str) -> None:
    """A name of a page makes a page right, whatever the query says."""
    found = await resolve(origin.add(f"/{name}", b"<html>", media_type="text/html") + "?as=m.gguf")
    assert found.files[0].path == name


async def test_a_signature_is_sent_and_kept_from_sight(origin: Origin, resolve: Resolve) -> None:
    """The address keeps its exact query; no representation of it shows any."""
    origin.add("/m.gguf", CONTENT)
    query = "a=1%2F2&X-Amz-Signature=canary"
    found = await resolve(f"{origin.url}/m.gguf?{query}")
    assert origin.requests[0].query == query
    location = found.files[0].location
    assert isinstance(location, HTTPLocation)
    assert location.url == f"{origin.url}/m.gguf?{query}"
    assert "canary" not in repr(found)


async def test_a_redirect_keeps_the_users_address(origin: Origin, resolve: Resolve) -> None:
    """What stands behind the redirect describes the file; the file is fetched from where the user said."""
    url = origin.add("/m.gguf", b"", behaviours=[Redirect("/behind")])
    origin.add("/behind", CONTENT, etag='"behind"')
    found = await resolve(url)
    file = found.files[0]
    assert (file.path, file.size_bytes, file.etag) == ("m.gguf", len(CONTENT), '"behind"')
    assert file.location == HTTPLocation(url)


async def test_plain_http_to_another_machine_needs_a_pin(settings: Settings, client: Client, resolve: Resolve) -> None:
    """Without one the policy speaks; with one the request goes out."""
    del settings, client
    with pytest.raises(PolicyError, match="#sha256="):
        await resolve("http://name.invalid/m.gguf")
    with pytest.raises(ConnectionInterruptedError):
        await resolve(f"http://name.invalid/m.gguf#sha256={SHA256}")


async def test_filters_do_not_apply_to_one_url(origin: Origin, settings: Settings, client: Client) -> None:
    """Filters narrow what means several files; a file that was named is meant."""
    uri = parse_uri(origin.add("/m.gguf", CONTENT))
    found = await HTTPSource(settings, client).resolve(uri, wanted=lambda path: path != "m.gguf")
    assert ([file.path for file in found.files], found.complete) == (["m.gguf"], True)
