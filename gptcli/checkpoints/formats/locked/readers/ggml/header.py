"""The header of a GGUF file, read with bounds: its metadata, and where its tensors lie.

The layout is llama.cpp's: magic, version, counts, metadata (key, type, value), then for each tensor
its name, sizes, type and offset, then the data, aligned. Each count and length is compared with
what the file can hold before anything is read or allocated; the package `gguf` never sees the file.
Not here: what the values mean.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from gptcli.checkpoints.formats.locked.readers.ggml.types import TYPES, NumberType
from gptcli.checkpoints.formats.locked.source import Refused
from gptcli.system.strict_json import open_model_file, placeholder

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 2**16
MAX_TENSORS = 2**14
MAX_KEYS = 2**14
MAX_KEY_BYTES = 2**16 - 1  # of a key; the specification's bound
MAX_NAME_BYTES = 255  # of a tensor; llama.cpp takes 63
MAX_TEXT_BYTES = 2**24  # of a text; templates and licences are the longest
MAX_ITEMS = 2**23  # of all arrays together; a vocabulary has up to 4,000,000 tokens
MAX_DIMENSIONS = 4
KEPT = ("general.", "gpt2.", "tokenizer.", "split.", "adapter.")  # what is kept of the metadata
NUMBERS = {  # types of metadata
    0: Struct("<B"),
    1: Struct("<b"),
    2: Struct("<H"),
    3: Struct("<h"),
    4: Struct("<I"),
    5: Struct("<i"),
    6: Struct("<f"),
    10: Struct("<Q"),
    11: Struct("<q"),
    12: Struct("<d"),
}
BOOL, TEXT, ARRAY = 7, 8, 9
U32, U64 = Struct("<I"), Struct("<Q")


@dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """A tensor of a GGUF file; `shape` has the rows first, as NumPy does."""

    file: Path
    name: str
    type: NumberType
    shape: tuple[int, ...]
    offset: int  # from the start of the file
    nbytes: int


@dataclass(frozen=True, kw_only=True)
class GgufHeader:
    """Metadata by key, and tensors by name."""

    file: Path
    metadata: Mapping[str, object]
    tensors: Mapping[str, GgufTensor]


def read_gguf_header(file: Path) -> GgufHeader:
    """Read and check the header of one file. Raises Refused, MissingInput, BadModel."""
    with open_model_file(file) as stream:
        return _Cursor(file, stream).header()


class _Cursor:
    """A place in a file of known size, from which nothing is read that is not there."""

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self._file, self._stream = file, stream
        self._size = os.fstat(stream.fileno()).st_size
        self._items = 0

    def header(self) -> GgufHeader:
        """All of the header."""
        self._start()
        tensors = self._count("tensors", MAX_TENSORS, 8 + 4 + 8 + 4 + 8)
        keys = self._count("keys", MAX_KEYS, 8 + 4 + 1)
        metadata = self._metadata(keys)
        found = [self._tensor() for _ in range(tensors)]
        start = _aligned(self._stream.tell(), _alignment(metadata))
        return GgufHeader(
            file=self._file,
            metadata=metadata,
            tensors={tensor.name: tensor for tensor in self._placed(found, start, metadata)},
        )

    def _refuse(self, why: str) -> Refused:
        return Refused(f"{self._file.name}: {why}")

    def _start(self) -> None:
        magic = self._stream.read(4)
        if magic != MAGIC:
            if misplaced := placeholder(self._file, magic + self._stream.read(508)):
                raise misplaced
            raise self._refuse("no GGUF file: it begins with other bytes")
        version = self._number(U32)
        if version & 0xFFFF == 0:
            raise self._refuse("written for big-endian computers: use gguf-convert-endian first")
        if version not in VERSIONS:
            raise self._refuse(f"version {version} of GGUF, which llama.cpp does not read either")

    def _count(self, what: str, limit: int, least: int) -> int:
        """A number of things, each of which takes at least so many bytes."""
        count = self._number(U64)
        if count > limit or count * least > self._left():
            raise self._refuse(f"it says that it holds {count} {what}")
        return count

    def _left(self) -> int:
        return self._size - self._stream.tell()

    def _bytes(self, count: int) -> bytes:
        data = self._stream.read(count) if count <= self._left() else b""
        if len(data) != count:
            raise self._refuse("cut off inside its header")
        return data

    def _number(self, kind: Struct) -> int:
        return int(kind.unpack(self._bytes(kind.size))[0])

    def _text(self, limit: int) -> str:
        length = self._number(U64)
        if length > min(limit, self._left()):
            raise self._refuse(f"a text of {length} bytes in its header")
        try:
            return self._bytes(length).decode()
        except UnicodeDecodeError:
            raise self._refuse("a text in its header is not UTF-8") from None

    def _metadata(self, count: int) -> dict[str, object]:
        metadata: dict[str, object] = {}
        for _ in range(count):
            key = self._text(MAX_KEY_BYTES)
            if key in metadata:
                raise self._refuse(f"{key!r:.80} stands there twice")
            value = self._value(self._number(U32), key.startswith(KEPT))
            metadata[key] = value if key.startswith(KEPT) else None
        return metadata

    def _value(self, kind: int, keep: bool) -> object:
        if kind == TEXT:
            return self._text(MAX_TEXT_BYTES)
        if kind == BOOL:
            return self._switches(1)[0]
        if kind == ARRAY:
            return self._array(keep)
        if kind in NUMBERS:
            return NUMBERS[kind].unpack(self._bytes(NUMBERS[kind].size))[0]
        raise self._refuse(f"a value of the unknown type {kind}")

    def _array(self, keep: bool) -> object:
        kind = self._number(U32)
        if kind == ARRAY:
            raise self._refuse("an array of arrays, which llama.cpp does not read either")
        size = NUMBERS[kind].size if kind in NUMBERS else {BOOL: 1, TEXT: 8}.get(kind)
        if size is None:
            raise self._refuse(f"an array of the unknown type {kind}")
        count = self._count("items in an array", MAX_ITEMS - self._items, size)
        self._items += count
        if kind == TEXT:
            return self._texts(count, keep)
        if kind == BOOL:
            return self._switches(count)
        data = self._bytes(count * size)
        return [value for (value,) in NUMBERS[kind].iter_unpack(data)] if keep else None

    def _texts(self, count: int, keep: bool) -> list[str]:
        kept: list[str] = []
        for _ in range(count):
            text = self._text(MAX_TEXT_BYTES)
            if keep:
                kept.append(text)
        return kept

    def _switches(self, count: int) -> list[bool]:
        data = self._bytes(count)
        if data.strip(b"\0\1"):
            raise self._refuse("a switch in its header is neither true nor false")
        return [byte == 1 for byte in data]

    def _tensor(self) -> tuple[str, tuple[int, ...], NumberType, int]:
        name = self._text(MAX_NAME_BYTES)
        count = self._number(U32)
        if count > MAX_DIMENSIONS:
            raise self._refuse(f"{name!r:.80} has {count} dimensions")
        sizes = [self._number(U64) for _ in range(count)]
        kind, offset = self._number(U32), self._number(U64)
        if kind not in TYPES:
            raise self._refuse(f"{name!r:.80} is of the unknown type {kind}")
        number = TYPES[kind]
        if not all(sizes) or prod(sizes) > self._size * number.block:
            raise self._refuse(f"{name!r:.80} has {sizes} numbers, which the file cannot hold")
        if sizes and sizes[0] % number.block:
            raise self._refuse(f"{name!r:.80}: a row of {sizes[0]} is not whole {number.name}")
        return name, tuple(reversed(sizes)), number, offset

    def _placed(
        self,
        found: list[tuple[str, tuple[int, ...], NumberType, int]],
        start: int,
        metadata: Mapping[str, object],
    ) -> Iterator[GgufTensor]:
        """The tensors, which must tile the data: aligned, without overlap, gap or rest."""
        alignment = _alignment(metadata)
        reached, names = start, set()
        for name, shape, number, offset in sorted(found, key=lambda entry: entry[3]):
            nbytes = prod(shape) // number.block * number.size
            if start + offset != _aligned(reached, alignment):
                raise self._refuse(f"{name!r:.80} does not begin where the one before it ends")
            if name in names:
                raise self._refuse(f"{name!r:.80} stands there twice")
            reached = start + offset + nbytes
            names.add(name)
            if reached > self._size:
                raise self._refuse(f"cut off: {name!r:.80} ends at {reached} of {self._size} bytes")
            yield GgufTensor(
                file=self._file,
                name=name,
                type=number,
                shape=shape,
                offset=start + offset,
                nbytes=nbytes,
            )
        if self._size > _aligned(reached, alignment):
            raise self._refuse(f"{self._size - reached} bytes too many at its end")


def _alignment(metadata: Mapping[str, object]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
        raise Refused(f"general.alignment is {value!r:.40}, no power of two from 8")
    return value


def _aligned(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment
