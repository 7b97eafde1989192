"""The entries of a tensor bundle's index: small protocol buffers, read field by field.

The first, under an empty key, is the bundle's header; each other one says of a tensor its type,
shape, and where it lies in which data file. A partitioned variable has an entry that lists its
slices, and each slice an entry of its own under a key made of name and slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gptcli.checkpoints.formats.locked.readers.tensorflow.table import varint
from gptcli.checkpoints.formats.locked.source import Refused

VERSION = 1  # of readers: ours knows what this one does
MAX_SHARDS = 10_000
MAX_DIMENSIONS = 8
LONGEST_DIMENSION = 2**40
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(frozen=True, kw_only=True)
class Header:
    """What holds for all data files."""

    shards: int
    big_endian: bool


@dataclass(frozen=True)
class Span:
    """A range of one dimension; all of it where `length` is None."""

    start: int
    length: int | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A tensor as the index has it; `type` is TensorFlow's number of its data type."""

    type: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: tuple[tuple[Span, ...], ...]


def parse_header(data: bytes) -> Header:
    """The entry under the empty key. Raises Refused."""
    shards, big, needed = 1, 0, 0
    for field, value in _fields(data):
        match field, value:
            case 1, int():
                shards = value
            case 2, int():
                big = value
            case 3, bytes():
                needed = _numbers(value).get(2, 0)
    if not 0 < shards <= MAX_SHARDS:
        raise Refused(f"it says that it has {shards} data files")
    if big not in (0, 1):
        raise Refused(f"its order of bytes is unknown ({big})")
    if needed > VERSION:
        raise Refused(f"it is of a newer format (it needs version {needed} of readers)")
    return Header(shards=shards, big_endian=big == 1)


def parse_entry(name: str, data: bytes) -> Entry:
    """A tensor's entry. Raises Refused, which names it."""
    shape: tuple[int, ...] = ()
    slices: list[tuple[Span, ...]] = []
    for field, value in _fields(data):
        if isinstance(value, bytes) and field == 2:
            shape = _shape(name, value)
        elif isinstance(value, bytes) and field == 7:
            slices.append(tuple(_extents(name, value)))
    numbers = _numbers(data)
    return Entry(
        type=numbers.get(1, 0),
        shape=shape,
        shard=numbers.get(3, 0),
        offset=numbers.get(4, 0),
        size=numbers.get(5, 0),
        checksum=numbers.get(6, 0),
        slices=tuple(slices),
    )


def slice_key(name: str, extents: tuple[Span, ...]) -> bytes:
    """The key of a slice's own entry: numbers and text in a form that sorts as they do.

    name: without NUL.
    """
    key = b"\0" + name.encode() + b"\0\1" + bytes([1, len(extents)])
    for extent in extents:
        length = -1 if extent.length is None else extent.length
        key += _ordered(extent.start) + _ordered(length)
    return key


def _ordered(number: int) -> bytes:
    """TensorFlow's OrderedCode of a signed number: the higher the first byte, the longer."""
    magnitude = ~number if number < 0 else number
    length = 1
    while magnitude >= 1 << 7 * length - 1:
        length += 1
    head = (1 << 8 * length) - (1 << 7 * length)  # as many ones as bytes, then zeros
    return (number % (1 << 8 * length) ^ head).to_bytes(length, "big")


def _shape(name: str, data: bytes) -> tuple[int, ...]:
    shape = []
    for field, value in _fields(data):
        if field == 2 and isinstance(value, bytes):
            shape.append(_numbers(value).get(1, 0))
        elif field == 3 and value:
            raise Refused(f"{name} has no known shape")
    if len(shape) > MAX_DIMENSIONS or any(size >= LONGEST_DIMENSION for size in shape):
        raise Refused(f"{name} has an impossible shape")
    return tuple(shape)


def _extents(name: str, data: bytes) -> Iterator[Span]:
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            numbers = _numbers(value)
            start, length = numbers.get(1, 0), numbers.get(2)
            if max(start, length or 0) >= LONGEST_DIMENSION or (start and length is None):
                raise Refused(f"{name} has an impossible slice")
            yield Span(start, length)


def _numbers(data: bytes) -> dict[int, int]:
    """The fields that are numbers; of one that stands twice the last, as protobuf has it."""
    return {field: value for field, value in _fields(data) if isinstance(value, int)}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field. Raises Refused."""
    place = 0
    while place < len(data):
        tag, place = varint(data, place)
        value: int | bytes
        match tag & 7:
            case 0:
                value, place = varint(data, place)
                yield tag >> 3, value
                continue
            case 2:
                size, place = varint(data, place)
            case 1 | 5 as wire:
                size = 8 if wire == FIXED64 else 4
            case wire:
                raise Refused(f"an entry of it is no protocol buffer (wire type {wire})")
        value, place = data[place : place + size], place + size
        if place > len(data):
            raise Refused("an entry of it is cut short")
        yield tag >> 3, value if tag & 7 == BYTES else int.from_bytes(value, "little")
