"""Draw ``docs/demo.svg``, the picture in the README, from a real run of the demo: ``python docs/picture.py``."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from modelcask_cli.demo import story

PICTURE = Path(__file__).with_name("demo.svg")


def main() -> None:
    """Tell the story to a recording console, and write what it showed."""
    # Not interactive: each bar is then recorded once, as it stood at the end, and not ten times a second.
    console = Console(file=io.StringIO(), record=True, width=100, force_terminal=True, force_interactive=False)
    story.tell(console)
    picture = console.export_svg(title="modelcask demo")
    # rich has the viewer fetch a font from elsewhere; without that the picture asks nothing of anybody.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), encoding="utf-8")
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
