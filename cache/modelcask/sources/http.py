"""``https://`` and ``http://``: one file behind a URL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelcask.config import Settings
from modelcask.errors import ResponseError
from modelcask.net.status import is_unasked_page, page_error, status_error
from modelcask.sources import Wanted
from modelcask.types import Credential, HTTPLocation, RemoteFile, Resolution
from modelcask.uri import ModelURI

if TYPE_CHECKING:
    from modelcask.net.client import Client, Response

_OK = 200
# RFC 9110, section 8.8.3, without the bytes above ASCII that nobody sends.
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,256}"', re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)


class HTTPSource:
    """Resolve a URL to the file that its server offers now."""

    needs_network = True

    def __init__(self, settings: Settings, client: Client | None) -> None:
        if client is None:
            raise ValueError("this source needs a client")
        self._client = client
        self._headers = settings.access.headers

    async def resolve(self, uri: ModelURI, *, wanted: Wanted | None = None) -> Resolution:  # noqa: ARG002 - one file
        """Return the file, its size if the server tells, and its strong ETag, which then is the revision.

        One HEAD; where that is refused, a GET whose body is not read decides: URLs are often signed for GET alone.
        Without a strong ETag the revision is the pinned sha256, and without that None: the bytes will tell.

        Raises:
            ResponseError: a web page came where none was named and nothing is pinned, or the server failed.
            CacheError: as :class:`modelcask.sources.Source` and :mod:`modelcask.net` say.
        """
        if uri.fetch_url is None:
            raise ValueError(f"{uri.canonical} has no URL to fetch")
        file = await self._ask("HEAD", uri, uri.fetch_url) or await self._ask("GET", uri, uri.fetch_url)
        if file is None:  # pragma: no cover - a GET either describes the file or raises
            raise AssertionError(uri.canonical)
        return Resolution(uri, _revision(uri, file.etag), (file,), complete=True)

    async def _ask(self, method: str, uri: ModelURI, url: str) -> RemoteFile | None:
        """Return what the answer says of the file; None for a HEAD that says nothing."""
        from modelcask.net import policy  # noqa: PLC0415 - yarl: finding a source must cost nothing

        pinned = uri.pin is not None
        try:
            credential = Credential(policy.origin_of(url), self._headers) if self._headers else None
            async with self._client.request(method, url, credential=credential, allow_http=pinned) as answer:
                if answer.status == _OK:
                    return _read_file(uri, HTTPLocation(url, credential, allow_http=pinned), answer)
                if method == "GET":
                    raise status_error(answer.status, answer.headers, answer.url, uri=uri.canonical)
        except ResponseError:
            if method == "GET":
                raise
        return None


def _read_file(uri: ModelURI, location: HTTPLocation, answer: Response) -> RemoteFile:
    if is_unasked_page(answer.headers, uri.path, promised=uri.pin is not None):
        raise page_error(answer.url, uri.path, answer.status)
    length = answer.headers.get("Content-Length", "")
    etag = answer.headers.get("ETag", "").strip()
    return RemoteFile(
        uri.path,
        int(length) if _LENGTH.fullmatch(length) else None,
        () if uri.pin is None else (uri.pin,),
        location,
        etag if _STRONG_ETAG.fullmatch(etag) else None,
    )


def _revision(uri: ModelURI, etag: str | None) -> str | None:
    if etag is not None:
        return f"etag:{etag[1:-1]}"
    return str(uri.pin) if uri.pin is not None and uri.pin.algorithm == "sha256" else None
