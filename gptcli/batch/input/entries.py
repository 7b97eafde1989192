"""What each format makes of a record: an entry, not yet one of many.

Numbering and the search for ids given twice need all inputs and happen in
`gptcli.batch.input.sources`; everything here is judged by looking at one record. The limits are the
same for every format: a record of 1 MiB, text that is UTF-8, a prompt that is not blank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gptcli.batch.options import BatchInput
from gptcli.errors import BadInput, GptcliError
from gptcli.inputs.pieces import MAX_LINE_BYTES

CUT = "A prompt is a few pages at most: cut it."
_LONGEST_WHY = 300  # characters of an explanation: it may quote the value it is about


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A record as a prompt with its settings, or with the error that makes it none."""

    line: int  # from 1, where in its input it begins
    digest: str  # SHA-256 of the raw record, hexadecimal
    id: str | None = None  # None if the record has none of its own
    text: str = ""
    overrides: Mapping[str, object] = field(default_factory=dict)  # fields of Sampling
    error: GptcliError | None = None
    unit: str = "line"  # what `line` counts


def place(name: str, unit: str, line: int) -> str:
    """Where an entry stands, in words: `prompts.csv line 3`; a whole file is its name alone."""
    return f"{name} {unit} {line}" if unit else name


def bad(where: str, why: str, hint: str) -> BadInput:
    """The error of a record; an explanation that quotes a long value is cut."""
    return BadInput(where, why if len(why) <= _LONGEST_WHY else why[:_LONGEST_WHY] + "...", hint)


def decoded(raw: bytes, where: str, reading: BatchInput) -> str:
    """The record's text. Raises BadInput: longer than 1 MiB, or not UTF-8."""
    if len(raw) > MAX_LINE_BYTES:
        raise bad(where, "longer than 1 MiB", CUT)
    try:
        return raw.decode("utf-8", reading.errors)
    except UnicodeDecodeError as error:
        raise bad(
            where,
            f"invalid UTF-8 at byte {error.start}",
            "Convert it with iconv, or replace such bytes with --errors replace.",
        ) from None


def prompt(value: object, where: str, reading: BatchInput) -> str:
    """The value as a prompt. Raises BadInput: no text, blank, half of a surrogate pair."""
    if not isinstance(value, str):
        raise bad(where, f"the prompt is {_kind(value)}, not a text", "Put it in quotes.")
    if not reading.allow_empty and not value.strip():
        raise bad(
            where,
            "the prompt is empty",
            "Give some text, or start from nothing with --allow-empty.",
        )
    return whole(value, where, "the prompt")


def identity(value: object, where: str) -> str | None:
    """The value as a row's id: text or integer, None if it is null or empty. Raises BadInput."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise bad(where, f"the id is {_kind(value)}", "Give a text or a whole number.")
    return whole(str(value), where, "the id")


def whole(text: str, where: str, what: str) -> str:
    """The text, if it has no lone surrogate, which UTF-8 cannot hold. Raises BadInput."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise bad(
            where, f"{what} has half of a surrogate pair at character {error.start}", "Correct it."
        ) from None
    return text


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "a text" if isinstance(value, str) else "an object")
