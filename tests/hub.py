"""A Hugging Face Hub on loopback that the real huggingface_hub client accepts, with a second origin as its CDN.

::

    with FakeHub() as hub:
        commit = hub.add_repo("models", "org/name", {"config.json": b"{}", "model.gguf": content})
        os.environ["HF_ENDPOINT"] = hub.endpoint
        ...
        assert hub.calls == ["GET /api/models/org/name/revision/main", ...]
        assert hub.secrets_at_cdn() == []

Repositories are in memory and may be changed while it runs. A file is "large" (LFS: named by its SHA-256, served by
a redirect to the CDN) if ``lfs`` says so, by default from its suffix. What it answers follows the real Hub:

* ``/api/{kind}/{id}/revision|tree|paths-info|refs``: trees in pages of ``page_size``, the next one by ``Link``;
* ``/{id}/resolve/{revision}/{path}``: large files 302 to a signed URL of the CDN, which refuses any
  ``Authorization``; small ones 307 to a relative ``/api/resolve-cache/…``; Range and If-Range where the bytes are;
* ``/v2/{id}/manifests/{tag}``: names of files for ``llama-cpp``, a container manifest for others;
* a missing or private repository is 401 to the anonymous, 404 to the known; gated files are 401 or 403; each with
  its ``X-Error-Code``. The metadata of a gated repository is public, as on the Hub, unless ``metadata=True``.

It runs in a thread of its own, on port 0, and ends with the ``with`` block; a bug in it fails the test.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qs, parse_qsl, quote, unquote

from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from hub_repos import File, Repo, is_large_by_name

_ID: Final = r"(?P<id>[^/]+(?:/[^/]+)??)"
_KIND: Final = r"(?P<kind>models|datasets|spaces|kernels)"


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request as it came in."""

    origin: str
    """``hub`` or ``cdn``."""
    method: str
    target: str
    """The path and query, as spelled on the wire."""
    headers: CIMultiDict[str]
    body: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a scripted request gets in place of the truth."""

    status: int
    headers: Mapping[str, str]
    times: int


class HubRefusal(Exception):  # noqa: N818 - an answer, not a fault
    """An answer that ends the handling of a request."""

    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        told = {"X-Error-Code": code, "X-Error-Message": message}
        super().__init__(status)
        self.response = web.json_response(
            {"error": message},
            status=status,
            headers={name: value for name, value in told.items() if value}
            | {k.replace("_", "-"): v for k, v in headers.items()},
        )


class FakeHub:
    """The Hub. Methods may be called from the test's thread while it serves.

    Attributes:
        endpoint: what ``HF_ENDPOINT`` is set to; ``cdn`` is the other origin.
        requests: all requests of both origins in order.
        bytes_served: how many bytes of files left both origins.
        page_size: entries in a page of a tree.
        link_root: put in front of the path of ``Link``, for a Hub that names a wrong host; the endpoint by default.
        small_files: ``redirect`` (307 and relative, as the Hub) or ``direct`` (200).
    """

    def __init__(self, *, page_size: int = 1000, small_files: str = "redirect") -> None:
        self.endpoint = self.cdn = ""
        self.requests: list[LoggedRequest] = []
        self.bytes_served = 0
        self.page_size = page_size
        self.link_root: str | None = None
        self.small_files = small_files
        self._repos: dict[tuple[str, str], Repo] = {}
        self._moved: dict[tuple[str, str], str] = {}
        self._tokens: set[str] = set()
        self._scripts: list[tuple[str, Answer]] = []
        self._bugs: list[BaseException] = []
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._serve, name="fake-hub", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10), "the fake Hub did not start"
        if self._bugs:
            raise self._bugs[0]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        if self._bugs:
            raise self._bugs[0]

    # What a test arranges.

    def add_repo(
        self,
        kind: str,
        repo_id: str,
        files: Mapping[str, bytes],
        *,
        lfs: Callable[[str, bytes], bool] = is_large_by_name,
    ) -> str:
        """Make a repository with one commit on ``main``; return the commit."""
        repo = self._repos[kind, repo_id] = Repo(kind, repo_id, lfs)
        return repo.commit(files, "main")

    def add_commit(self, kind: str, repo_id: str, files: Mapping[str, bytes], *, branch: str = "main") -> str:
        """Put a commit with exactly these files on a branch (``refs/pr/1`` too); return the commit."""
        return self._repos[kind, repo_id].commit(files, branch)

    def add_tag(self, kind: str, repo_id: str, name: str, commit: str) -> None:
        """Name a commit."""
        self._repos[kind, repo_id].tags[name] = commit

    def gate(self, kind: str, repo_id: str, *, token: str | None = None, metadata: bool = False) -> None:
        """Refuse the files, or with ``metadata`` everything, to all but the holder of ``token``."""
        repo = self._repos[kind, repo_id]
        repo.gated, repo.gated_metadata = True, metadata
        self._admit(repo, token)

    def make_private(self, kind: str, repo_id: str, *, token: str) -> None:
        """Hide the repository from all but the holder of ``token``."""
        repo = self._repos[kind, repo_id]
        repo.private = True
        self._admit(repo, token)

    def add_token(self, token: str) -> None:
        """Know a user who may see nothing in particular. A token that is not known is refused everywhere."""
        self._tokens.add(token)

    def rename(self, kind: str, old_id: str, new_id: str) -> None:
        """Move a repository; the old name redirects with 307 and a relative location."""
        self._repos[kind, new_id] = self._repos.pop((kind, old_id))
        self._moved[kind, old_id] = new_id

    def answer_with(
        self, prefix: str, status: int, headers: Mapping[str, str] | None = None, *, times: int = 1
    ) -> None:
        """Answer the next ``times`` requests whose path begins with ``prefix``, on either origin, with a status."""
        self._scripts.append((prefix, Answer(status, headers or {}, times)))

    # What a test looks at.

    @property
    def calls(self) -> list[str]:
        """The Hub's own requests, as ``METHOD /path?query``."""
        return [str(request) for request in self.requests if request.origin == "hub"]

    def clear(self) -> None:
        """Forget the log and the byte count."""
        self.requests.clear()
        self.bytes_served = 0

    def secrets_at_cdn(self) -> list[str]:
        """Return the value of every header that the CDN got and that could be a secret."""
        names = ("Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "Private-Token")
        at_cdn = [request.headers for request in self.requests if request.origin == "cdn"]
        return [headers[name] for headers in at_cdn for name in names if name in headers]

    # The servers.

    def _admit(self, repo: Repo, token: str | None) -> None:
        if token is not None:
            repo.admitted.add(token)
            self._tokens.add(token)

    def _serve(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - raised where the test sees it
            self._bugs.append(error)
            self._started.set()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        hub, cdn = (web.ServerRunner(web.Server(serve)) for serve in (self._logged("hub"), self._logged("cdn")))
        for runner in (hub, cdn):
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.endpoint, self.cdn = (f"http://127.0.0.1:{runner.addresses[0][1]}" for runner in (hub, cdn))
        self._started.set()
        await self._stop.wait()
        for runner in (hub, cdn):
            await runner.cleanup()

    def _logged(self, origin: str) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
        handle = self._at_hub if origin == "hub" else self._at_cdn

        async def serve(request: web.BaseRequest) -> web.Response:
            body = (await request.read()).decode()
            log = LoggedRequest(origin, request.method, request.raw_path, request.headers.copy(), body)
            self.requests.append(log)
            try:
                return self._scripted(request.raw_path) or handle(request, body)
            except HubRefusal as refusal:
                return refusal.response
            except Exception as error:
                self._bugs.append(error)
                raise

        return serve

    def _scripted(self, target: str) -> web.Response | None:
        for index, (prefix, answer) in enumerate(self._scripts):
            if target.startswith(prefix):
                left = Answer(answer.status, answer.headers, answer.times - 1)
                self._scripts[index : index + 1] = [(prefix, left)] if left.times else []
                return web.Response(status=answer.status, headers=answer.headers)
        return None

    def _at_cdn(self, request: web.BaseRequest, _: str) -> web.Response:
        """Serve a blob to whoever has the signed URL; like S3, refuse a second kind of authorisation."""
        if "Authorization" in request.headers:
            raise HubRefusal(400, message="Only one auth mechanism allowed")
        sha256 = request.path.rpartition("/")[2]
        found = next((f for repo in self._repos.values() for f in repo.all_files() if f.sha256 == sha256), None)
        if found is None or request.query.get("X-Signature") != found.signature:
            raise HubRefusal(403, message="Request has expired")
        return self._bytes_of(request, found, {"ETag": f'"{found.cdn_etag}"'})

    def _at_hub(self, request: web.BaseRequest, body: str) -> web.Response:
        path = request.raw_path.partition("?")[0]
        for method, pattern, handle in self._routes():
            match = re.fullmatch(pattern, path)
            if match is not None and request.method in method:
                groups = {name: unquote(value or "") for name, value in match.groupdict().items()}
                kind = groups.get("kind") or "models"
                repo_id = groups["id"]
                if (kind, repo_id) in self._moved:
                    moved = request.raw_path.replace(quote(repo_id), self._moved[kind, repo_id], 1)
                    return web.Response(status=307, headers={"Location": moved})
                return handle(request, self._repo(request, kind, repo_id), groups, body)
        return web.Response(status=404)

    def _routes(self) -> list[tuple[str, str, Callable[..., web.Response]]]:
        read = "GET HEAD"
        return [
            (read, rf"/api/resolve-cache/{_KIND}/{_ID}/(?P<revision>[0-9a-f]{{40}})/(?P<path>.+)", self._cached_file),
            (read, rf"/api/{_KIND}/{_ID}/revision/(?P<revision>[^/]+)", self._info),
            (read, rf"/api/{_KIND}/{_ID}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", self._tree),
            ("POST", rf"/api/{_KIND}/{_ID}/paths-info/(?P<revision>[^/]+)", self._paths_info),
            (read, rf"/api/{_KIND}/{_ID}/refs", self._refs),
            (read, rf"/api/{_KIND}/{_ID}", self._info),
            (read, rf"/v2/{_ID}/manifests/(?P<tag>[^/]+)", self._manifest),
            (
                read,
                rf"/(?:(?P<kind>datasets|spaces|kernels)/)?{_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
                self._file,
            ),
        ]

    def _repo(self, request: web.BaseRequest, kind: str, repo_id: str) -> Repo:
        token = self._token(request)
        repo = self._repos.get((kind, repo_id))
        if repo is None or (repo.private and token not in repo.admitted):
            raise HubRefusal(401 if token is None else 404, "RepoNotFound", "Repository not found")
        if repo.gated_metadata:
            self._check_gate(repo, token)
        return repo

    def _token(self, request: web.BaseRequest) -> str | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        token = header.removeprefix("Bearer ")
        if token not in self._tokens:
            raise HubRefusal(401, message="Invalid credentials in Authorization header")
        return token

    def _check_gate(self, repo: Repo, token: str | None) -> None:
        if repo.gated and token not in repo.admitted:
            raise HubRefusal(
                401 if token is None else 403, "GatedRepo", f"Access to {repo.kind[:-1]} {repo.id} is restricted."
            )

    def _commit(self, repo: Repo, revision: str) -> str:
        commit = repo.resolve(revision or "main")
        if commit is None:
            raise HubRefusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # The API.

    def _info(self, request: web.BaseRequest, repo: Repo, groups: Mapping[str, str], _: str) -> web.Response:
        commit = self._commit(repo, groups.get("revision", ""))
        info: dict[str, object] = {"_id": commit[:24], "id": repo.id, "sha": commit}
        if "expand" not in request.query:
            files = sorted(repo.commits[commit].items())
            blobs = request.query.get("blobs", "").lower() == "true"
            info["siblings"] = [{"rfilename": name} | (file.sibling() if blobs else {}) for name, file in files]
            info |= {"private": repo.private, "gated": "auto" if repo.gated else False, "tags": [], "downloads": 0}
        return web.json_response(info)

    def _tree(self, request: web.BaseRequest, repo: Repo, groups: Mapping[str, str], _: str) -> web.Response:
        commit = self._commit(repo, groups["revision"])
        entries = repo.entries(commit, groups["path"], recursive=request.query.get("recursive", "").lower() == "true")
        if groups["path"] and not entries:
            raise HubRefusal(404, "EntryNotFound", f"{groups['path']} does not exist", X_Repo_Commit=commit)
        start = int(request.query.get("cursor", "0"))
        page, headers = entries[start : start + self.page_size], {}
        if start + self.page_size < len(entries):
            query = dict(parse_qsl(request.query_string)) | {"cursor": str(start + self.page_size)}
            path = request.raw_path.partition("?")[0]
            target = URL(f"{self.link_root or self.endpoint}{path}", encoded=True).with_query(query)
            headers["Link"] = f'<{target}>; rel="next"'
        return web.json_response(page, headers=headers)

    def _paths_info(self, request: web.BaseRequest, repo: Repo, groups: Mapping[str, str], body: str) -> web.Response:
        commit = self._commit(repo, groups["revision"])
        asked = json.loads(body)["paths"] if "json" in request.content_type else parse_qs(body).get("paths", [])
        return web.json_response([entry for path in asked if (entry := repo.entry(commit, path)) is not None])

    def _refs(self, _request: web.BaseRequest, repo: Repo, _: Mapping[str, str], _body: str) -> web.Response:
        def listed(refs: Mapping[str, str], root: str) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"{root}{name}", "targetCommit": commit} for name, commit in refs.items()]

        branches = {name: commit for name, commit in repo.branches.items() if not name.startswith("refs/")}
        return web.json_response(
            {"branches": listed(branches, "refs/heads/"), "tags": listed(repo.tags, "refs/tags/"), "converts": []}
        )

    def _manifest(self, request: web.BaseRequest, repo: Repo, groups: Mapping[str, str], _: str) -> web.Response:
        model, projector = repo.pick(groups["tag"])
        if model is None:
            raise HubRefusal(400, message="The specified tag is not a valid quantization scheme.")
        if not request.headers.get("User-Agent", "").startswith("llama-cpp"):
            layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{model[1].sha256}"}]
            return web.json_response({"schemaVersion": 2, "layers": layers})
        named = {"ggufFile": model, "mmprojFile": projector}
        return web.json_response(
            {key: {"rfilename": it[0], "size": len(it[1].content)} for key, it in named.items() if it is not None}
        )

    # The files.

    def _file(self, request: web.BaseRequest, repo: Repo, groups: Mapping[str, str], _: str) -> web.Response:
        self._check_gate(repo, self._token(request))
        commit = self._commit(repo, groups["revision"])
        found = repo.commits[commit].get(groups["path"])
        if found is None:
            raise HubRefusal(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{found.etag}"', "Accept-Ranges": "bytes"}
        if found.large:
            headers |= {"X-Linked-Etag": f'"{found.sha256}"', "X-Linked-Size": str(len(found.content))}
            headers["Location"] = f"{self.cdn}/blobs/{found.sha256}?X-Signature={found.signature}&X-Expires=3600"
            return web.Response(status=302, headers=headers)
        if self.small_files == "direct":
            return self._bytes_of(request, found, headers)
        path = quote(groups["path"])
        headers["Location"] = f"/api/resolve-cache/{repo.kind}/{repo.id}/{commit}/{path}?etag=%22{found.etag}%22"
        return web.Response(status=307, headers=headers, text="Temporary Redirect")

    def _cached_file(self, request: web.BaseRequest, repo: Repo, groups: Mapping[str, str], _: str) -> web.Response:
        self._check_gate(repo, self._token(request))
        found = repo.commits[groups["revision"]][groups["path"]]
        return self._bytes_of(request, found, {"X-Repo-Commit": groups["revision"], "ETag": f'"{found.etag}"'})

    def _bytes_of(self, request: web.BaseRequest, file: File, headers: Mapping[str, str]) -> web.Response:
        """Answer with the whole file or the range asked for (RFC 9110, section 14)."""
        sent = dict(headers) | {"Accept-Ranges": "bytes"}
        asked = request.headers.get("Range", "")
        if request.headers.get("If-Range", sent["ETag"]) != sent["ETag"]:
            asked = ""
        status, body, span = file.cut(asked)
        if span:
            sent["Content-Range"] = span
        if request.method == "GET":
            self.bytes_served += len(body)
        return web.Response(status=status, body=body, headers=sent, content_type="application/octet-stream")
