"""Rows of JSON, one a line: an object with a prompt, a bare text, or a line of OpenAI's batches.

A row's other keys are its own business: data files have more columns than a prompt. But a key named
as a sampling option is one, and must be right. A blank line is no row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gptcli.batch.input import openai_lines
from gptcli.batch.input.entries import ParsedRow, entry_of, prompt
from gptcli.batch.input.notices import RowNotices
from gptcli.batch.input.overrides import overrides
from gptcli.batch.input.row import digest
from gptcli.batch.options import BatchInput
from gptcli.errors import GptcliError
from gptcli.inputs.columns import TextColumn
from gptcli.inputs.json_lines import SHAPE, DoubledObject, JsonRecord, read_json
from gptcli.inputs.records import bad, identity, place
from gptcli.inputs.table import json_row


def read(
    pieces: Iterator[bytes | None],
    name: str,
    reading: BatchInput,
    notices: RowNotices,
    *,
    only_openai: bool,
) -> Iterator[ParsedRow | None]:
    """The rows of JSON lines; with `only_openai` each must be one of an OpenAI batch."""
    wanted = (TextColumn(reading.column),)
    for record in read_json(pieces, name, reading.errors):
        if record is None:
            yield None
            continue
        where = place(name, "line", record.line)
        value = record.value
        if only_openai or (isinstance(value, dict) and openai_lines.is_line(value)):
            yield _openai_entry(record, where, reading, notices)
        else:
            record, ids = _apart(record, reading)
            row = json_row(record, where, reading, wanted)
            yield entry_of(row, name, reading, notices, ids=ids)


def _apart(record: JsonRecord, reading: BatchInput) -> tuple[JsonRecord, list[object] | None]:
    """A row whose prompt is a list of token ids, as one with a text in its place, and the list."""
    value = record.value
    if record.error is not None or not isinstance(value, dict) or isinstance(value, DoubledObject):
        return record, None
    names = [name for name in TextColumn(reading.column).names if name in value]
    ids = value[names[0]] if names else None
    if not isinstance(ids, list):
        return record, None
    return replace(record, value={**value, names[0]: "ids"}), ids


def _openai_entry(
    record: JsonRecord, where: str, reading: BatchInput, notices: RowNotices
) -> ParsedRow:
    key, id, error = digest(record.raw), None, record.error
    try:
        if not isinstance(record.value, dict):
            raise error or bad(where, "not an object", SHAPE)
        id = identity(record.value.get("custom_id"), where)
        if error is None:
            text, settings = openai_lines.asked(record.value, where)
            notices.unserved(openai_lines.unknown(record.value))
            found = overrides(settings, where)
            checked = prompt(text, where, reading)
            return ParsedRow(record.line, key, id, checked, found, has_ids=True)
    except GptcliError as problem:
        error = error or problem
    return ParsedRow(record.line, key, id, error=error, has_ids=True)
