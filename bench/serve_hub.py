"""The tests' Hub as a process: ``python serve_hub.py SERVED``, with the tests folder on PYTHONPATH.

Prints its port, reads the two URLs of the nginx that stands before it, prints ``ready``, and ends when its standard
input does. Large files redirect to the second URL, as the real Hub does to its CDN; small ones are answered from here.
Repositories: ``bench/warm``, ``bench/one`` (the big file), ``bench/many`` (the small ones too).
"""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import cast

from content import MODEL
from yarl import URL

from hub import FakeHub


def main() -> None:
    served = Path(sys.argv[1])
    with (served / "content" / MODEL).open("rb") as file, FakeHub() as hub:
        print(URL(hub.endpoint).port, flush=True)
        front, cdn = sys.stdin.readline().split()
        # Never in memory as a whole, and nothing but its length and digests is ever asked for here.
        model = cast("bytes", mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        small = {path.name: path.read_bytes() for path in (served / "content").glob("*.json")}
        hub.add_repo("models", "bench/warm", {MODEL: (served / "warm" / MODEL).read_bytes()}, lfs=lambda *_: False)
        hub.add_repo("models", "bench/one", {MODEL: model})
        hub.add_repo("models", "bench/many", {MODEL: model, **small})
        hub.link_root, hub.cdn = front, cdn
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
