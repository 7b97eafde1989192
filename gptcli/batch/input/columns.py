"""Which column of a table is the prompt, which the id, and which are settings.

For every kind of table that has a header: CSV, TSV and Parquet. A wrong column is a mistake on the
command line, not in a row, and so it is found once, before any row is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gptcli.batch.input.entries import ParsedRow, identity, prompt
from gptcli.batch.input.overrides import KNOWN, NESTED, overrides, settings_of
from gptcli.batch.options import BatchInput
from gptcli.errors import GptcliError, UsageError

_MOST_NAMED = 20  # columns that an error lists


@dataclass(frozen=True)
class Columns:
    """Names of the columns needed and their places from 0."""

    text: str
    id: str | None
    needed: Mapping[str, int]


def chosen(header: Sequence[str], name: str, reading: BatchInput) -> Columns:
    """The columns to read of a table with this header.

    `name` is the input's, for the errors. Raises UsageError: no such column, or two of that name.
    """
    if reading.column is not None:
        text = _found(header, reading.column, "--column", name)
    else:
        text = _default(header, name)
    if reading.id_column is not None:
        id: int | None = _found(header, reading.id_column, "--id-column", name)
    else:
        id = _found(header, "id", "--id-column", name) if "id" in header else None
    settings = KNOWN | {NESTED} if reading.row_settings else frozenset[str]()
    needed = {header[place]: place for place in (text, id) if place is not None}
    for place, column in enumerate(header):
        if column in settings and column not in needed:
            _found(header, column, "the settings", name)
            needed[column] = place
    return Columns(header[text], None if id is None else header[id], needed)


def entry_of(
    row: Mapping[str, object], columns: Columns, blank: ParsedRow, where: str, reading: BatchInput
) -> ParsedRow:
    """The entry of a table's row, `blank` being one with its line and digest alone."""
    id = None
    try:
        id = identity(row[columns.id], where) if columns.id is not None else None
        text = prompt(row[columns.text], where, reading)
        apart = {columns.text, columns.id}
        rest = {column: value for column, value in row.items() if column not in apart}
        found = overrides(settings_of(rest, where, reading), where)
        return ParsedRow(blank.line, blank.digest, id, text, found, unit=blank.unit)
    except GptcliError as error:
        return ParsedRow(blank.line, blank.digest, id, error=error, unit=blank.unit)


def _default(header: Sequence[str], name: str) -> int:
    for column in ("prompt", "text"):
        if column in header:
            return _found(header, column, "--column", name)
    if len(header) == 1:
        return 0
    why = f"{name} has no column prompt or text"
    raise UsageError("--column", why, f"Name one: {_listed(header)}.")


def _found(header: Sequence[str], column: str, flag: str, name: str) -> int:
    """The place of a column given by its name, or else by its number from 1."""
    count = Counter(header)[column]
    if count == 1:
        return list(header).index(column)
    if count > 1:
        why = f"{name} has {count} columns {column!r}"
        raise UsageError(flag, why, "Give its number, or rename all but one.")
    if (
        column.isascii()
        and column.isdigit()
        and len(column) < 10
        and 0 < int(column) <= len(header)
    ):
        return int(column) - 1
    raise UsageError(flag, f"{name} has no column {column!r}", f"Name one: {_listed(header)}.")


def _listed(header: Sequence[str]) -> str:
    more = ", ..." if len(header) > _MOST_NAMED else ""
    return ", ".join(column[:60] for column in header[:_MOST_NAMED]) + more
