"""Rows of a table, for every command: CSV, TSV and JSON lines, one row at a time.

A row has its texts, its id and all its other columns. One that cannot be read is a row with an
error; it keeps its id where that can be read for sure, and those after it are still read. What a
guess or a choice is, is said by `note`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from gptcli.errors import BadInput, GptcliError, UsageError
from gptcli.inputs.columns import ID, TableColumns, TextColumn, chosen
from gptcli.inputs.delimited import cells_of, cut, first_cells
from gptcli.inputs.dialect import Dialect, declared_separator, dialect_of
from gptcli.inputs.json_lines import SHAPE, JsonRecord, check_once, read_json, without
from gptcli.inputs.records import (
    Note,
    RawRecord,
    bad,
    decoded,
    identity,
    numbered,
    place,
    text_of,
)
from gptcli.options import TableInput
from gptcli.options.shared import Errors

TableFormat = Literal["csv", "tsv", "jsonl"]
_FORMATS: Mapping[str, TableFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
PROMPT = (TextColumn(),)
_SEPARATING = re.compile(r"[^\w\s().'-]")  # what titles hold seldom, and may separate them


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row, or the error that makes it none."""

    line: int  # from 1, where in its input it begins
    raw: bytes  # of the record, without its end
    id: str | None = None  # None if the row has none of its own, or it cannot be read
    texts: tuple[str, ...] = ()  # one for each text that is wanted; empty with an error
    others: Mapping[str, object] = field(default_factory=dict)  # by name; of CSV all are texts
    error: GptcliError | None = None
    has_ids: bool = False  # whether rows of this table can have ids
    unit: str = "line"  # what `line` counts


def format_of_table(name: str | None) -> TableFormat | None:
    """The kind of table that a file's name stands for; None for any other file."""
    return _FORMATS.get(Path(name or "").suffix.lower())


def read_table(
    pieces: Iterator[bytes | None],
    name: str,
    format: TableFormat,
    table: TableInput,
    note: Note,
    wanted: Sequence[TextColumn] = PROMPT,
    errors: Errors = "strict",
    titles: Sequence[str] = (),
) -> Iterator[TableRow | None]:
    """The rows of a table; None for "none right now". `titles` are the header of one without.

    `name` is the input's, for the errors; `wanted` says which texts a row has, and `table.column`
    is for the caller to put in it. Raises BadInput for a broken header, UsageError for a wrong
    column: both of tables with a header, before the first row.
    """
    if format == "jsonl":
        return _json_rows(pieces, name, table, wanted, errors)
    reader = _Reader(name, "\t" if format == "tsv" else ",", table, note, wanted, errors)
    return _rows(pieces, reader, name, titles)


def _rows(
    pieces: Iterator[bytes | None], reader: _Reader, name: str, titles: Sequence[str]
) -> Iterator[TableRow | None]:
    lines = numbered(pieces, dropped=b"")
    first = None
    for first in lines:
        if first is None:
            yield None
        elif first.raw.strip():
            break
    reader.declared = declared_separator(first.raw) if first else None
    begun = lines if reader.declared or first is None else chain([first], lines)
    columns = reader.columns(titles) if titles else None
    for record in cut(begun, reader.recognised):
        if record is None:
            yield None
        elif columns is None:
            columns = reader.header(record)
        else:
            yield reader.row(record, columns)
    if columns is None:
        raise BadInput(name, "there is no header", "Begin it with a line of the columns' names.")


class _Reader:
    """How the records of one table are read."""

    def __init__(
        self,
        name: str,
        usual: str,
        table: TableInput,
        note: Note,
        wanted: Sequence[TextColumn],
        errors: Errors,
    ) -> None:
        self._name, self._usual = name, usual
        self.declared: str | None = None  # the separator, by Excel's first line
        self._table, self._note, self._wanted, self._errors = table, note, wanted, errors
        self._dialect = Dialect(usual)

    def recognised(self, header: RawRecord) -> Dialect:
        """The dialect of the table with this header; a guess is said."""
        names = {name for column in self._wanted for name in column.names}
        names.add(self._table.id_column or ID)
        self._dialect = dialect_of(header.raw, self.declared, self._usual, self._table, names)
        if self._dialect.guessed:
            self._note(
                f"{self._name}: columns are separated by {self._dialect.shown}, as in its header;"
                " --delimiter sets another separator"
            )
        return self._dialect

    def header(self, record: RawRecord) -> TableColumns:
        """The columns. Raises BadInput, UsageError."""
        where = place(self._name, "line", record.line)
        text = decoded(record.raw, where, self._errors)
        titles = [title.strip() for title in cells_of(record, text, self._dialect, where, 0)]
        found = self.columns(titles)
        known = {name.casefold() for column in self._wanted for name in column.names}
        if len(titles) == 1 and titles[0].casefold() not in known and self._wanted[0].given:
            self._note(f"{self._name}: its first line is taken as the header: {titles[0][:60]}")
        return found

    def columns(self, titles: Sequence[str]) -> TableColumns:
        """The columns of these titles. Raises UsageError."""
        columns = chosen(titles, self._name, self._wanted, self._table.id_column)
        column = self._wanted[0]
        if len(titles) == 1 and titles[0].casefold() not in column.names and not column.given:
            self._check_alone(titles[0], column)
        return columns

    def _check_alone(self, title: str, column: TextColumn) -> None:
        """Say that the only column is the text. Raises UsageError where it looks like several."""
        words = set(re.split(r"\W+", title.casefold()))
        known = words & {*column.names, self._table.id_column or ID}
        if len(known) > 1 or (known and _SEPARATING.search(title)):
            why = (
                f"the header of {self._name}, {title[:60]!r}, is one column by any usual separator"
            )
            raise UsageError("--delimiter", why, "Name the separator, or the column by --column 1.")
        self._note(f"{self._name}: its only column, {title[:60]!r}, is taken as {column.what}")

    def row(self, record: RawRecord, columns: TableColumns) -> TableRow:
        """A record as a row."""
        where = place(self._name, "line", record.line)
        id: str | None = None
        others: dict[str, object] = dict.fromkeys(columns.others.values())
        has_ids = columns.id is not None
        try:
            cells = self._cells(record, where, len(columns.header))
            others = {name: cells[at] for at, name in columns.others.items()}
            id = identity(cells[columns.id], where) if columns.id is not None else None
            texts = tuple(
                text_of(cells[at], where, column.what)
                for at, column in zip(columns.texts, self._wanted, strict=True)
            )
        except GptcliError as error:
            id = id or self._saved_id(record, columns)
            return TableRow(record.line, record.raw, id, (), others, error, has_ids)
        return TableRow(record.line, record.raw, id, texts, others, None, has_ids)

    def _cells(self, record: RawRecord, where: str, width: int) -> list[str]:
        text = decoded(record.raw, where, self._errors)
        cells = cells_of(record, text, self._dialect, where, width)
        if len(cells) != width:
            count = f"{len(cells)} field{'s' * (len(cells) != 1)}"
            why = f"{count} where the header has {width}"
            raise bad(where, why, "Put a field that holds a separator in quotes.")
        return cells

    def _saved_id(self, record: RawRecord, columns: TableColumns) -> str | None:
        """The id of a broken row, where it can be read for sure."""
        if columns.id is None:
            return None
        where, width = "", len(columns.header)
        found: list[str] = []
        try:
            text = record.raw.decode("utf-8", "surrogateescape")
            cells = cells_of(record, text.replace("\0", " "), self._dialect, where, width)
            found = cells if len(cells) == width else []
        except GptcliError:
            pass
        # Behind a text fields may have moved: a separator in it was one too many.
        if not found and columns.id < min(*columns.texts, width):
            found = first_cells(record, self._dialect, columns.id + 1)
        try:
            return identity(found[columns.id], where) if columns.id < len(found) else None
        except GptcliError:
            return None


def _json_rows(
    pieces: Iterator[bytes | None],
    name: str,
    table: TableInput,
    wanted: Sequence[TextColumn],
    errors: Errors,
) -> Iterator[TableRow | None]:
    for record in read_json(pieces, name, errors):
        where = place(name, "line", record.line) if record else ""
        yield None if record is None else json_row(record, where, table, wanted)


def json_row(
    record: JsonRecord, where: str, table: TableInput, wanted: Sequence[TextColumn]
) -> TableRow:
    """A line of JSON as a row: an object with the texts' keys, or one text alone."""
    value, error = record.value, record.error
    id: str | None = None
    others: dict[str, object] = {}
    texts: tuple[str, ...] = ()
    try:
        if error is None and isinstance(value, str) and len(wanted) == 1:
            texts = (text_of(value, where, wanted[0].what),)
        elif isinstance(value, dict):
            key = table.id_column or ID
            id = identity(value.get(key), where)
            used = [_key(value, column, where) for column in wanted] if error is None else []
            others = without(value, (key, *used))
            if error is None:
                check_once(value, (key, *used), where)
                texts = tuple(
                    text_of(value[name], where, column.what)
                    for name, column in zip(used, wanted, strict=True)
                )
        elif error is None:
            raise bad(where, "not an object", SHAPE)
    except GptcliError as found:
        error = error or found
    return TableRow(record.line, record.raw, id, texts, others, error, has_ids=True)


def _key(row: Mapping[str, object], column: TextColumn, where: str) -> str:
    """The key of a text. Raises BadInput where there is none."""
    for name in column.names:
        if name in row:
            return name
    why = f"no key {' or '.join(column.names)}"
    raise bad(where, why, f"Name {column.what}'s key with {column.flag}.")
