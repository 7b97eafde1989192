"""Records cut from bytes: one a line, of 1 MiB at most, in UTF-8.

The limits are the same for every format. A record that breaks one is a record with an error.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gptcli.errors import BadInput
from gptcli.inputs.encoding import not_utf8
from gptcli.inputs.pieces import MAX_LINE_BYTES, TOO_LONG, split
from gptcli.inputs.prompt import SHORTEN
from gptcli.options.shared import Errors

Note = Callable[[str], object]
"""Takes a notice: a sentence without a full stop."""

MAX_REASON_LENGTH = 300  # characters of an explanation: it may quote the value it is about


@dataclass(frozen=True, slots=True)
class RawRecord:
    """The raw bytes of a record without its end; `line` counts from 1.

    `why` says what is wrong with it already, empty when nothing is.
    """

    line: int
    raw: bytes
    why: str = ""


def place(name: str, unit: str, line: int) -> str:
    """Where a record stands, in words: `prompts.csv line 3`; a whole file is its name alone."""
    return f"{name} {unit} {line}" if unit else name


def numbered(
    pieces: Iterator[bytes | None], end: bytes = b"\n", dropped: bytes = b"\r"
) -> Iterator[RawRecord | None]:
    """The pieces cut into records at each `end`, as `split` does; None is handed on.

    A byte order mark at the very beginning is no part of the first record.
    """
    line = 0
    for raw in split(pieces, end, dropped):
        if raw is None:
            yield None
            continue
        line += 1
        yield RawRecord(line, raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw)


def bad(where: str, why: str, hint: str) -> BadInput:
    """The error of a record; an explanation that quotes a long value is cut."""
    shown = why if len(why) <= MAX_REASON_LENGTH else why[:MAX_REASON_LENGTH] + "..."
    return BadInput(where, shown, hint)


def decoded(raw: bytes, where: str, errors: Errors) -> str:
    """The record's text. Raises BadInput: longer than 1 MiB, or not UTF-8."""
    if len(raw) > MAX_LINE_BYTES:
        raise bad(where, TOO_LONG, SHORTEN)
    try:
        return raw.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise not_utf8(where, error.start) from None


def text_of(value: object, where: str, what: str) -> str:
    """The value, if it is a text that UTF-8 can hold. Raises BadInput, naming `what` it is."""
    if not isinstance(value, str):
        raise bad(where, f"{what} is {kind_of(value)}, not a text", "Put it in quotes.")
    return whole(value, where, what)


def identity(value: object, where: str) -> str | None:
    """The value as a row's id, None if it is null, NaN or empty.

    A text or a whole number; 1.0, as a data frame writes it, is 1. Raises BadInput for others.
    """
    if value is None or value == "" or value != value:  # NaN is not equal to itself
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise bad(where, f"the id is {kind_of(value)}", "Give a text or a whole number.")
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


def kind_of(value: object) -> str:
    """What a value of JSON is, in words."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "a text" if isinstance(value, str) else "an object")
