"""A line with delay and loss between two network namespaces, for real TCP: every packet passes through this process.

The namespaces ``near`` and ``far`` have one network device each, a TUN; what one kernel stack sends is read here,
dropped by chance or held for the delay, and written to the other. So loss is loss of single packets of at most 1,500
bytes, in both directions, as ``tc qdisc … netem delay 10ms loss 1%`` on both ends would make it, and needs no kernel
module. Bandwidth is not limited. Needs root, ``ip`` and ``/dev/net/tun``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque
from typing import Self

ADDRESS = "127.9.0.2"
"""Of the far end. A loopback address, so that no peer's command or rule for plain http differs from the other lines."""
ONE_WAY_S = 0.010
LOSS = 0.01
_NEAR_ADDRESS = "127.9.0.1"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_LONGEST_PACKET = 65_535


class Link:
    """The two namespaces while the ``with`` block lasts; ``near`` and ``far`` start a command inside one of them."""

    def __init__(self) -> None:
        self._names = [f"bench-{side}-{os.getpid()}" for side in ("near", "far")]
        self.near, self.far = (["ip", "netns", "exec", name] for name in self._names)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            ends = []
            addresses = (_NEAR_ADDRESS, ADDRESS)
            for name, own, other in zip(self._names, addresses, reversed(addresses), strict=True):
                _ip("netns", "add", name)
                undo.callback(_ip, "netns", "del", name)
                ends.append(_tun(name, own, other))
                undo.callback(os.close, ends[-1])
            carrier = subprocess.Popen(
                [sys.executable, __file__, *map(str, ends)],
                stdin=subprocess.PIPE,
                pass_fds=ends,
                start_new_session=True,
            )
            undo.callback(carrier.wait)
            undo.callback(carrier.terminate)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()


def why_not() -> str | None:
    """Return what this machine lacks for a link, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun is not to be had"
    return None


def _tun(namespace: str, own: str, other: str) -> int:
    """Make the namespace's one device; return the descriptor at which its packets are read and written."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    device = f"t{own.rpartition('.')[2]}-{os.getpid()}"
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
    _ip("link", "set", device, "netns", namespace)
    inside = ["-n", namespace]
    # A namespace's own loopback would claim all of 127/8; given one address beforehand it takes no more than that.
    _ip(*inside, "addr", "add", "127.0.0.1/32", "dev", "lo")
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "addr", "add", own, "peer", other, "dev", device)
    _ip(*inside, "link", "set", device, "up", "mtu", "1500", "txqueuelen", "10000")
    allow = f"echo 1 >/proc/sys/net/ipv4/conf/{device}/route_localnet"
    _ip("netns", "exec", namespace, "sh", "-c", allow)
    return end


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _carry(one: int, other: int) -> None:
    """Move packets both ways until the standard input ends."""
    chance = random.Random(1)  # noqa: S311 - the same drops in every run
    held: list[tuple[int, int, deque[tuple[float, bytes]]]] = [(one, other, deque()), (other, one, deque())]
    while True:
        now = time.monotonic()
        due = min((queue[0][0] for _, _, queue in held if queue), default=now + 1)
        readable, _, _ = select.select([0, one, other], [], [], max(0.0, due - now))
        if 0 in readable:
            return
        for source, target, queue in held:
            if source in readable:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        packet = os.read(source, _LONGEST_PACKET)
                        if chance.random() >= LOSS:
                            queue.append((time.monotonic() + ONE_WAY_S, packet))
            now = time.monotonic()
            while queue and queue[0][0] <= now:
                # A full device drops, as a router would; one that is gone is about to end this process too.
                with contextlib.suppress(OSError):
                    os.write(target, queue.popleft()[1])


if __name__ == "__main__":
    _carry(int(sys.argv[1]), int(sys.argv[2]))
