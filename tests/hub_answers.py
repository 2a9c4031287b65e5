"""What the fake Hub (``hub.py``) and its CDN say to a request: the Hub's protocol, and nothing of threads or logs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qs, parse_qsl, quote, unquote

from aiohttp import web
from yarl import URL

from hub_repos import File, Repo

_ID: Final = r"(?P<id>[^/]+(?:/[^/]+)??)"
_KIND: Final = r"(?P<kind>models|datasets|spaces|kernels)"


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


class Answers:
    """The answers of both origins, from the repositories as they are now."""

    def __init__(self, *, page_size: int, small_files: str) -> None:
        self.endpoint = self.cdn = ""
        self.bytes_served = 0
        self.page_size = page_size
        self.link_root: str | None = None
        self.small_files = small_files
        self.xet_endpoint = ""
        self.xet_tokens: list[str] = []
        self._repos: dict[tuple[str, str], Repo] = {}
        self._moved: dict[tuple[str, str], str] = {}
        self._tokens: set[str] = set()

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
            (read, rf"/api/{_KIND}/{_ID}/xet-read-token/(?P<revision>[^/]+)", self._xet_access),
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

    def _xet_access(self, request: web.BaseRequest, repo: Repo, groups: Mapping[str, str], _: str) -> web.Response:
        """Give a new token for the Xet storage, in both forms that clients read."""
        self._check_gate(repo, self._token(request))
        self._commit(repo, groups["revision"])
        if not self.xet_endpoint:
            raise HubRefusal(404, message="Not Found")
        token, expires_at = f"xet-{len(self.xet_tokens) + 1}", 4102444800
        self.xet_tokens.append(token)
        headers = {
            "X-Xet-Cas-Url": self.xet_endpoint,
            "X-Xet-Access-Token": token,
            "X-Xet-Token-Expiration": str(expires_at),
        }
        answer = {"casUrl": self.xet_endpoint, "accessToken": token, "exp": expires_at}
        return web.json_response(answer, headers=headers)

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
