"""Texts of a Parquet file, by pyarrow, page by page: a row group may be larger than memory."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from gptcli.checkpoints.integrity import digests
from gptcli.errors import BadInput, Unavailable, UsageError
from gptcli.inputs.columns import chosen
from gptcli.inputs.records import place
from gptcli.system.regular_files import open_regular
from gptcli.training.data.input.reading import DataSource
from gptcli.training.data.input.rows import RowsFound, Wanted, values_parts
from gptcli.training.data.input.separating import DocumentPart
from gptcli.training.data.options import DataReading

_ROWS_AT_A_TIME = 64
_BUFFER_BYTES = 1 << 20


def parquet_parts(
    source: DataSource, reading: DataReading, found: RowsFound
) -> Iterator[DocumentPart]:
    """The rows. Raises BadInput (no Parquet, damaged), UsageError (wrong column), Unavailable."""
    arrow, library = _pyarrow()
    wanted, file = Wanted.of(reading), source.file
    digest = digests.digest(file.path)  # if it changes from here on, it is found to be another
    try:
        with open_regular(file.path) as stream:
            table = library.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            names = _columns(table.schema_arrow.names, file.name, wanted)
            rows = _rows(table, names, file.name)
            yield from values_parts(rows, found, pair=len(names) == 2)
        source.took(digest)
    except (arrow.ArrowException, OSError) as error:
        why = str(error).strip().split("\n")[0].rstrip(".")
        raise BadInput(file.name, f"not Parquet, or damaged: {why}", "Get it again.") from None


def _columns(header: list[str], name: str, wanted: Wanted) -> list[str]:
    if not wanted.texts:
        try:
            pair = chosen(header, name, (wanted.prompt, wanted.completion), None)
            return [header[at] for at in pair.texts]
        except UsageError:
            if wanted.pairs:
                raise
    return [header[at] for at in chosen(header, name, (wanted.text,), None).texts]


def _rows(table: Any, names: list[str], name: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    number = 0
    for batch in table.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=names):
        columns = [batch.column(at) for at in names]
        for index in range(batch.num_rows):
            number += 1
            where = place(name, "row", number)
            try:
                values = [column[index].as_py() for column in columns]
            except UnicodeDecodeError as error:
                why = f"invalid UTF-8 at byte {error.start}"
                raise BadInput(where, why, "Write the file again, in UTF-8.") from None
            yield where, dict(zip(names, values, strict=True))


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        why = "the package pyarrow is not installed"
        raise Unavailable("Parquet", why, "pip install 'gptcli[parquet]'") from None
