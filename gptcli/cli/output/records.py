"""Rows with named columns: as an aligned table for people; as JSON, JSON lines, CSV or TSV for
programs.

Each row is written at once, so the table has fixed column widths, and the column without a limit
comes last. Commands make the rows; `gptcli.cli.output.sink` says where they go.
"""

from __future__ import annotations

import csv
import heapq
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from gptcli.cli.output import table
from gptcli.errors import UsageError
from gptcli.options import Format
from gptcli.system.text.characters import cut

Record = Mapping[str, object]


@dataclass(frozen=True)
class Column:
    """A column of the table for people: `width` columns at least, decimals for a number.

    Texts are quoted as in JSON, so that spaces and line breaks show, and cut at `most` columns.
    """

    name: str
    width: int = 0
    decimals: int | None = None  # None: it is no number
    most: int = 60
    quoted: bool = True


def written(
    records: Iterable[Record],
    shape: Format,
    keys: Sequence[str] = (),
    columns: Sequence[Column] = (),
) -> Iterator[str]:
    """The text to write, piece by piece.

    `keys` are the columns of CSV and TSV; a record without one has an empty cell. `columns` are
    those of the table for people, which has no header without a record. The header comes with the
    first record, so a refusal before it leaves the output empty.
    """
    if shape == "json":
        yield document(list(records))
    elif shape == "jsonl":
        for record in records:
            yield json_line(record)
    elif shape == "text":
        for number, record in enumerate(records):
            if not number:
                yield _aligned([column.name for column in columns], columns)
            yield _aligned([_shown(record[column.name], column) for column in columns], columns)
    else:
        separator = "," if shape == "csv" else "\t"
        rows = iter(records)
        first = next(rows, None)  # before the header: where this raises, nothing is written
        yield _separated(keys, separator)
        for record in rows if first is None else chain((first,), rows):
            yield _separated([_cell(key, record.get(key)) for key in keys], separator)


def document(value: object) -> str:
    """A value as indented JSON, with a line break at its end."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def json_line(value: object) -> str:
    """A value as one line of JSON, with its line break."""
    return quoted(value) + "\n"


def quoted(value: object) -> str:
    """A value as JSON inside other text: a string in quotes, its line breaks escaped."""
    return json.dumps(value, ensure_ascii=False)


def _aligned(cells: Sequence[str], columns: Sequence[Column]) -> str:
    """A line of the table: numbers to the right."""
    right = {place for place, column in enumerate(columns) if column.decimals is not None}
    return table.line(cells, [column.width for column in columns], right) + "\n"


def _shown(value: object, column: Column) -> str:
    if value is None:
        return "-"
    if isinstance(value, int | float):
        return f"{value:.{column.decimals or 0}f}"
    text = quoted(value) if isinstance(value, dict | list) else str(value)
    text = cut(text, column.most, "...")
    return quoted(text) if column.quoted else text


def _cell(key: str, value: object) -> object:
    """A cell of CSV: an error is its message, another object or list is JSON."""
    if key == "error" and isinstance(value, dict):
        return value["message"]
    return quoted(value) if isinstance(value, dict | list) else value


def _separated(cells: Iterable[object], separator: str) -> str:
    """A row that ends in LF; a cell with a line break is quoted."""
    line = io.StringIO()
    csv.writer(line, delimiter=separator, lineterminator="\n").writerow(cells)
    return line.getvalue()


@dataclass(frozen=True)
class Order:
    """Which records come first: those with the greatest, or the least, value of a column.

    `count` is how many are kept, all where it is None.
    """

    key: str
    count: int | None = None
    least: bool = False

    def applied(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records in this order, equal ones as they came; those without a value last.

        With a `count` these are left out, and only so many records are kept in memory.
        """
        sign = -1 if self.least else 1
        if self.count is None:
            known: list[Record] = []
            nothing: list[Record] = []
            for record in records:
                (nothing if record[self.key] is None else known).append(record)
            yield from sorted(known, key=lambda record: -sign * _number(record[self.key]))
            yield from nothing
            return
        numbered = enumerate(record for record in records if record[self.key] is not None)
        kept = heapq.nlargest(
            self.count, numbered, key=lambda item: (sign * _number(item[1][self.key]), -item[0])
        )
        yield from (record for _, record in kept)


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
