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
* ``/api/{kind}/{id}/xet-read-token/{revision}``: a token for the Xet storage (``xet_store.py``);
* ``/v2/{id}/manifests/{tag}``: names of files for ``llama-cpp``, a container manifest for others;
* a missing or private repository is 401 to the anonymous, 404 to the known; gated files are 401 or 403; each with
  its ``X-Error-Code``. The metadata of a gated repository is public, as on the Hub, unless ``metadata=True``.

It runs in a thread of its own, on port 0, and ends with the ``with`` block; a bug in it fails the test.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Self

from aiohttp import web
from multidict import CIMultiDict

from hub_answers import Answers, HubRefusal
from hub_repos import Repo, is_large_by_name


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


class FakeHub(Answers):
    """The Hub. Methods may be called from the test's thread while it serves.

    Attributes:
        endpoint: what ``HF_ENDPOINT`` is set to; ``cdn`` is the other origin.
        requests: all requests of both in order; ``bytes_served`` counts the bytes of files that they sent.
        page_size: entries in a page of a tree.
        link_root: put in front of the path of ``Link``, for a Hub that names a wrong host; the endpoint by default.
        small_files: ``redirect`` (307 and relative, as the Hub) or ``direct`` (200).
        xet_endpoint: where the Xet storage is; without one, nobody gets a token for it. ``xet_tokens``: those given.
    """

    def __init__(self, *, page_size: int = 1000, small_files: str = "redirect") -> None:
        super().__init__(page_size=page_size, small_files=small_files)
        self.requests: list[LoggedRequest] = []
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
        self._thread.join()
        if self._bugs:
            raise self._bugs[0]

    # What a test arranges

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

    def put_in_xet(self, kind: str, repo_id: str, path: str, xet_hash: str) -> None:
        """List a file of all commits as one of the Xet storage."""
        for files in self._repos[kind, repo_id].commits.values():
            files[path].xet_hash = xet_hash

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
