"""Draw the medians of a run as bars: ``python bench/picture.py RESULTS.json docs/bench.svg``.

Plain SVG, written by hand: no fonts or scripts from anywhere, and colours that follow the reader's light or dark page.
"""

from __future__ import annotations

import argparse
import json
from html import escape
from pathlib import Path

from content import MIB
from report import Result, base, medians

_WIDTH, _LEFT, _RIGHT = 760, 150, 150
_BAR, _STEP, _HEAD, _GAP = 14, 21, 30, 16
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f; }
.head { font-weight: 600; }
.quiet { fill: #57606a; }
.peer { fill: #afb8c1; }
.ours { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet { fill: #8d96a0; }
  .peer { fill: #545d68; }
  .ours { fill: #4493f8; }
}"""


def draw(result: Result) -> str:
    """Return the picture: for each case its peers' median seconds, on a scale of its own."""
    drawn: list[str] = []
    y = 4
    for case in result["cases"]:
        rows = medians(case)
        if not rows:
            continue
        drawn += _head(case, y)
        y += _HEAD
        longest = max(row["seconds"] for row in rows.values())
        for name, row in rows.items():
            length = max(1.0, (_WIDTH - _LEFT - _RIGHT) * row["seconds"] / longest)
            drawn += _bar(name, row, base(case), y, length)
            y += _STEP
        y += _GAP
    drawn.append(f'<text class="quiet" x="4" y="{y + 4}">{escape(_foot(result))}</text>')
    height = y + 14
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            "<title>Seconds until the files are complete and on disk, beside other programs</title>",
            f"<style>{_STYLE}\n</style>",
            *drawn,
            "</svg>\n",
        ]
    )


def _head(case: Result, y: int) -> list[str]:
    text = f"{case['about']}, {case['size_bytes'] / MIB:,.0f} MiB"
    return [f'<text class="head" x="4" y="{y + 14}">{escape(text)}</text>']


def _bar(name: str, row: Result, other: str, y: int, length: float) -> list[str]:
    kind = "ours" if name.startswith("modelcask") else "peer"
    ratio = "" if row["ratio"] is None else f" ({row['ratio']:.2f} x {other})"
    return [
        f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>',
        f'<rect class="{kind}" x="{_LEFT}" y="{y + 1}" width="{length:.1f}" height="{_BAR}" rx="2"/>',
        f'<text class="quiet" x="{_LEFT + length + 6:.1f}" y="{y + 12}">{row["seconds"]:.1f} s{ratio}</text>',
    ]


def _foot(result: Result) -> str:
    rounds = " to ".join(map(str, sorted({case["rounds"] for case in result["cases"]})))
    return f"seconds until the bytes are on disk, median of {rounds} interleaved rounds on {result['date']}"


def main() -> None:
    """Draw a result file."""
    parser = argparse.ArgumentParser(description="Draw a run of bench/transfer.py.")
    parser.add_argument("results", type=Path, help="the JSON that it wrote")
    parser.add_argument("picture", type=Path, help="the SVG to write")
    options = parser.parse_args()
    options.picture.write_text(draw(json.loads(options.results.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
