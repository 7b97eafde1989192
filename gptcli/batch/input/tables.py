"""Rows of CSV and TSV: a header, then a record a row, whose quoted fields may hold line breaks.

Where a record ends is found here, line by line, and only then does the csv module split it: reading
by itself, it would swallow a file behind one quote that is never closed. A record that goes wrong
behind its first line (a quote closed in the middle of a field, none within 1 MiB) is taken as one
bad line, and reading goes on with the next: so a forgotten quote costs its own row alone. Grammar:
RFC 4180, with LF or CRLF; TSV is the same with tabs. Empty lines are no rows.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Generator, Iterator

from gptcli.batch.input.columns import Columns, chosen, entry_of
from gptcli.batch.input.entries import ParsedRow, bad, decoded, place
from gptcli.batch.input.overrides import from_cell
from gptcli.batch.input.row import digest
from gptcli.batch.options import BatchInput
from gptcli.errors import BadInput, GptcliError
from gptcli.inputs.pieces import MAX_LINE_BYTES
from gptcli.inputs.records import RawRecord, numbered

# A record with so many fields more than the header is broken, and is not searched for its end.
_SURPLUS = 10
_WIDEST = 10_000  # fields of the header
_QUOTED = re.compile(rb'[^"]*(?:""[^"]*)*')  # a quoted field up to its closing quote
_LONG = "longer than 1 MiB"
_OPEN = "a quote is opened and not closed"
_MIDDLE = "a quoted field goes on behind its closing quote"
_HOW = 'Write a quote inside a quoted field twice: "say ""so"".'


def read(
    pieces: Iterator[bytes | None], name: str, reading: BatchInput, delimiter: str
) -> Iterator[ParsedRow | None]:
    """The rows of a table. Raises BadInput for a broken header, UsageError for a wrong column."""
    # The module's own limit of a field is 128 KiB, and is one for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    columns: Columns | None = None
    width = 0
    for record in _records(numbered(pieces, dropped=b""), delimiter.encode()):
        if record is None:
            yield None
            continue
        where = place(name, "line", record.line)
        if columns is None:
            header = _fields(record, where, reading, delimiter)
            columns, width = chosen(header, name, reading), len(header)
        else:
            yield _entry(record, columns, width, where, reading, delimiter)
    if columns is None:
        raise BadInput(name, "there is no header", "Begin it with a line of the columns' names.")


def _entry(
    record: RawRecord, columns: Columns, width: int, where: str, reading: BatchInput, delimiter: str
) -> ParsedRow:
    blank = ParsedRow(record.line, digest(record.raw))
    try:
        cells = _fields(record, where, reading, delimiter)
        if len(cells) != width:
            why = f"{len(cells)} fields where the header has {width}"
            raise bad(where, why, "Put a field that holds a separator in quotes.")
    except GptcliError as error:
        return ParsedRow(blank.line, blank.digest, error=error)
    texts = (columns.text, columns.id)
    row = {
        column: cells[at] if column in texts else from_cell(column, cells[at])
        for column, at in columns.needed.items()
    }
    return entry_of(row, columns, blank, where, reading)


def _fields(record: RawRecord, where: str, reading: BatchInput, delimiter: str) -> list[str]:
    """The record's fields. Raises BadInput."""
    if record.why:
        raise bad(where, record.why, _HOW)
    text = decoded(record.raw, where, reading)
    if "\0" in text:
        raise bad(where, "a NUL character: this is no text", "Convert it to UTF-8 with iconv.")
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise bad(where, str(error), _HOW) from None


def _records(lines: Iterator[RawRecord | None], delimiter: bytes) -> Iterator[RawRecord | None]:
    """The lines put together to records; None is handed on."""
    again: deque[RawRecord] = deque()  # lines to be read once more
    most = 0
    while True:
        line = yield from _next(lines, again)
        if line is _END:
            return
        if line.raw in (b"", b"\r"):
            continue
        record, fields = yield from _record(line, lines, again, delimiter, most or _WIDEST)
        most = most or fields + _SURPLUS
        yield record


def _record(
    first: RawRecord,
    lines: Iterator[RawRecord | None],
    again: deque[RawRecord],
    delimiter: bytes,
    most: int,
) -> Generator[None, None, tuple[RawRecord, int]]:
    """The record that begins with the line `first`, and how many separators it has.

    One that is broken is its first line with `why`; the others are put back to be read again.
    """
    so_far, line = [first], first
    inside, fields, size = False, 0, 0
    while True:
        size += len(line.raw) + 1
        inside, more, why = _scan(line.raw, inside, delimiter)
        fields += more
        # A CR and an LF are no part of the record.
        if size > MAX_LINE_BYTES + 2 or (inside and fields > most):
            why = _OPEN if len(so_far) > 1 else _LONG
        if why or not inside:
            break
        line = yield from _next(lines, again)
        if line is _END:
            why = _OPEN
            break
        so_far.append(line)
    raw = (first.raw if why else b"\n".join(line.raw for line in so_far)).removesuffix(b"\r")
    if why:
        again.extendleft(reversed(so_far[1:]))
    return RawRecord(first.line, raw, why), fields


def _next(
    lines: Iterator[RawRecord | None], again: deque[RawRecord]
) -> Generator[None, None, RawRecord]:
    """The next line, or _END; None is handed on while there is none."""
    while True:
        line = again.popleft() if again else next(lines, _END)
        if line is not None:
            return line
        yield None


_END = RawRecord(0, b"")


def _scan(line: bytes, inside: bool, delimiter: bytes) -> tuple[bool, int, str]:
    """Whether a quoted field is open behind the line, how many fields ended in it, what is wrong.

    `inside`: whether one is open before it.
    """
    if b'"' not in line:
        return inside, 0 if inside else line.count(delimiter), ""
    at = ended = 0
    opened = inside
    while True:
        if not opened and line.startswith(b'"', at):
            opened, at = True, at + 1
        if opened:
            closing = _QUOTED.match(line, at)
            at = closing.end() if closing else len(line)
            if at == len(line):
                return True, ended, ""
            at, opened = at + 1, False
            if line[at : at + 1] not in (b"", b"\r", delimiter):
                return False, ended, _MIDDLE
        at = line.find(delimiter, at) + 1
        if at == 0:
            return False, ended, ""
        ended += 1
