"""Lines of JSON as data files have them: values that are nobody's business may be anything.

JSON is read as Python writes it: NaN, Infinity, numbers of any length and keys that stand twice do
no harm under a key that is not looked at. Who looks at a key judges its value. Of a line that is
broken, the keys before the break can be had, so that a row keeps its id.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from gptcli.errors import BadInput, GptcliError
from gptcli.inputs.records import RawRecord, bad, decoded, numbered, place
from gptcli.options.shared import Errors
from gptcli.system.strict_json import MAX_DEPTH, MAX_INTEGER_DIGITS, may_be_deep, too_deep

SHAPE = 'Write one object a line, as {"prompt": "Once upon a time"}.'


class LongInteger(str):
    """An integer too long to be a number; its digits."""

    __slots__ = ()


class DoubledObject(dict[str, object]):
    """An object in which the keys `twice` stand more than once; the last value counts."""

    twice: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class JsonRecord:
    """A line of JSON: its value or the error; of a broken object what could be read."""

    line: int
    raw: bytes
    value: object = None
    error: GptcliError | None = None


def read_json(
    pieces: Iterator[bytes | None], name: str, errors: Errors
) -> Iterator[JsonRecord | None]:
    """A record for each line that is not blank; None is handed on."""
    for record in numbered(pieces):
        if record is None:
            yield None
        elif record.raw.strip():
            yield _record(record, place(name, "line", record.line), errors)


def _record(record: RawRecord, where: str, errors: Errors) -> JsonRecord:
    try:
        value = parse_line(decoded(record.raw, where, errors), where)
    except BadInput as error:
        text = record.raw.decode("utf-8", "surrogateescape")
        return JsonRecord(record.line, record.raw, begun_object(text), error)
    return JsonRecord(record.line, record.raw, value)


def parse_line(text: str, where: str) -> object:
    """The value of a line. Raises BadInput where it is no JSON, or nested too deeply."""
    value: object = None
    try:
        value = _DECODER.decode(text)
        deep = may_be_deep(text) and too_deep(value)
    except json.JSONDecodeError as error:
        why = f"not JSON: {error.msg} at character {error.pos}"
        raise bad(where, why, SHAPE) from None
    except RecursionError:
        deep = True
    if deep:
        raise bad(where, "nested too deeply", SHAPE)
    return value


def begun_object(text: str) -> dict[str, object]:
    """The keys and values of an object before the place where it breaks."""
    found: dict[str, object] = {}
    at = _behind_space(text, 0)
    if text[at : at + 1] != "{":
        return found
    try:
        while text[at : at + 1] in ("{", ","):
            at = _behind_space(text, at + 1)
            if text[at : at + 1] != '"':
                break
            key, at = _DECODER.raw_decode(text, at)
            at = _behind_space(text, at)
            if text[at : at + 1] != ":":
                break
            value, at = _DECODER.raw_decode(text, _behind_space(text, at + 1))
            at = _behind_space(text, at)
            if text[at : at + 1] not in (",", "}"):  # 12 of 123 would be another row's id
                break
            if too_deep(value, MAX_DEPTH - 1):  # so that the object is not, wherever it is written
                break
            found[key] = value
    except (ValueError, RecursionError):
        pass
    return found


def without(row: Mapping[str, object], keys: Collection[str]) -> dict[str, object]:
    """The row's other keys; which of them stand twice stays known."""
    found = {name: value for name, value in row.items() if name not in keys}
    if not isinstance(row, DoubledObject):
        return found
    doubled = DoubledObject(found)
    doubled.twice = row.twice
    return doubled


def check_once(row: Mapping[str, object], keys: tuple[str, ...], where: str) -> None:
    """Raises BadInput where one of these keys stands twice in the row."""
    twice = row.twice if isinstance(row, DoubledObject) else frozenset()
    for key in keys:
        if key in twice:
            raise bad(where, f"the key {key!r} stands twice", "Drop one of them.")


def plain(value: object) -> object:
    """The value as strict JSON has it: NaN is null, and what is no number there is its text."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(plain(str(key))): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def _behind_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\r", "\n") and at < len(text):
        at += 1
    return at


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    doubled, counts = DoubledObject(found), Counter(key for key, _ in pairs)
    doubled.twice = frozenset(key for key, count in counts.items() if count > 1)
    return doubled


def _integer(digits: str) -> object:
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else LongInteger(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer)
