"""Reads minimal pairs from JSON lines, CSV and TSV.

A header or keys name the two sentences; a table of two columns may do without a header. Where its
first line may be a header with other names, the user is asked: scored as a pair it would be a wrong
result that nobody sees. Not here: the scores of pairs are in `gptcli.scoring.pairs`.
"""

from __future__ import annotations

import csv
import io
from codecs import BOM_UTF8
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from gptcli.errors import BadInput, UsageError
from gptcli.inputs.columns import CarriedNames, TextColumn
from gptcli.inputs.dialect import declared_separator, dialect_of
from gptcli.inputs.encoding import refuse_foreign
from gptcli.inputs.json_lines import plain
from gptcli.inputs.lines import unheard
from gptcli.inputs.records import Note
from gptcli.inputs.table import TableFormat, TableRow, format_of_table, read_table
from gptcli.options import TableInput
from gptcli.options.shared import Errors
from gptcli.scoring.pairs import Pair

GOOD = ("sentence_good", "good", "good_sentence", "grammatical", "acceptable")
BAD = ("sentence_bad", "bad", "bad_sentence", "ungrammatical", "unacceptable")
_HOW = "Name both by --column GOOD --bad-column BAD."
_ASK = "If it is a header: --column {} --bad-column {}. If it is a pair, write a header above it."


@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """How a file of pairs is read: `table.column` names the good sentence."""

    table: TableInput = field(default_factory=TableInput)
    bad: str | None = None
    errors: Errors = "strict"

    @property
    def wanted(self) -> tuple[TextColumn, TextColumn]:
        """The two texts of a row."""
        return (
            TextColumn(self.table.column, GOOD, "--column", "the good sentence"),
            TextColumn(self.bad, BAD, "--bad-column", "the bad sentence"),
        )

    @property
    def named(self) -> bool:
        """Whether an option names a column, so there is a header."""
        return any((self.table.column, self.bad, self.table.id_column))


def read_pairs(
    data: bytes,
    name: str,
    columns: PairColumns | None = None,
    note: Note = unheard,
    names: CarriedNames | None = None,
) -> list[Pair]:
    """The pairs of a file: JSON lines, TSV or CSV, by its name or else by its first line.

    A row without an id has the number of its line. A row that cannot be read is a pair with an
    error; where none can be read, the first error is raised. Other columns go into `carried`, under
    `names`. Raises BadInput (UTF-16, a broken header, other columns) and UsageError (a column that
    is not there; a first line that may be a header).
    """
    refuse_foreign(data, f"file {name}")
    if not data.removeprefix(BOM_UTF8).strip():
        return []
    asked = columns or PairColumns()
    kind = _format(data, name)
    titles = () if kind == "jsonl" else _titles(data, name, kind, asked)
    rows = read_table(
        iter([data]), name, kind, asked.table, note, asked.wanted, asked.errors, titles
    )
    try:
        return _pairs([row for row in rows if row is not None], names or CarriedNames((), note))
    except UsageError as error:
        if asked.named:
            raise
        shown = error.hint.replace("Name one", "Its columns")
        raise BadInput(name, "no header says which two sentences", f"{_HOW} {shown}") from None


def _pairs(rows: Sequence[TableRow], names: CarriedNames) -> list[Pair]:
    errors = [row.error for row in rows if row.error is not None]
    if errors and len(errors) == len(rows):
        raise errors[0]
    own = any(row.id for row in rows)
    return [
        Pair(
            row.id or (f"line:{row.line}" if own else str(row.line)),
            row.texts[0] if row.texts else "",
            row.texts[1] if row.texts else "",
            row.error,
            {key: plain(value) for key, value in names.carried(row.others).items()},
        )
        for row in rows
    ]


def _format(data: bytes, name: str) -> TableFormat:
    found = format_of_table(name)
    if found is not None:
        return found
    head = data.removeprefix(BOM_UTF8).lstrip()
    if head[:1] == b"{":
        return "jsonl"
    return "tsv" if b"\t" in head.partition(b"\n")[0] else "csv"


def _titles(data: bytes, name: str, kind: TableFormat, asked: PairColumns) -> tuple[str, ...]:
    """The header of a table of two columns that has none; empty where it has one.

    Raises UsageError for a first line that may be a header with unknown names.
    """
    first, second = _first_rows(data, kind, asked.table)
    names = [cell.strip().casefold() for cell in first]
    if asked.named or len(first) != 2 or {*names} & {*GOOD, *BAD}:
        return ()
    longer = any(" " in cell.strip() for cell in second)
    if all(_is_name(cell) for cell in first) and (longer or any("_" in cell for cell in first)):
        why = f"the first line of {name} may be a header: {first[0]}, {first[1]}"
        raise UsageError("--pairs", why, _ASK.format(*(cell.strip() for cell in first)))
    return GOOD[0], BAD[0]


def _is_name(cell: str) -> bool:
    """Whether a cell is one word without a sentence's end, as the names of columns are."""
    word = cell.strip()
    return bool(word) and not any(sign.isspace() for sign in word) and word[-1] not in ".!?\u2026"


def _first_rows(data: bytes, kind: TableFormat, table: TableInput) -> tuple[list[str], list[str]]:
    """The first two records, for a look; empty where they are broken or declare a separator."""
    text = data.decode("utf-8-sig", "replace").lstrip("\r\n")
    header = text.partition("\n")[0].encode()
    if declared_separator(header):
        return [], []
    usual = "\t" if kind == "tsv" else ","
    delimiter = dialect_of(header, None, usual, table, {*GOOD, *BAD}).delimiter
    stream, bare = io.StringIO(text, newline=""), table.quoting == "none"
    rows = csv.reader(
        stream, delimiter=delimiter, quoting=csv.QUOTE_NONE if bare else csv.QUOTE_MINIMAL
    )
    found: list[list[str]] = []
    with suppress(csv.Error):  # the reader of the table says what is wrong
        found.extend(islice(filter(any, rows), 2))
    padded: list[list[str]] = [*found, [], []]
    return padded[0], padded[1]
