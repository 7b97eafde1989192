"""Aligned text tables: the one place where cells become columns.

A finished table has columns as wide as their widest cell. A table whose rows are written one by one
has fixed widths: use `line`. Cells are strings; the caller formats numbers and units. A width is in
columns of a terminal, so that wide characters line up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gptcli.system.sanitizer import one_line
from gptcli.system.text.characters import width as wide

GAP = "  "  # between two columns


def line(
    cells: Sequence[str],
    widths: Sequence[int],
    right: Collection[int] = (),
    gap: str = GAP,
) -> str:
    """One row without trailing blanks. `right`: indices of right-aligned cells."""
    aligned = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        blank = " " * (width - wide(cell))
        aligned.append(blank + cell if place in right else cell + blank)
    return gap.join(aligned).rstrip()


def lines(
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (),
    gap: str = GAP,
) -> list[str]:
    """Rows of equal length, in columns as wide as their widest cells."""
    widths = [max(map(wide, column)) for column in zip(*rows, strict=True)]
    return [line(row, widths, right, gap) for row in rows]


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """The text of a table, a line a row; cells are sanitised. `right` as in `line`."""
    shown = [[one_line(cell).replace("\t", "^I") for cell in row] for row in rows]
    return "".join(row + "\n" for row in lines(shown, right))
