"""Rows of JSON, one a line: an object with a prompt, a bare text, or a line of OpenAI's batches.

A row's other keys are its own business: data files have more columns than a prompt. But a key named
as a sampling option is one, and must be right. A blank line is no row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from gptcli.batch.input import openai_lines
from gptcli.batch.input.entries import ParsedRow, bad, decoded, identity, place, prompt
from gptcli.batch.input.overrides import overrides, settings_of
from gptcli.batch.input.row import digest
from gptcli.batch.options import BatchInput
from gptcli.errors import GptcliError
from gptcli.inputs.records import RawRecord, numbered
from gptcli.system.strict_json import parse_value

_SHAPE = 'Write one object a line, as {"prompt": "Once upon a time"}.'


def read(
    pieces: Iterator[bytes | None], name: str, reading: BatchInput, *, only_openai: bool
) -> Iterator[ParsedRow | None]:
    """The rows of JSON lines; with `only_openai` each must be one of an OpenAI batch."""
    for record in numbered(pieces):
        if record is None:
            yield None
        elif record.raw.strip():
            yield _entry(record, place(name, "line", record.line), reading, only_openai)


def _entry(record: RawRecord, where: str, reading: BatchInput, only_openai: bool) -> ParsedRow:
    key, id = digest(record.raw), None
    try:
        row = _parsed(decoded(record.raw, where, reading), where)
        if isinstance(row, str) and not only_openai:
            return ParsedRow(record.line, key, None, prompt(row, where, reading))
        if not isinstance(row, dict):
            raise bad(where, "not an object", _SHAPE)
        if only_openai or openai_lines.is_line(row):
            id = identity(row.get("custom_id"), where)
            text, settings = openai_lines.asked(row, where)
        else:
            id = identity(row.get(reading.id_column or "id"), where)
            text, settings = _prompt(row, where, reading), settings_of(row, where, reading)
        checked = prompt(text, where, reading)
        return ParsedRow(record.line, key, id, checked, overrides(settings, where))
    except GptcliError as error:
        return ParsedRow(record.line, key, id, error=error)


def _parsed(text: str, where: str) -> object:
    try:
        return parse_value(text)
    except json.JSONDecodeError as error:
        raise bad(where, f"not JSON: {error.msg} at character {error.pos}", _SHAPE) from None
    except ValueError as error:
        raise bad(where, str(error), _SHAPE) from None


def _prompt(row: Mapping[str, object], where: str, reading: BatchInput) -> object:
    names = ("prompt", "text") if reading.column is None else (reading.column,)
    for name in names:
        if name in row:
            return row[name]
    raise bad(where, f"no key {' or '.join(names)}", "Name the prompt's key with --column.")
