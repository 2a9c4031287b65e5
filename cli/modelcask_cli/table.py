"""Tables on stdout: coloured on a terminal, else plain aligned text of full width."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from modelcask_cli import streams


def tell_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> None:
    """Print rows of cells below their heads; the columns numbered in ``right`` end at the same place.

    Cells must be fit to be shown: what is remote has gone through ``modelcask.display``.
    """
    if streams.draws(err=False):
        _tell_drawn(heads, rows, right)
        return
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = (
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        streams.tell("  ".join(cells).rstrip())


def _tell_drawn(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where it can draw
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, head in enumerate(heads):
        # A URI must be whole, to be copied: it is folded; the others keep their line.
        table.add_column(head, justify="right" if number in right else "left", overflow="fold", no_wrap=number > 0)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    console = Console()
    with console.capture() as capture:
        console.print(table)
    streams.tell(capture.get().rstrip("\n"))
