"""Reads the texts to score: from the argument, from files or standard input, whole or by rows.

A text can be a chapter or a test set. One line break at the end of a file is not part of the text.
A file is rows where it is a table, by its name or by an option of tables, and with `lines`. Every
file is opened once before the model loads, so a missing file costs nothing. A file that cannot be
decoded is a text with an error, and the others are still scored. Not here: minimal pairs are in
`gptcli.scoring.pair_files`.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import BinaryIO

from gptcli.errors import BadInput, GptcliError, MissingInput, UsageError
from gptcli.inputs.columns import CarriedNames
from gptcli.inputs.encoding import refuse_foreign
from gptcli.inputs.json_lines import plain
from gptcli.inputs.lines import InputLine, read_lines
from gptcli.inputs.prompt import decode, encode_argument, errors_of_file, refuse_file_name
from gptcli.inputs.records import Note
from gptcli.inputs.table import format_of_table
from gptcli.options import Input, TableInput
from gptcli.options.shared import Errors
from gptcli.scoring.regions import Region, labelled
from gptcli.scoring.scorer import TextToScore
from gptcli.scoring.units import Unit, cutter
from gptcli.system.os_errors import reason
from gptcli.system.regular_files import open_stream

MAX_TEXT_BYTES = 8 << 20  # some two million tokens, all in memory
TEXT_COLUMNS = ("text", "sentence", "prompt")
HOW = 'Give it as an argument, gptcli score "Once upon a time.", or by -f FILE, or by a pipe.'


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where texts come from: the `argument`, else the `files`, else standard input."""

    argument: str | None = None
    files: Sequence[str] = ()
    lines: bool = False  # every line is a text
    errors: Errors = "strict"  # for bytes that are not UTF-8
    table: TableInput = field(default_factory=TableInput)
    regions: str | None = None  # the column with one label for each word
    units: Unit = "word"  # what a word is

    @property
    def input(self) -> Input:
        """The same for the readers of lines and bytes. The scorer refuses empty texts."""
        return Input(errors=self.errors, allow_empty=True)

    @property
    def names(self) -> Sequence[str]:
        """The files to read; none with an argument."""
        return self.files or (("-",) if self.argument in (None, "-") else ())

    def by_rows(self, name: str) -> bool:
        """Whether each line or row of a file is a text."""
        return self.lines or self.table.given or format_of_table(name) is not None

    @property
    def is_table(self) -> bool:
        """Whether a file is a table: rows can have ids of their own."""
        tables = (format_of_table(name) is not None for name in self.names)
        return self.table.given or any(tables)

    @property
    def single(self) -> bool:
        """Whether all is one text."""
        if not self.names:
            return not self.lines
        return len(self.names) == 1 and not self.by_rows(self.names[0])


def read_texts(
    source: TextSource, stdin: BinaryIO | None, note: Note, names: CarriedNames
) -> Iterator[TextToScore | None]:
    """The texts; None for "none right now". Other columns go into `carried`, under `names`.

    Ids: a file's name, "-" for standard input, "0" for the argument. Of a row its own id, else its
    number; after the file's name where there are several files. An empty row is an empty text.
    Raises before it reads: UsageError (no input, a bad name, standard input twice, an argument that
    is a file's name, a column that a file does not have) and MissingInput (a file). Raises while it
    reads: the same of standard input.
    """
    _check(source, stdin)
    if source.table.given and not source.names:
        note("--column and its like are for tables: the text is scored as it is")
    if not source.names:
        if source.lines:
            return _rows(source, None, "", stdin, note, names)
        return iter([_argument(str(source.argument), source.input)])
    first, *others = source.names
    begun = _of_file(source, first, stdin, note, names)
    return chain(begun, *(_later(source, name, stdin, note, names) for name in others))


def _check(source: TextSource, stdin: BinaryIO | None) -> None:
    """Refuse files that cannot be opened, before the model loads."""
    names, argument = source.files, source.argument
    if argument not in (None, "-"):
        refuse_file_name(str(argument), "TEXT")
    for name in names:
        if name == "":
            raise UsageError("--file", "the name is empty", "Name a file.")
        if name != "-":
            with errors_of_file(name), open_stream(name):
                pass
    if names.count("-") > 1:
        raise UsageError("standard input", "it is asked for twice", "Give - once.")
    wanted = "-" in source.names
    if wanted and stdin is None:
        raise MissingInput("standard input", "it is closed", HOW)
    named = "-" in names or argument == "-"
    if wanted and not named and stdin is not None and stdin.isatty():
        raise UsageError("no text", "standard input is a terminal", HOW)


def _of_file(
    source: TextSource, name: str, stdin: BinaryIO | None, note: Note, names: CarriedNames
) -> Iterator[TextToScore | None]:
    """The texts of a file; of a table the header is read now."""
    if source.by_rows(name):
        prefix = f"{name}:" if len(source.files) > 1 else ""
        return _rows(source, name, prefix, stdin, note, names)
    return iter([_whole(name, source.input, stdin)])


def _later(
    source: TextSource, name: str, stdin: BinaryIO | None, note: Note, names: CarriedNames
) -> Iterator[TextToScore | None]:
    """The texts of a file that is opened when its turn comes; what refuses it is a text's error."""
    try:
        yield from _of_file(source, name, stdin, note, names)
    except GptcliError as error:
        yield TextToScore(name, "", error)


def _rows(
    source: TextSource,
    name: str | None,
    prefix: str,
    stdin: BinaryIO | None,
    note: Note,
    names: CarriedNames,
) -> Iterator[TextToScore | None]:
    """The lines or rows of a file, or of the argument."""
    argument = source.argument if name is None else None
    input = replace(source.input, file=name)
    lines = read_lines(argument, input, stdin, source.table, note, TEXT_COLUMNS)
    if source.regions is not None and name not in (None, "-"):
        lines = _with_column(lines, source.regions, str(name))
    return (None if line is None else _row(line, prefix, source, names) for line in lines)


def _with_column(
    lines: Iterator[InputLine | None], column: str, name: str
) -> Iterator[InputLine | None]:
    """The lines of a file; the first one is read now. Raises UsageError without the column."""
    first = next(lines, None)
    if first is not None and first.error is None and column not in first.others:
        raise _no_column(column, name)
    return chain((first,), lines)


def _no_column(column: str, where: str) -> UsageError:
    hint = "Name a column with a label for each word, or a mark such as |."
    return UsageError("--regions", f"{where} has no column {column!r}", hint)


def _row(line: InputLine, prefix: str, source: TextSource, names: CarriedNames) -> TextToScore:
    others: Mapping[str, object] = line.others
    key = source.table.id_column
    if key is not None and key != "id" and not key.isdigit():
        others = {key: line.id, **others}  # under its own name, too: for a merge of data frames
    carried = {key: plain(value) for key, value in names.carried(others).items()}
    text, error, regions = line.text or "", line.error, tuple[Region, ...]()
    if error is None and source.regions is not None:
        try:
            regions = _labelled(text, source, line)
        except GptcliError as found:
            error = found
    return TextToScore(f"{prefix}{line.id}", text, error, regions, carried)


def _labelled(text: str, source: TextSource, line: InputLine) -> tuple[Region, ...]:
    """The regions that a row's column names. Raises UsageError and BadInput."""
    column = str(source.regions)
    if column not in line.others:
        raise _no_column(column, f"row {line.number}")
    value = line.others[column]
    labels = value if isinstance(value, list) else str(value).split()
    return labelled([*cutter(source.units)(text)], [str(label) for label in labels])


def _argument(argument: str, input: Input) -> TextToScore:
    return TextToScore("0", decode(encode_argument(argument), input, "argument"))


def _whole(name: str, input: Input, stdin: BinaryIO | None) -> TextToScore:
    """A file or standard input as one text."""
    where = "standard input" if name == "-" else f"file {name}"
    try:
        data = read_bytes(name, stdin)
        refuse_foreign(data, where)
        start = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
        text = decode(data, input, where, start)
    except GptcliError as error:
        return TextToScore(name, "", error)
    return TextToScore(name, text[:-2] if text.endswith("\r\n") else text.removesuffix("\n"))


def read_bytes(name: str, stdin: BinaryIO | None, most: int = MAX_TEXT_BYTES) -> bytes:
    """The bytes of a file, or of standard input for "-". Raises MissingInput, BadInput (size)."""
    if name != "-":
        with errors_of_file(name), open_stream(name) as file:
            data = file.read(most + 1)
    elif stdin is None:
        raise MissingInput("standard input", "it is closed", HOW)
    else:
        try:
            data = stdin.read(most + 1)
        except OSError as error:
            raise MissingInput("standard input", reason(error), "Use -f FILE.") from None
    if len(data) > most:
        shown = "standard input" if name == "-" else f"file {name}"
        limit = f"more than {most >> 20} MiB"
        raise BadInput(shown, limit, "Split it, or score it by --lines.")
    return data
