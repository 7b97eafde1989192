"""Rows of tables as documents: a text, or a prompt and its completion.

A row that is broken ends it all, by its place: whoever trains wants to know. JSON lines may be
long, since a row can be a book; what a CSV row may be is the limit of `gptcli.inputs`.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal
from unicodedata import category

from gptcli.errors import BadInput, UsageError
from gptcli.inputs.columns import TextColumn
from gptcli.inputs.json_lines import SHAPE, check_once, parse_line
from gptcli.inputs.records import bad, kind_of, place, whole
from gptcli.inputs.table import TableRow, read_table
from gptcli.options.common import TableInput
from gptcli.training.data.input.reading import DataSource
from gptcli.training.data.input.separating import DocumentPart
from gptcli.training.data.options import DataReading

MAX_ROW_BYTES = 1 << 25  # of JSON: its text takes up to ten times that in memory
TEXT = ("text", "content")
PROMPT, COMPLETION = ("prompt",), ("completion", "response")
_MESSAGES = ("messages", "conversations")


@dataclass
class RowsFound:
    """What rows were, for the plan."""

    rows: int = 0
    pairs: int = 0
    empty: int = 0
    columns: dict[str, None] = field(default_factory=dict)  # of texts, in order
    unspaced: int = 0  # completions that begin with a word, right behind the prompt's last
    spaced: int = 0  # prompts that end in a space


@dataclass(frozen=True)
class Wanted:
    """The columns that are asked for."""

    text: TextColumn
    prompt: TextColumn
    completion: TextColumn
    pairs: bool  # asked for
    texts: bool

    @classmethod
    def of(cls, reading: DataReading) -> Wanted:
        """Raises UsageError where both kinds are asked for."""
        pairs = bool(reading.prompt_column or reading.completion_column)
        if pairs and reading.column:
            raise UsageError("--column", "it excludes --prompt-column", "Leave one of them out.")
        return cls(
            TextColumn(reading.column, TEXT, what="the text"),
            TextColumn(reading.prompt_column, PROMPT, "--prompt-column", "the prompt"),
            TextColumn(
                reading.completion_column, COMPLETION, "--completion-column", "the completion"
            ),
            pairs,
            bool(reading.column),
        )


def json_parts(
    source: DataSource, reading: DataReading, found: RowsFound
) -> Iterator[DocumentPart]:
    """The rows of JSON lines. Raises BadInput, MissingInput."""
    wanted = Wanted.of(reading)
    for line, raw in _lines(source):
        where = place(source.name, "line", line)
        try:
            text = raw.decode("utf-8", reading.errors)
        except UnicodeDecodeError as error:
            hint = "Convert it with iconv, or replace such bytes with --errors replace."
            raise bad(where, f"invalid UTF-8 at byte {error.start}", hint) from None
        if text.strip():
            yield from _parts(_of_json(parse_line(text, where), where, wanted, found), found)


def table_parts(
    open_pieces: Callable[[], Iterator[bytes]],
    source: DataSource,
    reading: DataReading,
    found: RowsFound,
    note: Callable[[str], object],
) -> Iterator[DocumentPart]:
    """The rows of CSV or TSV. Raises as `read_table`, and BadInput for a row that is broken.

    open_pieces: reads the file from its beginning without taking note, for a look at its header.
    """
    wanted = Wanted.of(reading)
    columns = [wanted.prompt, wanted.completion]
    if not wanted.pairs:
        try:
            if not wanted.texts:
                next(_table(open_pieces(), source, reading, columns, _unheard), None)
        except UsageError:
            columns = [wanted.text]
        else:
            columns = [wanted.text] if wanted.texts else columns
    for row in _table(source.pieces(), source, reading, columns, note):
        if row.error is not None:
            raise row.error
        names = [column.names[0] for column in columns]
        yield from _parts(dict(zip(names, row.texts, strict=True)), found, len(columns) == 2)


def values_parts(
    rows: Iterator[tuple[str, Mapping[str, object]]], found: RowsFound, pair: bool
) -> Iterator[DocumentPart]:
    """Rows of values by their columns' names, each with its place. Raises BadInput."""
    for where, values in rows:
        texts = {name: _text(value, where, f"column {name}") for name, value in values.items()}
        yield from _parts(texts, found, pair)


def _table(
    pieces: Iterator[bytes],
    source: DataSource,
    reading: DataReading,
    columns: list[TextColumn],
    note: Callable[[str], object],
) -> Iterator[TableRow]:
    kind: Literal["csv", "tsv"] = "tsv" if source.file.format == "tsv" else "csv"
    table = TableInput(delimiter=reading.delimiter, quoting=reading.quoting)
    rows = read_table(pieces, source.name, kind, table, note, columns, reading.errors)
    return (row for row in rows if row is not None)


def _unheard(notice: str) -> None:
    """Say nothing: the file is read once more."""


def _of_json(value: object, where: str, wanted: Wanted, found: RowsFound) -> Mapping[str, str]:
    """The texts of a row by their keys: one, or two of a pair."""
    if isinstance(value, str) and not wanted.pairs and not wanted.texts:
        return {"text": whole(value, where, "the text")}
    if not isinstance(value, dict):
        raise bad(where, "not an object", SHAPE.replace("prompt", "text"))
    keys = _keys(value, where, wanted)
    check_once(value, keys, where)
    return {key: _text(value[key], where, f"key {key}") for key in keys}


def _keys(row: Mapping[str, object], where: str, wanted: Wanted) -> tuple[str, ...]:
    prompt = next((name for name in wanted.prompt.names if name in row), None)
    completion = next((name for name in wanted.completion.names if name in row), None)
    if not wanted.texts and prompt is not None and completion is not None:
        return prompt, completion
    if wanted.pairs:
        lacks = wanted.prompt if prompt is None else wanted.completion
        raise _missing(row, where, lacks)
    text = next((name for name in wanted.text.names if name in row), None)
    if text is not None:
        return (text,)
    if len(row) == 1 and not wanted.texts and isinstance(next(iter(row.values())), str):
        return tuple(row)
    for name in _MESSAGES:
        if name in row and not wanted.texts:
            hint = 'Write each turn to learn as {"prompt": "...", "completion": "..."}.'
            raise bad(where, f"{name}: a conversation, and GPT-2 has no template for one", hint)
    raise _missing(row, where, wanted.text)


def _missing(row: Mapping[str, object], where: str, column: TextColumn) -> BadInput:
    known = ", ".join(str(name)[:60] for name in list(row)[:20])
    why = f"no key {' or '.join(column.names)}; it has {known or 'none'}"
    return bad(where, why, f"Name {column.what}'s key with {column.flag}.")


def _text(value: object, where: str, what: str) -> str:
    """A text; null is an empty one. Raises BadInput."""
    if value is None or value != value:  # NaN, a data frame's word for nothing
        return ""
    if not isinstance(value, str):
        raise bad(where, f"{what} is {kind_of(value)}, not a text", "Name another column.")
    return whole(value, where, what)


def _parts(
    texts: Mapping[str, str], found: RowsFound, pair: bool | None = None
) -> Iterator[DocumentPart]:
    found.rows += 1
    for name in texts:
        found.columns[name] = None
    if not (len(texts) == 2 if pair is None else pair):
        yield DocumentPart(next(iter(texts.values())), last=True)
        return
    prompt, completion = texts.values()
    if not completion.strip():
        found.empty += 1
        return
    found.pairs += 1
    found.unspaced += bool(prompt) and _unspaced(prompt[-1], completion[0])
    found.spaced += prompt.endswith(" ")
    yield DocumentPart(prompt, False, "prompt")
    yield DocumentPart(completion, True, "completion")


def _unspaced(last: str, first: str) -> bool:
    """Whether a word begins right behind a prompt that ends in no space, as none does in a text.

    Scripts without spaces, and what opens a quotation or bracket, have none there.
    """
    word = first.isalnum() and not "\u2e80" <= first <= "\uffff"
    return word and not last.isspace() and category(last) not in ("Ps", "Pi") and last not in "\"'"


def _lines(source: DataSource) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers, from 1. Raises BadInput for one that is too long."""
    held, number = bytearray(), 0
    for piece in source.pieces():
        if number == 0 and not held:
            piece = piece.removeprefix(codecs.BOM_UTF8)
        *ended, rest = piece.split(b"\n")
        for part in ended:
            number += 1
            held += part
            yield number, bytes(held)
            held.clear()
        held += rest
        if len(held) > MAX_ROW_BYTES:
            where = place(source.name, "line", number + 1)
            hint = "Give long texts as files of text, which may be of any length."
            raise bad(where, f"longer than {MAX_ROW_BYTES >> 20} MiB", hint)
    if held:
        yield number + 1, bytes(held)
