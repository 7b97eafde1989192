"""The prompts of a measure of toxicity: lines, tables, and RealToxicityPrompts' JSON lines.

There the prompt is an object: {"prompt": {"text": ..., "toxicity": ...}}. Its prompts are divided
into toxic ones, with a toxicity of 0.5 or more, and others, as its authors do. Any other table may
have a column `category`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from random import Random
from typing import BinaryIO

from gptcli.audit.sets.pairs import digest
from gptcli.errors import BadInput, GptcliError
from gptcli.inputs.encoding import refuse_foreign
from gptcli.inputs.json_lines import read_json
from gptcli.inputs.lines import InputLine, read_lines
from gptcli.inputs.records import Note, place, text_of
from gptcli.inputs.table import TableFormat, TableRow, format_of_table, read_table
from gptcli.options import Input, TableInput
from gptcli.scoring.texts import read_bytes

MAX_BYTES = 1 << 30  # RealToxicityPrompts has 130 MB
TOXIC = 0.5


@dataclass(frozen=True)
class AuditPrompt:
    """A prompt, or the error of its row."""

    id: str
    text: str
    category: str = ""
    error: GptcliError | None = None


@dataclass(frozen=True, kw_only=True)
class ReadPrompts:
    """Those of a file, with its digest."""

    name: str
    sha256: str
    prompts: tuple[AuditPrompt, ...]

    def sampled(self, count: int | None, seed: int) -> ReadPrompts:
        """So many of them at random, in their order; all where there are no more."""
        if count is None or count >= len(self.prompts):
            return self
        chosen = sorted(Random(f"{seed}:prompts").sample(range(len(self.prompts)), count))
        kept = tuple(self.prompts[number] for number in chosen)
        return ReadPrompts(name=self.name, sha256=self.sha256, prompts=kept)


def read_prompts(name: str, stdin: BinaryIO | None, note: Note) -> ReadPrompts:
    """The prompts of a file. Raises MissingInput, UsageError (no column) and BadInput."""
    data = read_bytes(name, stdin, MAX_BYTES)
    shown = "standard input" if name == "-" else name
    refuse_foreign(data, f"file {shown}")
    found = tuple(_prompts(data, name, shown, note))
    if not found:
        raise BadInput(shown, "there are no prompts in it", "Write one prompt a line.")
    return ReadPrompts(name=shown, sha256=digest(data), prompts=found)


def _prompts(data: bytes, name: str, shown: str, note: Note) -> Iterator[AuditPrompt]:
    if _holds_objects(data):
        yield from _objects(data, shown)
        return
    shape = format_of_table(name)
    if shape is None and data.lstrip()[:1] == b"{":
        shape = "jsonl"
    rows = _lines(data, note) if shape is None else _table(data, shown, shape, note)
    yield from rows


def _holds_objects(data: bytes) -> bool:
    """Whether the first line's prompt is an object, as in RealToxicityPrompts."""
    try:
        first = json.loads(data.lstrip().partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and isinstance(first.get("prompt"), dict)


def _objects(data: bytes, shown: str) -> Iterator[AuditPrompt]:
    for record in read_json(iter([data]), shown, "strict"):
        if record is None:
            continue
        where, id = place(shown, "line", record.line), str(record.line)
        if record.error is not None:
            yield AuditPrompt(id, "", error=record.error)
            continue
        try:
            yield _object(record.value, where, id)
        except GptcliError as error:
            yield AuditPrompt(id, "", error=error)


def _object(value: object, where: str, id: str) -> AuditPrompt:
    prompt = value.get("prompt") if isinstance(value, dict) else None
    held: Mapping[str, object] = prompt if isinstance(prompt, dict) else {"text": prompt}
    text = text_of(held.get("text"), where, "the prompt")
    toxicity = held.get("toxicity")
    known = isinstance(toxicity, int | float) and toxicity == toxicity
    category = "" if not known else _side(float(str(toxicity)))
    return _checked(id, text, category)


def _side(toxicity: float) -> str:
    return "toxic prompts" if toxicity >= TOXIC else "other prompts"


def _table(data: bytes, shown: str, shape: TableFormat, note: Note) -> Iterator[AuditPrompt]:
    for number, row in enumerate(read_table(iter([data]), shown, shape, TableInput(), note), 1):
        if row is not None:
            yield _row(row, row.id or str(number))


def _row(row: TableRow, id: str) -> AuditPrompt:
    if row.error is not None:
        return AuditPrompt(id, "", error=row.error)
    category = row.others.get("category")
    return _checked(id, row.texts[0], "" if category is None else str(category).strip())


def _lines(data: bytes, note: Note) -> Iterator[AuditPrompt]:
    lines = read_lines("-", Input(allow_empty=True), BytesIO(data), None, note)
    return (_line(line) for line in lines if line is not None)


def _line(line: InputLine) -> AuditPrompt:
    if line.error is not None:
        return AuditPrompt(line.id, "", error=line.error)
    return _checked(line.id, line.text or "", "")


def _checked(id: str, text: str, category: str) -> AuditPrompt:
    if text.strip():
        return AuditPrompt(id, text, category)
    error = BadInput(f"prompt {id}", "it is empty", "Write at least one character.")
    return AuditPrompt(id, "", error=error)
