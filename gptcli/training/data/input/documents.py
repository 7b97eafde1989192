"""The documents of all files, part by part, and what was seen on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gptcli.errors import UsageError
from gptcli.training.data.input.files import DataFile, DataFiles
from gptcli.training.data.input.parquet import parquet_parts
from gptcli.training.data.input.reading import DataSource
from gptcli.training.data.input.rows import RowsFound, json_parts, table_parts
from gptcli.training.data.input.separating import By, DocumentPart, separated
from gptcli.training.data.options import DataReading, Documents

_KINDS = {"line": "a line", "blank": "a paragraph between blank lines"}


@dataclass
class DataFound:
    """What the files were, for the plan. Counts of documents are those that are not empty."""

    rows: RowsFound = field(default_factory=RowsFound)
    texts: int = 0  # files of text
    text_documents: int = 0
    empty: int = 0
    windows: list[str] = field(default_factory=list)  # files with CRLF
    replaced: int = 0
    notices: list[str] = field(default_factory=list)


def parts_of(
    source: DataSource,
    reading: DataReading,
    documents: Documents,
    ends: Sequence[str],
    found: DataFound,
) -> Iterator[DocumentPart]:
    """The documents of a file in parts. `ends`: how end tokens are written.

    Raises BadInput, MissingInput, UsageError, Unavailable.
    """
    file = source.file
    if file.format == "text":
        found.texts += 1
        yield from separated(source.texts(), _by(documents, file), ends)
        if source.carriage_returns:
            found.windows.append(file.name)
        found.replaced += source.replaced
        return
    if documents not in ("auto", "row"):
        why = f"{file.name} is a table, and its documents are rows"
        raise UsageError("--documents", why, "Leave it out.")
    for part in _row_parts(source, reading, found):
        if part.role != "text":
            yield part
        else:
            yield from separated(iter((part.text,)), "file", ends)


def _by(documents: Documents, file: DataFile) -> By:
    """What separates documents in a text besides the end token. Raises UsageError."""
    if documents in ("line", "blank"):
        return documents
    if documents == "row":
        hint = "Name JSON lines, CSV, TSV or Parquet, or use --documents line."
        raise UsageError("--documents", f"{file.name} is a text and has no rows", hint)
    return "file"


def in_words(found: DataFound, documents: Documents, files: DataFiles, ends: Sequence[str]) -> str:
    """What a document is, for the plan."""
    said = []
    if found.texts:
        said.append(_texts_in_words(found, documents, files.files[0].name, ends[0]))
    if found.rows.rows:
        kind = "a prompt and its completion" if found.rows.pairs else "a row"
        columns = ", ".join(list(found.rows.columns)[:3])
        said.append(f"{kind} ({columns})")
    return " or ".join(said)


def _texts_in_words(found: DataFound, documents: Documents, name: str, end: str) -> str:
    if documents in ("line", "blank"):
        return _KINDS[documents]
    if found.text_documents > found.texts:
        return f"what lies between {end}"
    if found.texts > 1:
        return "a file"
    hint = "" if documents == "file" else "; --documents line or blank makes more of it"
    return f"the whole of {name}{hint}"


def _row_parts(
    source: DataSource, reading: DataReading, found: DataFound
) -> Iterator[DocumentPart]:
    file = source.file
    if file.format == "jsonl":
        return json_parts(source, reading, found.rows)
    if file.format == "parquet":
        return parquet_parts(source, reading, found.rows)
    look = DataSource(file, reading.errors, lambda _: None)
    return table_parts(look.pieces, source, reading, found.rows, found.notices.append)
