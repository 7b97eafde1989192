"""Protocol Buffers on the wire, as much as a sentencepiece model needs.

Strict: what the format allows and no writer makes (groups, varints that do not fit, a wire type
that is not the field's) is refused. Nothing is copied before its length is checked. Raises
ValueError with the rule that is broken.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 2**20  # of one message
_FLOAT = struct.Struct("<f")


class Field(NamedTuple):
    """One field of a message: a varint's `value`, or where its bytes are."""

    number: int
    kind: int
    value: int
    start: int
    end: int


def fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of the message that lies in `data` from `start` to `end`, in their order."""
    place = start
    for _ in range(MAX_FIELDS):
        if place == end:
            return
        tag, place = _varint(data, place, end)
        number, kind, value = tag >> 3, tag & 7, 0
        if not 0 < number < 2**29:
            raise ValueError(f"a field has the number {number}")
        first = place
        if kind == VARINT:
            value, place = _varint(data, place, end)
        elif kind == BYTES:
            size, first = _varint(data, place, end)
            place = first + size
        elif kind in (FIXED32, FIXED64):
            place += 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"field {number} has the wire type {kind}")
        if place > end:
            raise ValueError(f"field {number} is longer than what it lies in")
        yield Field(number, kind, value, first, place)
    raise ValueError(f"more than {MAX_FIELDS} fields")


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """A varint and the place behind it."""
    value = shift = 0
    while place < end:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                raise ValueError("a number has more than 64 bits")
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 10 bytes")
    raise ValueError("it ends inside a number")


def of_kind(field: Field, kind: int) -> Field:
    """The field, if it has the wire type that its number asks for."""
    if field.kind != kind:
        raise ValueError(f"field {field.number} has the wire type {field.kind}, not {kind}")
    return field


def text_of(data: bytes, field: Field) -> str:
    """The text of a string field."""
    of_kind(field, BYTES)
    try:
        return data[field.start : field.end].decode()
    except UnicodeDecodeError:
        raise ValueError(f"field {field.number} is not UTF-8") from None


def float_of(data: bytes, field: Field) -> float:
    """The number of a float field."""
    value: float = _FLOAT.unpack_from(data, of_kind(field, FIXED32).start)[0]
    return value
