"""Rows of Parquet files, by pyarrow, of which only the columns needed are read.

Memory is that of one row group and no more. What stands for a row's raw bytes is its JSON, of the
columns read: two files with the same rows have the same digests. Left out: Parquet from a pipe, as
its table of contents stands at the end.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gptcli.batch.input.columns import chosen, entry_of
from gptcli.batch.input.entries import ParsedRow, bad, place
from gptcli.batch.input.row import digest
from gptcli.batch.options import BatchInput
from gptcli.errors import BadInput, GptcliError, Unavailable

MAGIC = b"PAR1"
_ROWS = 256  # read at a time


def read(path: Path, name: str, reading: BatchInput) -> Iterator[ParsedRow | None]:
    """The rows of a Parquet file.

    Raises BadInput (not Parquet, damaged), UsageError (a wrong column), Unavailable (no pyarrow).
    """
    library = _pyarrow()
    with _errors(name), library.ParquetFile(path) as file:
        columns = chosen(file.schema_arrow.names, name, reading)
        line = 0
        for batch in file.iter_batches(batch_size=_ROWS, columns=list(columns.needed)):
            cells = {column: batch.column(column) for column in columns.needed}
            for index in range(batch.num_rows):
                line += 1
                where = place(name, "row", line)
                values, error = _values(cells, index, where)
                raw = json.dumps(values, ensure_ascii=False, sort_keys=True, default=repr)
                blank = ParsedRow(
                    line, digest(raw.encode("utf-8", "replace")), unit="row", error=error
                )
                yield blank if error else entry_of(values, columns, blank, where, reading)


def _values(
    cells: dict[str, Any], index: int, where: str
) -> tuple[dict[str, object], GptcliError | None]:
    """The row's values by column; NaN, a data frame's word for nothing, is None."""
    values: dict[str, object] = {}
    for column, cell in cells.items():
        try:
            value = _bare(cell[index].as_py())
        except UnicodeDecodeError as error:
            why = f"{column}: invalid UTF-8 at byte {error.start}"
            return values, bad(where, why, "Write the file again, with texts in UTF-8.")
        values[column] = None if isinstance(value, float) and math.isnan(value) else value
    return values, None


def _bare(value: object) -> object:
    """A map, which comes as a list of pairs, as the object that it is in JSON."""
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        return dict(value)
    if isinstance(value, dict):  # of a struct each key is there, with nothing where it is not set
        return {key: _bare(item) for key, item in value.items() if item is not None}
    return value


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
