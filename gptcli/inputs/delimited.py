"""Records of CSV and TSV, whose quoted fields may hold line breaks, cut into fields.

Where a record ends is found here, line by line, and only then does the csv module split it: reading
by itself, it would swallow a file behind one quote that is never closed. A record that goes wrong
behind its first line (a quote closed in the middle of a field, none within 1 MiB) is taken as one
bad line, and reading goes on with the next: so a forgotten quote costs its own row alone. Grammar:
RFC 4180, with LF or CRLF; empty lines are no rows.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from gptcli.inputs.dialect import Dialect
from gptcli.inputs.pieces import MAX_LINE_BYTES, TOO_LONG
from gptcli.inputs.records import RawRecord, bad

# A record with so many fields more than the header is broken, and is not searched for its end.
_SURPLUS_FIELDS = 10
_MAX_HEADER_FIELDS = 10_000
_QUOTED = re.compile(rb'[^"]*(?:""[^"]*)*')  # a quoted field up to its closing quote
_CELL = re.compile(r'"([^"]*(?:""[^"]*)*)"')
_OPEN = "a quote is opened and not closed"
_MIDDLE = "a quoted field goes on behind its closing quote"
HOW = 'Write a quote inside a quoted field twice, "say ""so""", or read marks by --quoting none.'

Lines = Iterator[RawRecord | None]


@dataclass(frozen=True)
class _Shape:
    """What the header says of a table: the most separators of a record, whether it has none."""

    most: int = _MAX_HEADER_FIELDS
    single: bool = False


Dialects = Callable[[RawRecord], Dialect]
"""The dialect of the table whose header begins with this line."""


def cut(lines: Lines, dialects: Dialects) -> Generator[RawRecord | None, None, None]:
    """The lines put together to records, the header first; None is handed on."""
    again: deque[RawRecord] = deque()  # lines to be read once more
    dialect: Dialect | None = None
    shape = _Shape()
    while True:
        line = yield from _next(lines, again)
        if line is _END:
            return
        if line.raw in (b"", b"\r"):
            continue
        if dialect is None:
            dialect = dialects(line)
            record, fields = yield from _record(line, lines, again, dialect, shape)
            shape = _Shape(fields + _SURPLUS_FIELDS, single=fields == 0)
        else:
            record, _ = yield from _record(line, lines, again, dialect, shape)
        yield record


def cells_of(record: RawRecord, text: str, dialect: Dialect, where: str, width: int) -> list[str]:
    """The fields of a record with this text; `width` is how many are expected. Raises BadInput."""
    if record.why:
        raise bad(where, record.why, HOW)
    if "\0" in text:
        raise bad(where, "a NUL character: this is no text", "Convert it to UTF-8 with iconv.")
    if dialect.marks == "none":
        return text.split(dialect.delimiter)
    if dialect.marks == "lenient":
        cells = _lenient_cells(text, dialect.delimiter)
        bare = text.split(dialect.delimiter)
        return bare if len(cells) != width == len(bare) else cells
    # The module's own limit of a field is 128 KiB, and is one for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    try:
        return next(csv.reader([text], delimiter=dialect.delimiter, strict=True))
    except csv.Error as error:
        raise bad(where, str(error), HOW) from None


def first_cells(record: RawRecord, dialect: Dialect, count: int) -> list[str]:
    """The fields at the beginning of a broken record that can be read for sure, at most `count`."""
    found: list[str] = []
    line = record.raw[:MAX_LINE_BYTES].partition(b"\n")[0].removesuffix(b"\r")
    for raw in line.split(dialect.delimiter.encode(), count)[:count]:
        bare = raw[1:-1] if len(raw) > 1 and raw[:1] == raw[-1:] == b'"' else raw
        if b'"' in bare and dialect.marks != "none":
            break
        try:
            found.append(bare.decode("utf-8"))
        except UnicodeDecodeError:
            break
    return found


def _record(
    first: RawRecord, lines: Lines, again: deque[RawRecord], dialect: Dialect, shape: _Shape
) -> Generator[None, None, tuple[RawRecord, int]]:
    """The record that begins with the line `first`, and how many separators it has.

    One that is broken is its first line with `why`; the others are put back to be read again.
    """
    if dialect.marks == "none":
        return _alone(first), first.raw.count(dialect.delimiter.encode())
    so_far, fields, why = yield from _gathered(first, lines, again, dialect, shape)
    if not why:
        raw = b"\n".join(line.raw for line in so_far).removesuffix(b"\r")
        return RawRecord(first.line, raw), fields
    again.extendleft(reversed(so_far[1:]))
    if dialect.marks == "lenient":  # its quotation marks are text
        return _alone(first), first.raw.count(dialect.delimiter.encode())
    return RawRecord(first.line, first.raw.removesuffix(b"\r"), why), fields


def _gathered(
    first: RawRecord, lines: Lines, again: deque[RawRecord], dialect: Dialect, shape: _Shape
) -> Generator[None, None, tuple[list[RawRecord], int, str]]:
    """The lines up to the end of the record, its separators, and what is wrong with it."""
    scan = _scan_lenient if dialect.marks == "lenient" else _scan
    delimiter = dialect.delimiter.encode()
    so_far, line = [first], first
    inside, fields, size = False, 0, 0
    while True:
        size += len(line.raw) + 1
        inside, more, why = scan(line.raw, inside, delimiter)
        fields += more
        # A CR and an LF are no part of the record.
        if size > MAX_LINE_BYTES + 2 or (inside and fields > shape.most):
            why = _OPEN if len(so_far) > 1 else TOO_LONG
        if why or not inside:
            return so_far, fields, why
        if dialect.marks == "lenient" and shape.single:
            return so_far, fields, _OPEN  # the next line may be a row as well: it is taken as one
        line = yield from _next(lines, again)
        if line is _END:
            return so_far, fields, _OPEN
        so_far.append(line)


def _alone(line: RawRecord) -> RawRecord:
    """A line as a record, with nothing said against it: what is too long is found when decoded."""
    return RawRecord(line.line, line.raw.removesuffix(b"\r"))


def _next(lines: Lines, again: deque[RawRecord]) -> Generator[None, None, RawRecord]:
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
            at, opened = _closing(line, at), False
            if at == len(line):
                return True, ended, ""
            at += 1
            if line[at : at + 1] not in (b"", b"\r", delimiter):
                return False, ended, _MIDDLE
        at = line.find(delimiter, at) + 1
        if at == 0:
            return False, ended, ""
        ended += 1


def _scan_lenient(line: bytes, inside: bool, delimiter: bytes) -> tuple[bool, int, str]:
    """As `_scan`, where a quotation mark that does not close at a field's end is text.

    A separator in an open field, on any but its first line, means that it was none: a row begins
    there.
    """
    at = 0
    if inside:
        at = _closing(line, 0)
        if line.find(delimiter, 0, at) >= 0:
            return False, 0, _OPEN
        if at == len(line):
            return True, 0, ""
        if line[at + 1 : at + 2] not in (b"", b"\r", delimiter):
            return False, 0, _MIDDLE
        at = line.find(delimiter, at + 1) + 1 or len(line)
    return _opens(line, at, delimiter), line.count(delimiter), ""


def _opens(line: bytes, at: int, delimiter: bytes) -> bool:
    """Whether a field from `at` on opens a quotation mark that the line does not close."""
    while at < len(line):
        if line.startswith(b'"', at):
            end = _closing(line, at + 1)
            if end == len(line):
                return True
            if line[end + 1 : end + 2] in (b"", b"\r", delimiter):
                at = end + 1
        at = line.find(delimiter, at) + 1 or len(line)
    return False


def _closing(line: bytes, at: int) -> int:
    """Where the quoted field closes whose text begins at `at`; the line's length if nowhere."""
    found = _QUOTED.match(line, at)
    return found.end() if found else len(line)


def _lenient_cells(text: str, delimiter: str) -> list[str]:
    """The fields; a quotation mark that does not close at a field's end is text."""
    cells: list[str] = []
    at = 0
    while True:
        quoted = _CELL.match(text, at) if text.startswith('"', at) else None
        if quoted and text[quoted.end() : quoted.end() + 1] in ("", delimiter):
            cells.append(quoted[1].replace('""', '"'))
            end = quoted.end()
        else:
            end = text.find(delimiter, at)
            end = len(text) if end < 0 else end
            cells.append(text[at:end])
        if end >= len(text):
            return cells
        at = end + 1
