"""One living line on a terminal for work whose end is not known; nothing elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from modelcask_cli import streams


@contextlib.contextmanager
def working(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows its text on stderr in place of the last one; the line vanishes at the end."""
    if quiet or not streams.draws(err=True):
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - only where it can draw
    from rich.live import Live  # noqa: PLC0415
    from rich.spinner import Spinner  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from modelcask_cli.progress.above import above  # noqa: PLC0415

    spinner = Spinner("dots")
    live = Live(spinner, console=Console(stderr=True), transient=True, redirect_stdout=False, refresh_per_second=10)
    with above(live), live:
        yield lambda text: spinner.update(text=Text(text, overflow="ellipsis", no_wrap=True))
