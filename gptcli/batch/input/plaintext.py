"""Prompts that are plain text: one a line, one between two NUL bytes, or one a file.

Nothing is taken from the text but the prompt: rows have no settings of their own, and an id only
where a file's name is one.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from gptcli.batch.input.entries import ParsedRow, prompt
from gptcli.batch.input.notices import RowNotices
from gptcli.batch.input.row import digest
from gptcli.batch.options import BatchInput
from gptcli.errors import GptcliError
from gptcli.inputs.dialect import header_notice
from gptcli.inputs.pieces import MAX_LINE_BYTES
from gptcli.inputs.records import decoded, numbered, place


def read_lines(
    pieces: Iterator[bytes | None], name: str, reading: BatchInput, notices: RowNotices
) -> Iterator[ParsedRow | None]:
    """A prompt a line, or a NUL byte; one that is blank is an error unless allowed."""
    end, dropped, unit = (b"\0", b"", "record") if reading.null else (b"\n", b"\r", "line")
    for record in numbered(pieces, end, dropped):
        if record is None:
            yield None
            continue
        notice = header_notice(record.raw, name) if record.line == 1 else None
        if notice is not None:
            notices.say(notice)
        where = place(name, unit, record.line)
        yield _entry(record.raw, record.raw, record.line, where, reading, None, unit)


def read_file(
    pieces: Iterator[bytes | None], name: str, reading: BatchInput, id: str | None
) -> Iterator[ParsedRow | None]:
    """The whole input as one prompt, without one line break at its end.

    The digest is that of all bytes, of a file over 1 MiB that of a little more than the first MiB.
    """
    held = bytearray()
    for piece in pieces:
        if piece is None:
            yield None
            continue
        held += piece
        if len(held) > MAX_LINE_BYTES + 2:
            break
    raw = bytes(held)
    text = raw.removeprefix(codecs.BOM_UTF8)
    text = text[:-2] if text.endswith(b"\r\n") else text.removesuffix(b"\n")
    yield _entry(raw, text, 1, name, reading, id, "")


def _entry(
    raw: bytes, text: bytes, line: int, where: str, reading: BatchInput, id: str | None, unit: str
) -> ParsedRow:
    key = digest(raw)
    try:
        taken = prompt(decoded(text, where, reading.errors), where, reading)
        return ParsedRow(line, key, id, taken, unit=unit, has_ids=id is not None)
    except GptcliError as error:
        return ParsedRow(line, key, id, error=error, unit=unit, has_ids=id is not None)
