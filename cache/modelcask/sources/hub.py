"""The Hub's metadata, through huggingface_hub: its token, its session, its errors; in a thread, since it blocks.

``HfApi`` itself is not used, for what its methods do on the way (huggingface_hub 2.4):

* a refused connection or a busy server makes ``list_repo_tree`` sleep and try again for 23 seconds and more, and
  ``get_paths_info`` waits without limit, in a thread that nobody can cancel;
* the next page of a tree is fetched, token and all, from whatever host the ``Link`` header names, and redirects are
  followed to any host and down to plain http;
* building its headers asks the Hub for a list of known agents, and writes that list into the user's ``HF_HOME``.

So the same requests (the Hub's API, ``/api/{kind}/{id}/…``) are made here over the library's session, which carries
the user's proxies and certificates. Nothing is written, nothing is retried, nothing else is asked.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Final, TypeVar
from urllib.parse import quote
from urllib.request import getproxies

import httpx2
import msgspec
from huggingface_hub import constants, get_session, get_token, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError
from yarl import URL

from modelcask.config import Settings
from modelcask.errors import (
    AccessDeniedError,
    CacheError,
    ConnectionInterruptedError,
    OfflineError,
    PolicyError,
    ResponseError,
    TransferError,
    TransferTimeoutError,
)
from modelcask.net import policy
from modelcask.net.client import tls_context
from modelcask.net.status import status_error
from modelcask.printable import SafeURL
from modelcask.sources.blocking import in_thread
from modelcask.types import Credential
from modelcask.uri import ModelURI

_T = TypeVar("_T")

_MAX_PAGES: Final = 2000
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)


class LFS(msgspec.Struct, frozen=True):
    """The large-file part of an entry."""

    oid: str
    """The SHA-256 of the content."""


class HubEntry(msgspec.Struct, frozen=True):
    """One entry of a tree, as the Hub lists it."""

    type: str
    path: str
    oid: str = ""
    """The git object's SHA-1; for a large file that of its pointer."""
    size: int | None = None
    lfs: LFS | None = None
    xet_hash: str | None = msgspec.field(default=None, name="xetHash")
    """What the Xet storage calls a large file."""


class _Revision(msgspec.Struct, frozen=True):
    sha: str


class Hub:
    """One repository of one Hub, for one URI."""

    def __init__(self, settings: Settings, uri: ModelURI) -> None:
        if uri.repo is None:
            raise ValueError(f"{uri.canonical} names no repository")
        if constants.is_offline_mode():
            raise OfflineError(
                f"{uri.canonical} needs the network, but HF_HUB_OFFLINE forbids it; unset HF_HUB_OFFLINE"
            )
        self._settings = settings
        self._uri = uri
        self._endpoint = settings.hf_endpoint.rstrip("/")
        root = policy.read_url(self._endpoint)
        policy.check_plain_http(root, allowed=uri.pin is not None or settings.allow_http)
        self._origin = policy.origin_of(root)
        # No proxy can reach what listens on this machine's loopback.
        self._past_proxies = policy.is_loopback(policy.host_of(root)) and bool(getproxies())
        prefix = "" if uri.repo.kind == "models" else f"{uri.repo.kind}/"
        self._page = f"{self._endpoint}/{prefix}{uri.repo.id}"
        self._api = f"{self._endpoint}/api/{uri.repo.kind}/{uri.repo.id}"
        self.credential: Credential | None = None
        """The token and headers, bound to this Hub; None without any, or where they would travel in the clear."""

    async def log_in(self) -> None:
        """Read the user's token: as given, else as huggingface_hub does: ``HF_TOKEN``, then the token file.

        A header that logs in beats a token that was only found.

        Raises:
            AccessDeniedError: the token cannot be read, or is not one.
        """
        access = self._settings.access
        others = [(name, value) for name, value in access.headers if name.lower() != "authorization"]
        token = access.token_of("huggingface")
        if token is None and len(others) == len(access.headers):
            token = await self._in_thread(_read_token)
        headers = access.headers if token is None else (*others, ("Authorization", f"Bearer {token}"))
        if headers:
            credential = Credential(self._origin, headers)
            if policy.may_carry(credential, policy.read_url(self._endpoint)):
                self.credential = credential

    def file_url(self, commit: str, path: str) -> str:
        """Return the address of one file's bytes."""
        return f"{self._page}/resolve/{commit}/{quote(path)}"

    def xet_access_url(self, commit: str) -> str:
        """Return the address of tokens for the Xet storage; empty where the user has switched Xet off."""
        return "" if constants.HF_HUB_DISABLE_XET else f"{self._api}/xet-read-token/{commit}"

    def manifest_url(self, tag: str) -> str:
        """Return the address of what llama.cpp is told about a quantisation tag."""
        repo = self._uri.repo
        return f"{self._endpoint}/v2/{repo.id if repo else ''}/manifests/{quote(tag, safe='')}"

    def error(
        self, status: int, headers: Mapping[str, str], url: SafeURL, *, revision: str | None = None
    ) -> CacheError:
        """Return the error for an answer of this Hub that is not what was asked for."""
        return status_error(status, headers, url, uri=self._uri.canonical, revision=revision, page=self._page)

    async def commit(self, ref: str) -> str:
        """Return the commit that a branch, tag or other ref names now: one request.

        Raises:
            RevisionNotFoundError, ModelNotFoundError, AccessDeniedError, TransferError.
        """
        url = f"{self._api}/revision/{quote(ref, safe='')}"
        answer = await self._in_thread(lambda: self._ask("GET", f"{url}?expand=sha", revision=ref))
        sha = _decoded(answer, _Revision).sha
        if _COMMIT.fullmatch(sha) is None:
            raise _not_a_hub(answer, None)
        return sha

    async def paths(self, commit: str, paths: Sequence[str]) -> list[HubEntry]:
        """Return the entries of these paths that exist in a commit, files and folders: one request."""
        url = f"{self._api}/paths-info/{quote(commit, safe='')}"
        form: dict[str, str | list[str]] = {"paths": list(paths), "expand": "false"}
        answer = await self._in_thread(lambda: self._ask("POST", url, revision=commit, form=form))
        return _decoded(answer, list[HubEntry])

    async def tree(self, revision: str, folder: str = "") -> list[HubEntry]:
        """Return all entries below a folder: one request for each page of (on the Hub) a thousand."""
        url = f"{self._api}/tree/{quote(revision, safe='')}"
        if folder:
            url += f"/{quote(folder, safe='')}"
        query = "recursive=true&expand=false"
        entries: list[HubEntry] = []
        for _ in range(_MAX_PAGES):
            page = f"{url}?{query}"
            answer = await self._in_thread(lambda page=page: self._ask("GET", page, revision=revision))  # type: ignore[misc]
            entries += _decoded(answer, list[HubEntry])
            link = answer.links.get("next", {}).get("url")
            if link is None:
                return entries
            # Only the cursor is taken: the page lies on this Hub, and the token stays there, whatever host is named.
            before, query = query, link.partition("#")[0].partition("?")[2]
            if query in {before, ""}:
                break
        raise ResponseError(f"{SafeURL(url)} is a list without end", status=200, retryable=False)

    def _ask(
        self, method: str, url: str, *, revision: str, form: Mapping[str, str | list[str]] | None = None
    ) -> httpx2.Response:
        headers = httpx2.Headers({"User-Agent": _user_agent()})
        if self.credential is not None:
            headers.update(self.credential.headers)
        headers["Accept-Encoding"] = "identity"
        status = 0
        hop = policy.read_url(url)
        for _ in range(policy.MAX_HOPS + 1):
            try:
                with self._session() as session:
                    answer = session.request(
                        method, str(hop), data=form, headers=headers, timeout=self._timeout(), follow_redirects=False
                    )
                status = answer.status_code
                if status not in policy.REDIRECTS:
                    hf_raise_for_status(answer)
                    return answer
            except HfHubHTTPError as error:
                told = error.response
                raise self.error(told.status_code, told.headers, SafeURL(str(hop)), revision=revision) from error
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise _translated(error, SafeURL(str(hop))) from error
            hop = self._next_hop(hop, answer)
        raise ResponseError(f"{SafeURL(url)} redirects without end", status=status, retryable=False)

    def _next_hop(self, hop: URL, answer: httpx2.Response) -> URL:
        """Follow a redirect inside this Hub (a renamed repository); metadata from elsewhere proves nothing."""
        target = policy.next_hop(hop, answer.headers.get("Location"), status=answer.status_code)
        if policy.origin_of(target) != self._origin:
            raise PolicyError(
                f"{SafeURL(str(hop))} redirects to another server ({SafeURL(str(target))}): refused; "
                "if that is the Hub you mean, name it in HF_ENDPOINT"
            )
        return target

    @contextlib.contextmanager
    def _session(self) -> Iterator[httpx2.Client]:
        if self._settings.ca_file is None and not self._past_proxies:
            yield get_session()  # shared by the process: not ours to close
        else:
            with httpx2.Client(verify=tls_context(self._settings), trust_env=not self._past_proxies) as session:
                yield session

    def _timeout(self) -> httpx2.Timeout:
        return httpx2.Timeout(self._settings.stall_timeout_s, connect=self._settings.connect_timeout_s)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        limit_s = self._settings.connect_timeout_s + 2 * self._settings.stall_timeout_s
        try:
            return await in_thread(call, limit_s=limit_s)
        except TransferTimeoutError:
            raise  # the call's own
        except TimeoutError as error:
            raise TransferTimeoutError(f"{SafeURL(self._api)}: the Hub did not answer in {limit_s:.0f} s") from error


def _read_token() -> str | None:
    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return None
    try:
        token = get_token()
    except Exception as error:  # it reads files, and by OIDC the network, each with errors of its own
        raise AccessDeniedError("the token of the Hub cannot be read; check HF_TOKEN and the token file") from error
    if token is not None and not (token.isascii() and token.isprintable()):
        raise AccessDeniedError("HF_TOKEN, or the token file, holds characters that no token has; set it again")
    return token


@cache
def _user_agent() -> str:
    return f"modelcask/{version('modelcask')}; hf_hub/{version('huggingface_hub')}"


def _decoded(answer: httpx2.Response, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.MsgspecError as error:
        raise _not_a_hub(answer, error) from error


def _not_a_hub(answer: httpx2.Response, error: Exception | None) -> ResponseError:
    return ResponseError(
        f"{SafeURL(str(answer.url))} does not answer as a Hub does{f' ({error})' if error else ''}; check HF_ENDPOINT",
        status=answer.status_code,
        retryable=False,
    )


def _translated(error: Exception, url: SafeURL) -> TransferError:
    if isinstance(error, httpx2.TimeoutException):
        return TransferTimeoutError(f"{url}: the Hub does not answer in time; try again later")
    broken = ConnectionInterruptedError(f"{url}: no connection to the Hub; check the network and HF_ENDPOINT")
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        broken = ConnectionInterruptedError(
            f"{url}: the Hub's certificate does not hold; if it belongs to your own network, name its authority in "
            "MODELCASK_CA_FILE"
        )
        broken.retryable = False
    return broken
