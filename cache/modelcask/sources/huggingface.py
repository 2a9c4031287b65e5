"""``hf://``: repositories of the Hugging Face Hub, or of a mirror that speaks its protocol (``HF_ENDPOINT``).

The fewest requests that give one consistent snapshot with a promise for every file: the ref is resolved to a commit
once, everything else is asked by commit, and no file is asked for by itself:

==============  ====================================================================
a repository    revision (not for a commit), then one recursive tree, page by page
a path          revision (not for a commit), then the entry of that path; for a folder its tree
``:Q4_K_M``     the manifest that llama.cpp reads, then as a path
==============  ====================================================================

A large file promises its SHA-256, a small one its git blob SHA-1.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from modelcask.config import Settings
from modelcask.digest import Digest
from modelcask.errors import InvalidDigestError, ModelNotFoundError, OfflineError, PolicyError, ResponseError
from modelcask.printable import display
from modelcask.relpath import check_no_collisions, check_relpath, fault_of, gguf_parts
from modelcask.sources import Wanted
from modelcask.types import HTTPLocation, RemoteFile, Resolution, XetLocation
from modelcask.uri import ModelURI

if TYPE_CHECKING:
    from modelcask.net.client import Client
    from modelcask.sources.hub import Hub, HubEntry

PLAIN_HTTP_BYTES: Final = 50 * 1000**3
"""Files above this size a Hub serves over Xet alone, or says that it does (huggingface_hub refuses them too)."""
_XET_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_MANIFEST_BYTES: Final = 4 << 20
_SHOWN_NAMES: Final = 20
# The Hub answers llama.cpp with the names of files, and everybody else with a container manifest.
_LLAMA_CPP: Final = {"User-Agent": "llama-cpp", "Accept": "application/json"}


class _Named(msgspec.Struct, frozen=True):
    rfilename: str


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    gguf_file: _Named | None = None
    mmproj_file: _Named | None = None


class HuggingFaceSource:
    """Resolve a repository, a path in it, or a quantisation tag to files of one commit."""

    needs_network = True

    def __init__(self, settings: Settings, client: Client | None) -> None:
        if client is None:
            raise ValueError("this source needs a client")
        self._settings = settings
        self._client = client

    async def resolve(self, uri: ModelURI, *, wanted: Wanted | None = None) -> Resolution:
        """Return the files at one commit; all parts of a split GGUF where one part is named.

        Raises:
            ModelNotFoundError: no such repository (or a private one), file or quantisation.
            RevisionNotFoundError: the repository has no such revision.
            AccessDeniedError: the repository is gated, or the token is refused.
            PolicyError: a wanted name may not become a path, or the Hub redirects elsewhere.
            TransferError: the network failed, or is forbidden.
        """
        if self._settings.offline:
            raise OfflineError(f"{uri.canonical} needs the network, which is forbidden (offline)")
        from modelcask.sources.hub import Hub  # noqa: PLC0415 - huggingface_hub takes a third of a second

        hub = Hub(self._settings, uri)
        await hub.log_in()
        names = [uri.path] if uri.path else []
        if uri.quant is not None:
            names = await self._named_by(hub, uri, uri.quant)
        commit = uri.revision or await hub.commit(uri.ref if uri.ref and uri.quant is None else "main")
        if not names:
            return _whole(hub, uri, commit, await hub.tree(commit), wanted)
        wholes = [gguf_parts(name) for name in names]
        asked = [part for whole in wholes for part in whole]
        found = {entry.path: entry for entry in await hub.paths(commit, asked)}
        if len(asked) == 1 and asked[0] in found and found[asked[0]].type == "directory":
            return _whole(hub, uri, commit, await hub.tree(commit), wanted)
        entrypoint = wholes[0][0] if uri.quant is not None or len(wholes[0]) > 1 else ""
        return _part(hub, uri, commit, _all_of(asked, found, uri), entrypoint)

    async def _named_by(self, hub: Hub, uri: ModelURI, tag: str) -> list[str]:
        """Return the files that the Hub picks for a tag: the model, and its projector where it has one."""
        url = hub.manifest_url(tag)
        async with self._client.request(
            "GET", url, headers=_LLAMA_CPP, credential=hub.credential, allow_http=uri.pin is not None
        ) as answer:
            if answer.status in {400, 404}:
                raise await _no_such_tag(hub, uri, tag)
            if answer.status != 200:  # noqa: PLR2004 - a status is its own name
                raise hub.error(answer.status, answer.headers, answer.url)
            body = await answer.read(_MAX_MANIFEST_BYTES)
        try:
            manifest = msgspec.json.decode(body, type=_Manifest)
        except msgspec.MsgspecError as error:
            raise ResponseError(
                f"{answer.url} does not answer as a Hub does ({error}); check HF_ENDPOINT", status=200, retryable=False
            ) from error
        if manifest.gguf_file is None:
            raise await _no_such_tag(hub, uri, tag)
        return [named.rfilename for named in (manifest.gguf_file, manifest.mmproj_file) if named is not None]


async def _no_such_tag(hub: Hub, uri: ModelURI, tag: str) -> ModelNotFoundError:
    """Return the error that lists the tags' files, or raise the tree's own where the repository is missing too."""
    names = sorted(entry.path for entry in await hub.tree("main") if entry.path.lower().endswith(".gguf"))
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    has = ", ".join(display(name) for name in names[:_SHOWN_NAMES]) + more if names else "no GGUF files at all"
    return ModelNotFoundError(
        uri.canonical, f"{uri.canonical}: no such quantisation: {display(tag)}; the repository has {has}"
    )


def _all_of(asked: Sequence[str], found: dict[str, HubEntry], uri: ModelURI) -> list[HubEntry]:
    """Return the entries in the order asked for; a file, or a part of a split one, that is missing is an error."""
    for name in asked:
        if name not in found or found[name].type != "file":
            raise ModelNotFoundError(
                uri.canonical,
                f"{uri.canonical}: the repository has no file {display(name)!r} at this revision; check the name",
            )
    return [found[name] for name in asked]


def _whole(hub: Hub, uri: ModelURI, commit: str, entries: Iterable[HubEntry], wanted: Wanted | None) -> Resolution:
    """Describe all files of a commit, also for a URI that means a folder: then later lookups know what is missing.

    A name that may not become a path is left out if the user did not ask for it, and the listing is then a part.
    """
    files = [entry for entry in entries if entry.type == "file"]
    folder = f"{uri.path}/" if uri.path else ""
    asked = {entry.path for entry in files if entry.path.startswith(folder) and (wanted is None or wanted(entry.path))}
    kept = [entry for entry in files if entry.path in asked or fault_of(entry.path) is None]
    try:
        check_no_collisions(entry.path for entry in kept)
    except PolicyError:
        kept = [entry for entry in kept if entry.path in asked]
        check_no_collisions(entry.path for entry in kept)
    return _resolution(hub, uri, commit, kept, complete=len(kept) == len(files))


def _part(hub: Hub, uri: ModelURI, commit: str, entries: Sequence[HubEntry], entrypoint: str) -> Resolution:
    check_no_collisions(entry.path for entry in entries)
    return _resolution(hub, uri, commit, entries, complete=False, entrypoint=entrypoint)


def _resolution(
    hub: Hub, uri: ModelURI, commit: str, entries: Sequence[HubEntry], *, complete: bool, entrypoint: str = ""
) -> Resolution:
    names = [check_relpath(entry.path) for entry in entries]
    if len(set(names)) != len(names):
        raise ResponseError(f"{uri.canonical}: the Hub lists one file twice", status=200, retryable=False)
    pinned = None if uri.pin is None else entrypoint or uri.path
    files = tuple(_remote_file(hub, commit, entry, pinned=pinned == entry.path) for entry in entries)
    return Resolution(uri, commit, files, complete=complete, entrypoint=entrypoint)


def _remote_file(hub: Hub, commit: str, entry: HubEntry, *, pinned: bool) -> RemoteFile:
    promised = f"git-sha1:{entry.oid}" if entry.lfs is None else f"sha256:{entry.lfs.oid}"
    digests: tuple[Digest, ...] = ()
    # A mirror may promise nothing: what comes first is then recorded, and later pulls are held to it.
    if entry.size is not None:
        with contextlib.suppress(InvalidDigestError):
            digests = (Digest.parse(promised),)
    location = HTTPLocation(hub.file_url(commit, entry.path), hub.credential, allow_http=pinned)
    xet = _xet_location(hub, commit, entry, location) if entry.lfs is not None and digests else None
    return RemoteFile(entry.path, entry.size, digests, location, xet=xet)


def _xet_location(hub: Hub, commit: str, entry: HubEntry, plain: HTTPLocation) -> XetLocation | None:
    """Return where a file is that is too large for plain HTTP; None for others, and where the Hub does not say."""
    access = hub.xet_access_url(commit)
    if not access or (entry.size or 0) <= PLAIN_HTTP_BYTES or not _XET_HASH.fullmatch(entry.xet_hash or ""):
        return None
    return XetLocation(str(entry.xet_hash), replace(plain, url=access))
