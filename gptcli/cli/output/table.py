"""Aligned text tables: the one place where cells become columns.

A finished table has columns as wide as their widest cell. A table whose rows are written one by one
has fixed widths: use `line`. Cells are strings; the caller formats numbers and units.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from gptcli.system.sanitizer import one_line

GAP = "  "  # between two columns
Measure = Callable[[str], int]
"""(text) -> how many columns of a terminal it takes."""


def line(
    cells: Sequence[str],
    widths: Sequence[int],
    right: Collection[int] = (),
    gap: str = GAP,
    measure: Measure = len,
) -> str:
    """One row without trailing blanks. `right`: indices of right-aligned cells."""
    aligned = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        blank = " " * (width - measure(cell))
        aligned.append(blank + cell if place in right else cell + blank)
    return gap.join(aligned).rstrip()


def lines(
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (),
    gap: str = GAP,
    measure: Measure = len,
) -> list[str]:
    """Rows of equal length, in columns as wide as their widest cells."""
    widths = [max(map(measure, column)) for column in zip(*rows, strict=True)]
    return [line(row, widths, right, gap, measure) for row in rows]


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """The text of a table, a line a row; cells are sanitised. `right` as in `line`."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    return "".join(row + "\n" for row in lines(shown, right))
