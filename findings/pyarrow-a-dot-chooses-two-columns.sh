#!/bin/sh
# pyarrow 26.0.1: ParquetFile.iter_batches(columns=["a.b"]) gives the column "a.b" and, beside it, the
# field b of a column a; read_table(columns=["a.b"]) of the same file gives the column alone.
#
# Expected: both calls take a name of the schema, or both take a path into a struct.
# Seen: iter_batches takes the text as either, and returns whatever fits. read_table prefers the column;
#   where there is none it takes the path, and calls the result "b", not "a.b" as iter_batches does
#   with {"a": {"b": ...}}. A reader that asks for a file's own names, one by one, gets too much.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1
cat > "$folder/trial.py" <<'PROGRAM'
import io
import sys

import pyarrow
import pyarrow.parquet as parquet


def stored(columns: dict[str, list]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def asked(data: bytes) -> tuple[list, list]:
    """The rows that iter_batches and read_table give for "a.b"."""
    batches = parquet.ParquetFile(io.BytesIO(data)).iter_batches(columns=["a.b"])
    rows = [row for batch in batches for row in batch.to_pylist()]
    return rows, parquet.read_table(io.BytesIO(data), columns=["a.b"]).to_pylist()


both = asked(stored({"a.b": ["a column"], "a": [{"b": "a field", "c": 1}]}))
field = asked(stored({"a": [{"b": "a field", "c": 1}]}))
print("pyarrow", pyarrow.__version__)
print("column and field: iter_batches", both[0], "read_table", both[1])
print("field alone:      iter_batches", field[0], "read_table", field[1])
seen = both == ([{"a.b": "a column", "a": {"b": "a field"}}], [{"a.b": "a column"}])
if not (seen and field == ([{"a": {"b": "a field"}}], [{"b": "a field"}])):
    print("changed")
    sys.exit(1)
PROGRAM
"$folder/venv/bin/python" "$folder/trial.py" 2>&1
