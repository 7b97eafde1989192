"""Many inputs, one a line or one a row of a table, from a file, standard input or the argument.

A line is handed on as soon as it is whole, and nothing is read ahead that is not asked for: a file
of any size takes little memory, and what a slow pipe has not sent yet never keeps the lines before
it waiting. A bad line is a line with an error: those after it are still read. A file whose name
ends in .csv, .tsv or .jsonl is a table; so is any input where an option of tables is given.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from gptcli.errors import BadInput, GptcliError, MissingInput, UsageError
from gptcli.inputs.columns import TextColumn
from gptcli.inputs.dialect import header_notice
from gptcli.inputs.encoding import checked
from gptcli.inputs.pieces import HOW_LINES, MAX_LINE_BYTES, TOO_LONG, pieces, split
from gptcli.inputs.prompt import (
    SHORTEN,
    check_sources,
    decode,
    empty,
    encode_argument,
    errors_of_file,
    refuse_file_name,
)
from gptcli.inputs.records import Note
from gptcli.inputs.table import TableFormat, TableRow, format_of_table, read_table
from gptcli.options import Input, TableInput
from gptcli.system.regular_files import open_stream


@dataclass(frozen=True)
class InputLine:
    """An input, or why it cannot be one; `number` counts lines, of a table its rows, from 1.

    `id` is the row's own, else the number; where other rows have ids of their own it is
    `row:NUMBER`, which is none of theirs. `others` are the other columns of a table.
    """

    number: int
    text: str | None
    error: GptcliError | None = None
    id: str = ""
    others: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", str(self.number))


def unheard(notice: str) -> None:
    """A `note` for those who have nowhere to say it."""


def read_lines(
    argument: str | None,
    input: Input,
    stdin: BinaryIO | None,
    table: TableInput | None = None,
    note: Note = unheard,
    defaults: Sequence[str] = ("prompt", "text"),
) -> Iterator[InputLine | None]:
    """The lines, or rows, of the argument, the file or standard input; None for "none right now".

    A line ends at LF, or at the end of the input; one CR before it is dropped, as is a byte order
    mark at the very beginning. A line has an error if it is empty or blank (UsageError, unless
    `input.allow_empty`), no UTF-8 or longer than 1 MiB (BadInput), or no row of its table
    (BadInput). Without `table` no input is one; `defaults` are names of the text's column, for
    where the option names none.

    Raises, before anything is read, UsageError (no input, two of them, a bad file name, an argument
    that is a file's name, a column that a file does not have), MissingInput (the file) and BadInput
    (a file in UTF-16); while reading, the same of standard input.
    """
    _check(argument, input)
    if argument not in (None, "-"):
        text = encode_argument(str(argument))
        return _plain(iter([text] if text else []), input, "argument", unheard)
    shape = None if table is None else _shape(input.file, table)

    def read(stream: BinaryIO, source: str, name: str) -> Iterator[InputLine | None]:
        data = checked(pieces(stream, source), source)
        if table is None or shape is None:
            return _plain(data, input, source, note)
        wanted = (TextColumn(table.column, tuple(defaults), what="the text"),)
        rows = read_table(data, name, shape, table, note, wanted, input.errors)
        return _rows(rows, input)

    if input.file not in (None, "-"):
        with errors_of_file(str(input.file)):
            file = open_stream(str(input.file))
        begun = _closed(read(file, f"file {input.file}", str(input.file)), file)
        return _begun(begun) if Path(str(input.file)).is_file() else begun
    absent = input.no_stdin or stdin is None or stdin.isatty()
    if absent and "-" not in (argument, input.file):
        raise UsageError("no lines", "standard input is a terminal or closed", HOW_LINES)
    if stdin is None:
        raise MissingInput("standard input", "it is closed", HOW_LINES)
    return read(stdin, "standard input", "standard input")


def _check(argument: str | None, input: Input) -> None:
    check_sources(argument, input)
    if argument is not None and input.file is not None:
        raise UsageError("--lines", "an argument and a file are both given", "Drop one of them.")
    if argument is not None:
        refuse_file_name(argument, "--lines")


def _shape(file: str | None, table: TableInput) -> TableFormat | None:
    """What kind of table a file is by its name, or an input of other names by the options."""
    found = format_of_table(file)
    if found is not None or not table.given:
        return found
    return "tsv" if table.separator == "\t" else "csv"


def _begun(lines: Iterator[InputLine | None]) -> Iterator[InputLine | None]:
    """The lines, of which the first is read now, for the errors that this raises."""
    return _behind(next(lines, None), lines)


def _behind(
    first: InputLine | None, lines: Iterator[InputLine | None]
) -> Iterator[InputLine | None]:
    if first is not None:
        yield first
    yield from lines


def _closed(lines: Iterator[InputLine | None], stream: BinaryIO) -> Iterator[InputLine | None]:
    """The lines; the stream is closed when they end."""
    with ExitStack() as stack:
        stack.enter_context(stream)
        yield from lines


def _plain(
    data: Iterator[bytes | None], input: Input, source: str, note: Note
) -> Iterator[InputLine | None]:
    number = 0
    for line in split(data):
        if line is None:
            yield None
            continue
        number += 1
        notice = header_notice(line, source) if number == 1 else None
        if notice is not None:
            note(notice)
        start = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
        yield _line(number, line, start, input)


def _line(number: int, data: bytes, start: int, input: Input) -> InputLine:
    """The line of these bytes, from `start` on."""
    try:
        if len(data) > MAX_LINE_BYTES:
            raise BadInput(f"line {number}", TOO_LONG, SHORTEN)
        text = decode(data, input, f"line {number}", start)
        if not text.strip() and not input.allow_empty:
            raise empty(f"line {number} is empty")
    except GptcliError as error:
        return InputLine(number, None, error)
    return InputLine(number, text)


def _rows(rows: Iterator[TableRow | None], input: Input) -> Iterator[InputLine | None]:
    number = 0
    for row in rows:
        if row is None:
            yield None
            continue
        number += 1
        yield _row(number, row, input)


def _row(number: int, row: TableRow, input: Input) -> InputLine:
    id = row.id or (f"row:{number}" if row.has_ids else str(number))
    error = row.error
    if error is None and not row.texts[0].strip() and not input.allow_empty:
        error = empty(f"line {row.line} is empty")
    return InputLine(number, None if error else row.texts[0], error, id, row.others)
