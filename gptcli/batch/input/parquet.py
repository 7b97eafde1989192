"""Rows of Parquet files, by pyarrow.

Memory is that of one row group and no more. What stands for a row's raw bytes is the JSON of its
values: two files with the same rows have the same digests. Parquet from a pipe cannot be read,
because its table of contents stands at the end.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gptcli.batch.input.entries import ParsedRow, entry_of
from gptcli.batch.input.notices import RowNotices
from gptcli.batch.options import BatchInput
from gptcli.errors import BadInput, GptcliError, Unavailable
from gptcli.inputs.columns import TableColumns, TextColumn, chosen
from gptcli.inputs.json_lines import plain
from gptcli.inputs.records import bad, identity, place, text_of
from gptcli.inputs.table import TableRow

MAGIC = b"PAR1"
_ROWS_AT_A_TIME = 256  # read at a time


def read(
    path: Path, name: str, reading: BatchInput, notices: RowNotices
) -> Iterator[ParsedRow | None]:
    """The rows of a Parquet file.

    Raises BadInput (not Parquet, damaged), UsageError (a wrong column), Unavailable (no pyarrow).
    """
    library = _pyarrow()
    with _errors(name), library.ParquetFile(path) as file:
        wanted = (TextColumn(reading.column),)
        schema = file.schema_arrow
        columns = chosen(schema.names, name, wanted, reading.id_column)
        binary = {at for at, kind in enumerate(schema.types) if "binary" in str(kind)}
        binary &= columns.others.keys()
        for at in sorted(binary):
            notices.say(f"{name}: column {schema.names[at]} holds bytes, and is not carried along")
        others = {at: title for at, title in columns.others.items() if at not in binary}
        line = 0
        read = _read(schema.names, binary)
        places = [at for at in range(len(schema.names)) if read is None or at not in binary]
        for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=read):
            held = ((at, batch.column(index)) for index, at in enumerate(places))
            cells = {at: column for at, column in held if at not in binary}
            for index in range(batch.num_rows):
                line += 1
                row = _row(cells, index, columns, others, name, line)
                yield entry_of(row, name, reading, notices)


def _read(names: list[str], binary: set[int]) -> list[str] | None:
    """The columns to read; None for all: a name can stand twice, and its dots make it a path."""
    plain_names = len(set(names)) == len(names) and all(name and "." not in name for name in names)
    if not binary or not plain_names:
        return None
    return [name for at, name in enumerate(names) if at not in binary]


def _row(
    cells: dict[int, Any],
    index: int,
    columns: TableColumns,
    others: dict[int, str],
    name: str,
    line: int,
) -> TableRow:
    where = place(name, "row", line)
    values: dict[int, object] = {}
    error: GptcliError | None = None
    for at, cell in cells.items():
        try:
            values[at] = _value(cell[index], columns.header[at], where)
        except GptcliError as problem:
            error = error or problem
    named = {columns.header[at]: value for at, value in values.items()}
    raw = json.dumps(plain(named), ensure_ascii=False, sort_keys=True)
    id: str | None = None
    texts: tuple[str, ...] = ()
    try:
        id = identity(values.get(columns.id), where) if columns.id is not None else None
        if error is None:
            texts = tuple(text_of(values[at], where, "the prompt") for at in columns.texts)
    except GptcliError as problem:
        error = error or problem
    carried = {title: values[at] for at, title in others.items() if at in values}
    has_ids, key = columns.id is not None, raw.encode("utf-8", "replace")
    return TableRow(line, key, id, texts, carried, error, has_ids, "row")


def _value(cell: Any, title: str, where: str) -> object:
    """The cell; NaN, a data frame's word for nothing, is None. Raises BadInput for bad UTF-8."""
    try:
        value = _read_value(cell)
    except UnicodeDecodeError as error:
        why = f"{title}: invalid UTF-8 at byte {error.start}"
        raise bad(where, why, "Write the file again, with texts in UTF-8.") from None
    return None if isinstance(value, float) and math.isnan(value) else value


def _read_value(cell: Any) -> object:
    """A value of Python; its text where Python has none, as of dates beyond the year 9999."""
    try:
        return _bare(cell.as_py())
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError):
        return _by_parts(cell)


def _by_parts(cell: Any) -> object:
    """A value that is not to be had whole: part by part, and what has none as text."""
    kinds, kind = importlib.import_module("pyarrow.types"), cell.type
    if kinds.is_map(kind):
        return {_key(_read_value(pair[0])): _read_value(pair[1]) for pair in cell.values}
    if kinds.is_struct(kind):
        parts = {kind.field(at).name: _read_value(cell[at]) for at in range(kind.num_fields)}
        return {name: part for name, part in parts.items() if part is not None}
    if kinds.is_nested(kind):
        return [_read_value(item) for item in cell.values]
    ways: tuple[Callable[[], object], ...] = (
        lambda: str(cell),
        lambda: cell.cast("string"),
        lambda: cell.value,  # of a time its number
    )
    errors = ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError
    for way in ways:
        with suppress(*errors, ValueError):
            return str(way())
    return str(kind)


def _bare(value: object) -> object:
    """A map, which comes as a list of pairs, as the object that it is in JSON."""
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) for item in value):
            return {_key(key): _bare(item) for key, item in value}
        return [_bare(item) for item in value]
    if isinstance(value, dict):  # of a struct each key is there, with nothing where it is not set
        return {key: _bare(item) for key, item in value.items() if item is not None}
    return value


def _key(key: object) -> str:
    """A map's key as a key of JSON, which is a text."""
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    found = plain(_bare(key))
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Turn what pyarrow raises into BadInput."""
    arrow = importlib.import_module("pyarrow")
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        why = str(error).strip().split("\n")[0].rstrip(".")
        raise BadInput(name, f"not Parquet, or damaged: {why}", "Write the file again.") from None


def _pyarrow() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise Unavailable(
            "Parquet", "the package pyarrow is not installed", "pip install 'gptcli[parquet]'"
        ) from None
