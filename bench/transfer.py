"""Measure modelcask's transfers beside its peers', against one origin on this machine, in one run.

``python bench/transfer.py``; bench/README.md says what to install, what each row is, and what is equal in them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from cases import CASES, Playing, adjusted
from content import MIB
from machine import describe
from measure import rss_floor_bytes
from peers import Peer, all_peers
from picture import draw
from report import tables

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def main() -> int:
    """Run what the arguments ask for, print the tables, write the files; 1 if a peer failed, 2 if nothing can run."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that origin and namespaces go with us
    if shutil.which("nginx") is None:
        _say("nginx not found; bench/README.md says how to install it")
        return 2
    peers, left_out = _present(all_peers(options.tools), options.peers)
    result: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": describe(options.work),
        "peers": {it.name: {"about": it.about, "version": it.version(), "syncs": it.syncs} for it in peers},
        "left_out": left_out,
        "rss_floor_mib": 0.0,
        "cases": [],
    }
    for case in CASES:
        if case.name not in (options.line or [case.name]):
            continue
        why_not = case.why_not()
        if why_not is not None:
            left_out[f"the line {case.name}"] = why_not
            _say(f"left out: the line {case.name}: {why_not}")
            continue
        playing = Playing(
            adjusted(case, model_bytes=options.size, rounds=options.rounds), peers, work=options.work, say=_say
        )
        result["cases"].append(playing.play())
        result["rss_floor_mib"] = rss_floor_bytes() / MIB
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(tables(result)))
    if options.svg:
        options.svg.write_text(draw(result), encoding="utf-8")
    return 1 if any(case["failed"] for case in result["cases"]) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--line", action="append", choices=[case.name for case in CASES], help="only this case; may be repeated")
    add("--size", type=_size, help="of the big file, such as 256M; by default each case has its own")
    add("--rounds", type=_positive, help="counted runs of each peer; by default each case has its own number")
    add("--peers", type=lambda text: text.split(","), help="only these, by the names of the rows, with commas")
    add("--json", type=Path, metavar="FILE", help="write every run's figures there")
    add("--svg", type=Path, metavar="FILE", help="draw the medians there")
    add("--work", type=Path, default="/var/tmp", help="where files are written; a real disk (%(default)s)")  # noqa: S108 - a folder of our own is made in it
    add("--tools", type=Path, default=Path(__file__).with_name(".tools"), help="what install.sh made")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds; write 1 or more")
    return int(text)


def _size(text: str) -> int:
    read = re.fullmatch(r"(\d+)([KMG]?)", text.upper())
    if read is None or int(read[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write 512M or 2G")
    return int(read[1]) * _UNITS.get(read[2], 1)


def _present(peers: list[Peer], wanted: list[str] | None) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers that can run, and for the others why not."""
    known = {peer.name for peer in peers}
    for name in set(wanted or []) - known:
        _say(f"no peer is called {name}; there are {', '.join(sorted(known))}")
    chosen = [peer for peer in peers if wanted is None or peer.name in wanted]
    missing = {peer.name: why for peer in chosen if (why := peer.missing()) is not None}
    for name, why in missing.items():
        _say(f"left out: {name}: {why}")
    return [peer for peer in chosen if peer.name not in missing], missing


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
