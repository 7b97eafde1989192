"""A tensor bundle: an index, and data files that hold nothing but numbers.

Everything that the index says is compared with the data files before a number is read. A tensor is
read by itself, and its checksum compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.checkpoints.formats.locked.readers.tensorflow.crc32c import crc32c, masked
from gptcli.checkpoints.formats.locked.readers.tensorflow.entries import (
    Entry,
    Header,
    Span,
    parse_entry,
    parse_header,
    slice_key,
)
from gptcli.checkpoints.formats.locked.readers.tensorflow.table import entries
from gptcli.checkpoints.formats.locked.source import NUMPY_DTYPES, Refused
from gptcli.checkpoints.safetensors_headers import ITEM_BYTES
from gptcli.system.strict_json import read_bytes

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

MAX_INDEX_BYTES = 2**23  # that of GPT-2 XL in training has 2^17
MAX_SLICES = 1000  # of a variable
OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"  # what TensorFlow 2 adds to checkpoints of objects
DTYPES = {  # safetensors' name of TensorFlow's number
    1: "F32",
    2: "F64",
    3: "I32",
    4: "U8",
    5: "I16",
    6: "I8",
    9: "I64",
    10: "BOOL",
    14: "BF16",
    19: "F16",
}


@dataclass(frozen=True)
class Slice:
    """A part of a variable: its entry, and the first number and the past-the-last on each axis."""

    entry: Entry
    begin: tuple[int, ...]
    end: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A tensor, checked, with all parts of it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Slice, ...]


class Bundle:
    """An open bundle. `entries` has every tensor of it by name, unchecked."""

    def __init__(self, index: Path, data: Iterable[Path]) -> None:
        """`data` are its data files, those that are there. Raises Refused and GptcliError."""
        self._name = index.name.removesuffix(".index")
        self._files = {file.name: file for file in data}
        self._slices: dict[bytes, Entry] = {}
        self.entries: dict[str, Entry] = {}
        try:
            self._header = self._read_index(read_bytes(index, MAX_INDEX_BYTES))
        except Refused as error:
            raise Refused(f"{index.name}: {error}") from None

    def _read_index(self, data: bytes) -> Header:
        header = None
        for key, value in entries(data):
            if not key:
                header = parse_header(value)
            elif key[0] == 0:
                self._slices[key] = parse_entry("a slice", value)
            else:
                name = _text(key)
                self.entries[name] = parse_entry(name, value)
        if header is None:
            raise Refused("it has no header of a bundle")
        return header

    def variables(self, names: Iterable[str]) -> dict[str, Variable]:
        """The named ones, compared with the data files. Raises Refused."""
        found = {name: self._variable(name) for name in names}
        places: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
        for variable in found.values():
            for part in variable.parts:
                entry = part.entry
                places[entry.shard].append((entry.offset, entry.size, variable.name))
        for shard, taken in places.items():
            self._check_places(shard, sorted(taken))
        return found

    def read(self, variable: Variable) -> Array:
        """The numbers. Raises Refused where a checksum is wrong, OSError."""
        import numpy

        if len(variable.parts) == 1:
            return self._numbers(variable, variable.parts[0])
        whole = numpy.empty(variable.shape, NUMPY_DTYPES[variable.dtype])
        for part in variable.parts:
            axes = tuple(map(slice, part.begin, part.end))
            whole[axes] = self._numbers(variable, part)
        return whole

    def _numbers(self, variable: Variable, part: Slice) -> Array:
        import numpy

        data = numpy.empty(part.entry.size, numpy.uint8)
        file = self._file(part.entry.shard)
        with file.open("rb") as stream:
            stream.seek(part.entry.offset)
            if stream.readinto(data.data) != data.size:
                raise Refused(f"{file.name} ends within {variable.name}")
        if masked(crc32c(data)) != part.entry.checksum:
            raise Refused(f"{file.name}: the checksum of {variable.name} is wrong")
        dtype = numpy.dtype(NUMPY_DTYPES[variable.dtype])
        numbers: Array = data.view(dtype)
        if self._header.big_endian:
            numbers = numbers.byteswap(inplace=True)
        shape = (end - begin for begin, end in zip(part.begin, part.end, strict=True))
        return numbers.reshape(tuple(shape))

    def _file(self, shard: int) -> Path:
        name = f"{self._name}.data-{shard:05d}-of-{self._header.shards:05d}"
        if shard >= self._header.shards or name not in self._files:
            raise Refused(f"{name} is missing")
        return self._files[name]

    def _variable(self, name: str) -> Variable:
        entry = self.entries[name]
        dtype = DTYPES.get(entry.type)
        if dtype is None:
            raise Refused(f"{name} is of a type that no weights have ({entry.type})")
        parts = self._parts(name, entry) if entry.slices else (_whole(entry),)
        for part in parts:
            count = prod(end - begin for begin, end in zip(part.begin, part.end, strict=True))
            if part.entry.size != count * ITEM_BYTES[dtype] or part.entry.type != entry.type:
                raise Refused(f"{name} has {part.entry.size} bytes, not those of its shape")
        return Variable(name=name, dtype=dtype, shape=entry.shape, parts=parts)

    def _parts(self, name: str, entry: Entry) -> tuple[Slice, ...]:
        """The slices of a partitioned variable, which cover it without overlapping."""
        if len(entry.slices) > MAX_SLICES:
            raise Refused(f"{name} has {len(entry.slices)} slices")
        parts: list[Slice] = []
        for extents in entry.slices:
            own = self._slices.get(slice_key(name, extents))
            if own is None:
                raise Refused(f"a slice of {name} is missing")
            parts.append(_part(name, entry.shape, extents, own))
        covered = sum(prod(own.entry.shape) for own in parts)
        twice = any(_meet(a, b) for place, a in enumerate(parts) for b in parts[:place])
        if covered != prod(entry.shape) or twice:
            raise Refused(f"the slices of {name} do not make it up")
        return tuple(parts)

    def _check_places(self, shard: int, taken: list[tuple[int, int, str]]) -> None:
        file = self._file(shard)
        there, before = file.stat().st_size, 0
        for offset, size, name in taken:
            if offset + size > there:
                raise Refused(f"{file.name}: {name} lies outside it: it is cut short, or another's")
            if offset < before:
                raise Refused(f"{file.name}: {name} overlaps with another tensor")
            before = offset + size


def _text(key: bytes) -> str:
    try:
        name = key.decode()
    except UnicodeDecodeError:
        name = ""
    if not name.isprintable() or not name:
        raise Refused(f"{key!r:.80} is no name of a tensor")
    return name


def _whole(entry: Entry) -> Slice:
    return Slice(entry, (0,) * len(entry.shape), entry.shape)


def _part(name: str, shape: tuple[int, ...], extents: tuple[Span, ...], own: Entry) -> Slice:
    if len(extents) != len(shape):
        raise Refused(f"a slice of {name} has {len(extents)} dimensions")
    pairs = list(zip(extents, shape, strict=True))
    begin = tuple(extent.start for extent in extents)
    end = tuple(
        size if extent.length is None else extent.start + extent.length for extent, size in pairs
    )
    inside = all(last <= size for last, size in zip(end, shape, strict=True))
    if not inside or own.shape != tuple(_lengths(begin, end)) or own.slices:
        raise Refused(f"a slice of {name} does not fit into it")
    return Slice(own, begin, end)


def _lengths(begin: Iterable[int], end: Iterable[int]) -> Iterator[int]:
    return (last - first for first, last in zip(begin, end, strict=True))


def _meet(one: Slice, other: Slice) -> bool:
    """Whether two slices have a number in common."""
    axes = zip(one.begin, one.end, other.begin, other.end, strict=True)
    return all(max(a, c) < min(b, d) for a, b, c, d in axes)
