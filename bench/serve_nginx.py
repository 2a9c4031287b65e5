"""Become nginx, in front of the Hub: ``python serve_nginx.py PREFIX SERVED ADDRESS RATE HUB_PORT``.

Prints two free ports once both can be connected to; they differ in nothing, but a client of the Hub takes a redirect
to the same origin for a renamed repository. RATE is bytes a second for each connection, 0 for no limit. The limit
is the kernel's: a listening socket hands its pacing rate on to what it accepts. nginx's own ``limit_rate`` would not
do: it begins anew with each request, so that with a limit of 50 MB/s one connection got 62 MB/s in ranges of 8 MB
each, and 800 MB/s in ranges of 1 MB.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

_SO_MAX_PACING_RATE = 47  # Linux; Python has no name for it

_CONF = """
daemon off;
{user}
worker_processes 2;
error_log error.log;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    etag on;
    default_type application/octet-stream;
    keepalive_requests 1000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream hub {{ server 127.0.0.1:{hub_port}; keepalive 32; }}
    server {{
        listen {address}:{ports[0]};
        listen {address}:{ports[1]};
        root {served};
        location /content/ {{ }}
        location /warm/ {{ }}
        location /blobs/ {{ rewrite ^ /content/model.gguf last; }}
        location / {{
            proxy_pass http://hub;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


def main() -> None:
    prefix, served, address, rate, hub_port = sys.argv[1:]
    listeners = [_listen(address, int(rate)) for _ in range(2)]
    ports = [listener.getsockname()[1] for listener in listeners]
    # Started by root, its workers would be another user, for whom the folder is closed.
    user = "" if os.geteuid() else "user root;"
    conf = _CONF.format(user=user, hub_port=hub_port, address=address, ports=ports, served=served)
    Path(prefix, "nginx.conf").write_text(conf)
    print(*ports, sep="\n", flush=True)
    # How nginx is told of sockets that are open already, as when it replaces itself.
    os.environ["NGINX"] = "".join(f"{listener.fileno()};" for listener in listeners)
    os.execlp("nginx", "nginx", "-p", f"{prefix}/", "-c", "nginx.conf", "-e", "error.log")  # noqa: S606 - as meant


def _listen(address: str, rate_bytes_s: int) -> socket.socket:
    listener = socket.socket()
    listener.bind((address, 0))
    # Linux's default, inherited too. Some machines are set to BBR, which takes no notice of loss; where only root may
    # choose, whoever is not root runs no lossy line either.
    with contextlib.suppress(OSError, AttributeError):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    if rate_bytes_s:
        listener.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate_bytes_s)
    listener.listen(512)
    listener.set_inheritable(True)
    return listener


if __name__ == "__main__":
    main()
