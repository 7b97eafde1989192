"""Rows of numbers: as an aligned table for people, as JSON, JSON lines, CSV and TSV for programs.

A row is written as soon as it is there, so a table's columns have fixed widths and what is of any
length comes last. Which rows there are, and whose, is a command's business; where they go, see
`gptcli.cli.sink`.
"""

from __future__ import annotations

import csv
import heapq
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gptcli.errors import UsageError
from gptcli.scoring.scores import Row

Shape = Literal["text", "json", "jsonl", "csv", "tsv"]


@dataclass(frozen=True)
class Column:
    """A column of the table for people: `width` characters at least, decimals for a number.

    Texts are quoted as in JSON, so that spaces and line breaks show, and cut at `most` characters.
    """

    name: str
    width: int = 0
    decimals: int | None = None  # None: it is no number
    most: int = 60
    quoted: bool = True


def written(
    rows: Iterable[Row], shape: Shape, keys: Sequence[str], columns: Sequence[Column]
) -> Iterator[str]:
    """The text to write, piece by piece. `keys` are a row's own, in order."""
    if shape == "json":
        yield as_json(list(rows))
    elif shape == "jsonl":
        for row in rows:
            yield json.dumps(row, ensure_ascii=False) + "\n"
    elif shape == "text":
        yield aligned([column.name for column in columns], columns)
        for row in rows:
            yield aligned([_shown(row[column.name], column) for column in columns], columns)
    else:
        separator = "," if shape == "csv" else "\t"
        yield _separated(keys, separator)
        for row in rows:
            yield _separated([_cell(row[key]) for key in keys], separator)


def as_json(value: object) -> str:
    """Indented JSON with a line break at the end."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def aligned(cells: Sequence[str], columns: Sequence[Column]) -> str:
    """A line of the table: numbers to the right."""
    padded = [
        cell.ljust(column.width) if column.decimals is None else cell.rjust(column.width)
        for cell, column in zip(cells, columns, strict=True)
    ]
    return "  ".join(padded).rstrip() + "\n"


def _shown(value: object, column: Column) -> str:
    if value is None:
        return "-"
    if isinstance(value, int | float):
        return f"{value:.{column.decimals or 0}f}"
    text = str(value)
    if len(text) > column.most:
        text = text[: column.most - 3] + "..."
    return json.dumps(text, ensure_ascii=False) if column.quoted else text


def _cell(value: object) -> object:
    """An error is its message, as in the other commands' tables."""
    return value["message"] if isinstance(value, dict) else value


def _separated(cells: Iterable[object], separator: str) -> str:
    line = io.StringIO()
    csv.writer(line, delimiter=separator, lineterminator="\n").writerow(cells)
    return line.getvalue()


@dataclass(frozen=True)
class Order:
    """Which rows come first: those with the greatest, or the least, value of a column.

    `count` is how many are kept, all where it is None.
    """

    key: str
    count: int | None = None
    least: bool = False

    def applied(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows in this order, equal ones as they came; those without a value last.

        With a `count` these are left out, and only so many rows are kept in memory.
        """
        sign = -1 if self.least else 1
        if self.count is None:
            known: list[Row] = []
            nothing: list[Row] = []
            for row in rows:
                (nothing if row[self.key] is None else known).append(row)
            yield from sorted(known, key=lambda row: -sign * _number(row[self.key]))
            yield from nothing
            return
        numbered = enumerate(row for row in rows if row[self.key] is not None)
        kept = heapq.nlargest(
            self.count, numbered, key=lambda item: (sign * _number(item[1][self.key]), -item[0])
        )
        yield from (row for _, row in kept)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def order(
    key: str | None, top: int | None, bottom: int | None, default: str, known: Sequence[str]
) -> Order | None:
    """The order that --sort, --top and --bottom ask for; None for that of the input.

    Raises UsageError for a column that is none of the `known`, and for both ends at once.
    """
    if key is not None and key not in known:
        raise UsageError("--sort", f"there is no column {key!r}", f"Name one: {', '.join(known)}.")
    if top is not None and bottom is not None:
        raise UsageError("--bottom", "does not go with --top", "Leave one of them out.")
    if key is None and top is None and bottom is None:
        return None
    return Order(key or default, top if bottom is None else bottom, least=bottom is not None)
