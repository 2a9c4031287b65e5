"""The figures of a run as tables: ``python bench/report.py RESULTS.json > docs/bench.md``."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from content import GIB, MIB

Result = dict[str, Any]
"""What transfer.py writes: ``machine``, ``peers``, ``left_out`` and ``cases``."""


def medians(case: Result) -> dict[str, Result]:
    """Return for each peer of a case the medians over its rounds: its row of the table, in the order they ran.

    ``ratio`` is the median of the ratios to ``base(case)`` within each round, or None where no round has both.
    """
    names = dict.fromkeys(name for taken in case["runs"] for name in taken)
    return {name: _row(case, name) for name in names}


def base(case: Result) -> str:
    """Return the peer that the others are compared with: curl, or hf where only clients of the Hub run."""
    return "curl" if case["files"] == 1 else "hf"


def _row(case: Result, name: str) -> Result:
    runs = [taken for taken in case["runs"] if name in taken]

    def median(figure: Callable[[Result], float]) -> float:
        return statistics.median(figure(taken[name]) for taken in runs)

    other = base(case)
    ratios = [taken[name]["seconds"] / taken[other]["seconds"] for taken in runs if other in taken]
    return {
        "seconds": median(lambda it: it["seconds"]),
        "fastest": min(taken[name]["seconds"] for taken in runs),
        "slowest": max(taken[name]["seconds"] for taken in runs),
        "ratio": statistics.median(ratios) if ratios else None,
        "mb_s": case["size_bytes"] / 1e6 / median(lambda it: it["seconds"]),
        "cpu_s_gib": median(lambda it: it["user_s"] + it["system_s"]) / (case["size_bytes"] / GIB),
        "rss_mib": median(lambda it: it["peak_rss_bytes"]) / MIB,
    }


_INTRO = """# Transfer speed, beside other programs

One run of `bench/transfer.py`: every program as a whole process against one origin on the same machine, in turn within
each round, until its files are complete and on disk. `bench/README.md` tells how to repeat it, what each row
does, and what is equal in them. Every byte that modelcask fetched is hashed twice meanwhile, by SHA-256 and BLAKE3.

![The medians as bars](bench.svg)
"""


def tables(result: Result) -> Iterator[str]:
    """Yield the lines of a Markdown page: a table a case, what was left out, and what was measured where."""
    for case in result["cases"]:
        yield f"**{case['name']}**: {case['about']}; {_size(case)}, median of {case['rounds']} rounds"
        yield ""
        yield f"| peer | seconds | fastest-slowest | MB/s | x {base(case)} | CPU s/GiB | peak RSS MiB |"
        yield "|---|--:|--:|--:|--:|--:|--:|"
        for name, row in medians(case).items():
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            yield (
                f"| {name} | {row['seconds']:.2f} | {row['fastest']:.2f}-{row['slowest']:.2f} | {row['mb_s']:.0f} "
                f"| {ratio} | {row['cpu_s_gib']:.2f} | {row['rss_mib']:.0f} |"
            )
        yield ""
        for name, why in case["failed"].items():
            yield f"{name} failed and is left out: {why}"
            yield ""
    yield "| row | what it is | version | on disk at the end |"
    yield "|---|---|---|---|"
    for name, peer in result["peers"].items():
        durable = "syncs by itself" if peer["syncs"] else "followed by `sync`"
        yield f"| {name} | {peer['about']} | {peer['version']} | {durable} |"
    yield ""
    for name, why in result["left_out"].items():
        yield f"Left out: {name}: {why}"
        yield ""
    yield f"Measured on {result['date']}: " + "; ".join(f"{name} {value}" for name, value in result["machine"].items())
    yield f"A peak RSS of {result['rss_floor_mib']:.0f} MiB or less is the bench's own."


def _size(case: Result) -> str:
    size = f"{case['model_bytes'] / MIB:,.0f} MiB"
    return size if case["files"] == 1 else f"{case['size_bytes'] / MIB:,.0f} MiB in {case['files']:,} files"


def main() -> None:
    """Print the page of a result file."""
    parser = argparse.ArgumentParser(description="Print the page of a run of bench/transfer.py.")
    parser.add_argument("results", type=Path, help="the JSON that it wrote")
    print(_INTRO)
    print("\n".join(tables(json.loads(parser.parse_args().results.read_text()))))


if __name__ == "__main__":
    main()
