"""A real nginx on a port of its own, which ends with the ``with`` block.

::

    with Nginx(folder, "location / { limit_rate 10m; }") as nginx:
        (nginx.files / "model.gguf").write_bytes(content)
        url = nginx.url + "/model.gguf"

The listening socket is made here, on port 0, and handed over in the way in which nginx hands its sockets to its own
successor (the variable ``NGINX``). So no port is ever guessed, nobody can take it between two starts, and whoever
connects while nginx is down waits instead of being refused.
"""

from __future__ import annotations

import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
MISSING = None if PROGRAM else "nginx is not installed"

_CONFIG = """\
daemon off; worker_processes 1; user {user}; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    log_format asked '$request_method $request_uri $status $body_bytes_sent "$http_range" $http_if_range';
    access_log {folder}/access.log asked;
    default_type application/octet-stream;
    {temporary}
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        location = /synchronise {{ return 204; }}
        {server}
    }}
}}
"""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of the access log: nginx writes it when the answer has ended, or its reader is gone."""

    method: str
    path: str
    status: int
    body_bytes: int
    range: str
    if_range: str


class Nginx:
    """The server; ``server`` is what stands in its ``server`` block besides ``listen`` and ``root``."""

    def __init__(self, folder: Path, server: str = "") -> None:
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        self._folder = folder
        self._server = server
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0

    def __enter__(self) -> Self:
        config = _CONFIG.format(
            folder=self._folder,
            user=pwd.getpwuid(os.geteuid()).pw_name,
            port=self.port,
            server=self._server,
            temporary=" ".join(f"{name}_temp_path {self._folder}/temporary;" for name in _TEMPORARY),
        )
        (self._folder / "nginx.conf").write_text(config)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._socket.close()

    def start(self) -> None:
        """Start it, or start it again after ``kill``; return when it serves."""
        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [PROGRAM, "-e", f"{self._folder}/error.log", "-p", str(self._folder), "-c", f"{self._folder}/nginx.conf"],
            env={"NGINX": f"{self._socket.fileno()};"},
            pass_fds=[self._socket.fileno()],
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._synchronise()
        except OSError as error:
            raise AssertionError((self._folder / "error.log").read_text()) from error

    def kill(self) -> None:
        """End it at once, every connection with it. The port stays ours."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def asked(self) -> list[Asked]:
        """Return the requests that have ended since the last call.

        An answer whose reader was killed ends when nginx notices; for all others the log is complete: the one worker
        writes the line of an answer before it takes a later request.
        """
        marks = self._log().count("/synchronise")
        self._synchronise()
        end = time.monotonic() + 60
        while self._log().count("/synchronise") == marks:
            assert time.monotonic() < end, "nginx does not write its log"
            time.sleep(0.005)
        lines = self._log().splitlines()
        new, self._read = lines[self._read :], len(lines)
        return list(_read(new))

    def _log(self) -> str:
        return (self._folder / "access.log").read_text()

    def get(self, path: str, **headers: str) -> http.client.HTTPMessage:
        """Return the headers of an answer to another client; underscores in names stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            answer.read()
            return answer.headers
        finally:
            connection.close()

    def _synchronise(self) -> None:
        self.get("/synchronise")


def _read(lines: list[str]) -> Iterator[Asked]:
    for line in lines:
        method, path, status, body_bytes, rest = line.split(" ", 4)
        if path != "/synchronise":
            _, span, if_range = rest.split('"', 2)
            yield Asked(method, path, int(status), int(body_bytes), _field(span), _field(if_range.strip()))


def _field(text: str) -> str:
    """Undo what nginx does to a header in its log: absent is a hyphen, and quotes are escaped."""
    return "" if text == "-" else text.replace(r"\x22", '"')
