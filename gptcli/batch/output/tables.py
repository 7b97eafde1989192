"""The finished rows as a JSON document, CSV, TSV or Parquet, made from their JSON lines.

A document takes one reading. Else the first reading finds the columns, which are the keys of all
rows in the order of their first coming, and of each the narrowest type that holds it; the second
writes, some rows at a time, so that memory does not grow with the file.
`usage` becomes a column a count and `error` its message, as in the other commands' CSV; any other
object or list is JSON. The same rows give the same bytes.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from stat import S_IMODE
from typing import Any, Literal, get_args

from gptcli.batch.output.output_files import OutputFiles
from gptcli.errors import CannotCreate, Unavailable
from gptcli.options.formats import format_of
from gptcli.system import durable
from gptcli.system.durable import write_all

BatchFormat = Literal["jsonl", "json", "csv", "tsv", "parquet"]
FORMATS: tuple[BatchFormat, ...] = get_args(BatchFormat)
Cell = str | int | float | bool | None
ColumnType = Literal["null", "bool", "int", "long", "float", "text"]  # long: no float64 holds it

GROUP_ROWS = 8192  # the most rows of a Parquet row group
GROUP_BYTES = 16 << 20  # of JSON lines, after which a row group ends
_PIECE_LENGTH = 1 << 18  # bytes of CSV written at a time

_QUOTED = re.compile(r'[",\t\r\n]|^\s|\s$')
_EXACT = 2**53  # beyond it a float64 skips integers
_WIDER: dict[frozenset[ColumnType], ColumnType] = {
    frozenset(("int", "long")): "long",
    frozenset(("int", "float")): "float",
}


def shape_of(output: Path) -> BatchFormat:
    """The format that a file's name asks for; JSON lines for a name without a suffix.

    Raises UsageError for a suffix that stands for no format of a table.
    """
    return format_of(os.fspath(output), FORMATS, "jsonl", override="")


def require(shape: BatchFormat) -> None:
    """Check that the format can be written. Raises Unavailable, with the command that helps."""
    if shape == "parquet" and find_spec("pyarrow") is None:
        hint = "pip install 'gptcli[parquet]', or write a .jsonl or .csv file."
        raise Unavailable("Parquet", "the package pyarrow is not installed", hint)


def convert(rows: Path, descriptor: int, shape: BatchFormat) -> None:
    """Write the rows of a file of JSON lines to an open file. Raises OSError."""
    if shape == "json":
        _write_list(rows, descriptor)
        return
    columns = _columns(rows)
    if shape == "parquet":
        _write_parquet(rows, columns, descriptor)
    else:
        _write_separated(rows, columns, descriptor, "\t" if shape == "tsv" else ",")


def make(files: OutputFiles, rows: Path, *, replaces: bool) -> None:
    """Put the output in its place, made from the rows in a file.

    Raises OSError; CannotCreate where there is another file, unless it `replaces` that.
    """
    with durable.making(files.part) as descriptor:
        convert(rows, descriptor, shape_of(files.output))
        if replaces:
            with suppress(FileNotFoundError):
                os.fchmod(descriptor, S_IMODE(files.output.stat().st_mode))
    try:
        # Of the same contents it is ours: a run was killed just after it was put there.
        if replaces or durable.same(files.part, files.output):
            durable.put(files.part, files.output)
        else:
            durable.put_new(files.part, files.output)
    except FileExistsError:
        hint = "Move it away, then run the same command again: the rows are kept."
        raise CannotCreate(files.name, "it was made meanwhile", hint) from None
    finally:
        durable.remove(files.part)


def _records(rows: Path) -> Iterator[tuple[dict[str, Cell], int]]:
    """Each row as cells, and how many bytes it takes as JSON."""
    with rows.open("rb") as file:
        for line in file:
            yield _flat(json.loads(line)), len(line)


def _flat(record: Mapping[str, object]) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for name, value in record.items():
        if name == "usage" and isinstance(value, dict):
            cells |= {count: _cell(number) for count, number in value.items()}
        elif name == "error" and isinstance(value, dict) and "message" in value:
            cells[name] = _cell(value["message"])
        else:
            cells[name] = _cell(value)
    return cells


def _cell(value: object) -> Cell:
    """A value of one cell; a lone surrogate, which no format takes, becomes an escape."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _columns(rows: Path) -> dict[str, ColumnType]:
    """The columns in order, and what type holds all of each."""
    found: dict[str, ColumnType] = {}
    for cells, _ in _records(rows):
        for name, value in cells.items():
            known = found.get(name, "null")
            if known != "text":
                found[name] = _wider(known, _kind(value))
    return found


def _kind(value: Cell) -> ColumnType:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if abs(value) <= _EXACT:
            return "int"
        return "long" if -(2**63) <= value < 2**63 else "text"
    return "float" if isinstance(value, float) else "text"


def _wider(one: ColumnType, other: ColumnType) -> ColumnType:
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    return _WIDER.get(frozenset((one, other)), "text")


def _text(value: Cell) -> str:
    """A cell as text: numbers and truth values as JSON has them, nothing for null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _write_list(rows: Path, descriptor: int) -> None:
    """One JSON document: a list with a row a line, as each row is in JSON lines."""
    between = b"[\n"
    with rows.open("rb") as file:
        for line in file:
            write_all(descriptor, between + line.rstrip(b"\n"))
            between = b",\n"
    write_all(descriptor, b"\n]\n" if between == b",\n" else b"[]\n")


def _write_separated(
    rows: Path, columns: Mapping[str, ColumnType], descriptor: int, separator: str
) -> None:
    """RFC 4180, with lines that end in LF; what holds a separator, quote or line break is quoted.

    An empty text is quoted too, so that it differs from null where a reader can tell.
    """
    held = separator.join(map(_quoted, columns)) + "\n"
    for cells, _ in _records(rows):
        held += separator.join(_quoted(cells.get(name)) for name in columns) + "\n"
        if len(held) >= _PIECE_LENGTH:
            write_all(descriptor, held.encode("utf-8"))
            held = ""
    write_all(descriptor, held.encode("utf-8"))


def _quoted(value: Cell) -> str:
    text = _text(value)
    if value == "" or _QUOTED.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _write_parquet(rows: Path, columns: Mapping[str, ColumnType], descriptor: int) -> None:
    pyarrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    types = {
        "null": pyarrow.string(),
        "text": pyarrow.string(),
        "bool": pyarrow.bool_(),
        "int": pyarrow.int64(),
        "long": pyarrow.int64(),
        "float": pyarrow.float64(),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    with (
        os.fdopen(descriptor, "wb", closefd=False) as file,
        parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for group in _groups(rows):
            table = {
                name: [_typed(cells.get(name), kind) for cells in group]
                for name, kind in columns.items()
            }
            writer.write_table(pyarrow.table(table, schema=schema), row_group_size=len(group))


def _groups(rows: Path) -> Iterator[list[dict[str, Cell]]]:
    """The rows of each row group."""
    group: list[dict[str, Cell]] = []
    held = 0
    for cells, size in _records(rows):
        group.append(cells)
        held += size
        if len(group) >= GROUP_ROWS or held >= GROUP_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _typed(value: Cell, kind: ColumnType) -> Cell:
    """The value as its column has it."""
    if value is None:
        return None
    if kind == "text":
        return _text(value)
    return float(value) if kind == "float" else value
