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
_MAX_RECORD_BYTES = MAX_LINE_BYTES + 2  # a CR and an LF are no part of the record
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

Scan = Callable[[bytes, bool, bytes], tuple[bool, int, str]]
"""What a line does to a quoted field, see `_scan`."""


def cut(lines: Lines, dialects: Dialects) -> Generator[RawRecord | None, None, None]:
    """The lines put together to records, the header first; None is handed on."""
    ahead = _Ahead(lines)
    dialect: Dialect | None = None
    shape = _Shape()
    while True:
        line = yield from ahead.next()
        if line is _END:
            return
        if line.raw in (b"", b"\r"):
            continue
        if dialect is None:
            dialect = dialects(line)
            record, fields = yield from _record(line, ahead, dialect, shape)
            shape = _Shape(fields + _SURPLUS_FIELDS, single=fields == 0)
        else:
            record, _ = yield from _record(line, ahead, dialect, shape)
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
    first: RawRecord, ahead: _Ahead, dialect: Dialect, shape: _Shape
) -> Generator[None, None, tuple[RawRecord, int]]:
    """The record that begins with the line `first`, and how many separators it has.

    One that is broken is its first line with `why`; the others are read again.
    """
    if dialect.marks == "none":
        return _alone(first), first.raw.count(dialect.delimiter.encode())
    more, fields, why = yield from _gathered(first, ahead, dialect, shape)
    if not why:
        raw = b"\n".join(line.raw for line in (first, *more)).removesuffix(b"\r")
        return RawRecord(first.line, raw), fields
    if dialect.marks == "lenient":  # its quotation marks are text
        return _alone(first), first.raw.count(dialect.delimiter.encode())
    return RawRecord(first.line, first.raw.removesuffix(b"\r"), why), fields


def _gathered(
    first: RawRecord, ahead: _Ahead, dialect: Dialect, shape: _Shape
) -> Generator[None, None, tuple[list[RawRecord], int, str]]:
    """The other lines of the record, its separators, and what is wrong with it."""
    delimiter = dialect.delimiter.encode()
    scan = _scan_lenient if dialect.marks == "lenient" else _scan
    inside, fields, why = scan(first.raw, False, delimiter)
    if len(first.raw) >= _MAX_RECORD_BYTES or (inside and fields > shape.most):
        return [], fields, TOO_LONG
    if why or not inside:
        return [], fields, why
    if dialect.marks == "lenient" and shape.single:
        return [], fields, _OPEN  # the next line may be a row as well: it is taken as one
    more, why = yield from _closed(len(first.raw) + 1, fields, ahead, scan, delimiter, shape)
    if why:
        return [], fields, why
    return ahead.taken(), fields + more, ""


def _closed(
    size: int, fields: int, ahead: _Ahead, scan: Scan, delimiter: bytes, shape: _Shape
) -> Generator[None, None, tuple[int, str]]:
    """How many separators the lines up to the closing quote have, and what is wrong with them.

    `size` and `fields` are those of the line that opens the field.
    """
    inside = True
    while inside:
        if size + ahead.size > _MAX_RECORD_BYTES or fields + ahead.fields > shape.most:
            return 0, _OPEN
        found = yield from ahead.further(scan, delimiter)
        if found is None:
            return 0, _OPEN
        inside, more, why = found
    if size + ahead.size + ahead.closing_size > _MAX_RECORD_BYTES:
        return 0, _OPEN
    return ahead.fields + more, why


class _Ahead:
    """The lines that come next, of which some were read already to find a closing quote.

    Behind a line that opens a field, the lines that leave it open are the same wherever it was
    opened. So of each line is kept what its scan found, and a line is scanned once as a part of
    such a field, however many lines before it begin one that is never closed.
    """

    def __init__(self, lines: Lines) -> None:
        self.size = self.fields = 0  # bytes and separators of the lines that leave a field open
        self.closing_size = 0  # bytes of the line behind them, that ends it
        self._lines = lines
        self._read: deque[RawRecord] = deque()
        self._open: deque[int] = deque()  # separators of its first lines, that leave a field open
        self._end: tuple[bool, int, str] | None = None  # the scan of the line behind those

    def next(self) -> Generator[None, None, RawRecord]:
        """Take the next line, or _END; None is handed on while there is none."""
        if not self._read:
            return (yield from self._fetched())
        line = self._read.popleft()
        if self._open:
            self.size -= len(line.raw) + 1
            self.fields -= self._open.popleft()
        else:
            self._end, self.closing_size = None, 0
        return line

    def further(
        self, scan: Scan, delimiter: bytes
    ) -> Generator[None, None, tuple[bool, int, str] | None]:
        """The scan of the next line behind those that leave a field open; None if there is none.

        That line is one of them from now on, or the one that ends the field.
        """
        if self._end is not None:
            return self._end
        if len(self._read) == len(self._open):
            line = yield from self._fetched()
            if line is _END:
                return None
            self._read.append(line)
        line = self._read[len(self._open)]
        found = scan(line.raw, True, delimiter)
        if found[0]:
            self.size += len(line.raw) + 1
            self.fields += found[1]
            self._open.append(found[1])
        else:
            self._end, self.closing_size = found, len(line.raw) + 1
        return found

    def taken(self) -> list[RawRecord]:
        """Take the lines up to the one that ends the field."""
        found = [self._read.popleft() for _ in range(len(self._open) + 1)]
        self._open.clear()
        self.size = self.fields = self.closing_size = 0
        self._end = None
        return found

    def _fetched(self) -> Generator[None, None, RawRecord]:
        while True:
            line = next(self._lines, _END)
            if line is not None:
                return line
            yield None


def _alone(line: RawRecord) -> RawRecord:
    """A line as a record, with nothing said against it: what is too long is found when decoded."""
    return RawRecord(line.line, line.raw.removesuffix(b"\r"))


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
