"""MessagePack, as far as Flax writes it: arrays in maps, none of them read yet.

A reader of our own: it goes over headers and steps over the bytes of arrays, so that only what is
asked for is read. Every length is compared with the bytes that are left before anything is made of
it. The format is https://github.com/msgpack/msgpack/blob/master/spec.md; Flax's extensions are in
flax/serialization.py: type 1 is an array, type 3 a number, each a list of shape, data type and
bytes, itself in MessagePack; arrays above 1 GiB are a map of pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gptcli.checkpoints.formats.locked.source import Refused
from gptcli.checkpoints.safetensors_headers import MAX_DIMENSIONS

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

MAX_DEPTH = 32  # maps in maps
MAX_VALUES = 2**14  # of a file; a GPT-2 of 96 layers has 1500
MAX_NAME = 256  # bytes of a name; characters of a path
CHUNKED = "__msgpack_chunked_array__"
ARRAY, NUMBER = 1, 3  # Flax's extensions
DTYPES = {
    **{f"float{size * 8}": f"<f{size}" for size in (2, 4, 8)},
    **{f"int{size * 8}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"uint{size * 8}": f"<u{size}" for size in (1, 2, 4, 8)},
    "bool": "?",
    "bfloat16": "bfloat16",
    "V2": "bfloat16",
}
ITEM_BYTES = {"bfloat16": 2, "?": 1}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An array of a file; pieces: where its values lie, as (offset, bytes), one after the other."""

    file: Path
    dtype: str  # numpy's, or "bfloat16", which is read as the numbers of its 16 bits
    shape: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...]

    def read(self) -> Array:
        """The values. Raises Refused where the file ends before they do."""
        import numpy

        kind = numpy.dtype("<u2" if self.dtype == "bfloat16" else self.dtype)
        values: Any = numpy.empty(prod(self.shape), kind)
        view, done = memoryview(values).cast("B"), 0
        with self.file.open("rb", buffering=0) as file:
            for offset, size in self.pieces:
                file.seek(offset)
                while size > 0 and (count := file.readinto(view[done : done + size])):
                    done, size = done + count, size - count
        if done != len(view):
            raise Refused(f"{self.file.name}: it became shorter meanwhile")
        found: Array = values.reshape(self.shape)
        return found


Value = dict[str, "Value"] | Stored | int | str | bool | None


def arrays(path: Path) -> dict[str, Stored]:
    """All arrays of a file, by their keys with slashes between. Raises Refused, OSError."""
    with path.open("rb") as file:
        reader = _Reader(path, file, 0, path.stat().st_size)
        top = reader.value(0)
        if reader.at != reader.end:
            raise reader.refuse(f"{reader.end - reader.at} bytes lie behind its end")
    if not isinstance(top, dict):
        raise Refused(f"{path.name}: it holds no map of arrays")
    return dict(_flat(path, top, ""))


def _flat(path: Path, values: dict[str, Value], inside: str) -> Iterator[tuple[str, Stored]]:
    for key, value in values.items():
        name = f"{inside}{key}"
        if len(name) > MAX_NAME:
            raise Refused(f"{path.name}: {name[:200]!r} is a name of {len(name)} characters")
        if isinstance(value, dict):
            whole = _joined(path, name, value) if value.get(CHUNKED) is True else None
            yield from [(name, whole)] if whole else _flat(path, value, f"{name}/")
        elif isinstance(value, Stored):
            yield name, value
        else:
            raise Refused(f"{path.name}: {name[:200]!r} is no array")


def _joined(path: Path, name: str, value: dict[str, Value]) -> Stored:
    """An array that Flax cut into pieces, since it is larger than 1 GiB."""
    sides, pieces = _listed(value.get("shape")), _listed(value.get("chunks"))
    shape = tuple(side for side in sides if type(side) is int and side >= 0)
    parts = [piece for piece in pieces if isinstance(piece, Stored) and len(piece.pieces) == 1]
    total = sum(prod(part.shape) for part in parts)
    whole = set(value) == {CHUNKED, "shape", "chunks"} and len(shape) == len(sides)
    if not (whole and parts and len(parts) == len(pieces) and total == prod(shape)):
        raise Refused(f"{path.name}: {name[:200]!r} is cut into pieces that are not its own")
    if len({part.dtype for part in parts}) > 1 or len(shape) > MAX_DIMENSIONS:
        raise Refused(f"{path.name}: {name[:200]!r} is cut into pieces of several kinds")
    places = tuple(part.pieces[0] for part in parts)
    return Stored(file=path, dtype=parts[0].dtype, shape=shape, pieces=places)


def _listed(value: Value) -> list[Value]:
    """The values of {"0": ..., "1": ...}, as Flax writes a list; none of anything else."""
    if not isinstance(value, dict):
        return []
    keys = [str(place) for place in range(len(value))]
    return [value[key] for key in keys] if set(value) == set(keys) else []


class _Reader:
    """A place in a file, and what stands there."""

    def __init__(self, path: Path, file: BinaryIO, at: int, end: int) -> None:
        self.path, self.file, self.at, self.end, self.values = path, file, at, end, 0

    def refuse(self, why: str) -> Refused:
        return Refused(f"{self.path.name}: {why}")

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > self.end - self.at:
            raise self.refuse("it is cut short, or has a length beyond its end")
        self.file.seek(self.at)
        data = self.file.read(size)
        self.at += len(data)
        if len(data) != size:
            raise self.refuse("it became shorter meanwhile")
        return data

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "big", signed=signed)

    def value(self, depth: int) -> Value:
        """The next value: a map, an array, or what stands in the map of a chunked array."""
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            raise self.refuse("it holds more values, or deeper ones, than a model has")
        code = self.number(1)
        if 0x80 <= code <= 0x8F or code in (0xDE, 0xDF):
            return self._map(code & 15 if code < 0x90 else self.number(2 << (code & 1)), depth)
        if (size := self._extension(code)) is not None:
            return self._array(*size)
        if (text := self._text(code)) is not None:
            return text
        if code in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[code]
        return self._integer(code)

    def _integer(self, code: int) -> int:
        if code <= 0x7F:
            return code
        if 0xCC <= code <= 0xCF:
            return self.number(1 << (code - 0xCC))
        if 0xD0 <= code <= 0xD3:
            return self.number(1 << (code - 0xD0), signed=True)
        raise self.refuse(f"byte {self.at - 1} begins no value that Flax writes ({code:#x})")

    def _map(self, count: int, depth: int) -> dict[str, Value]:
        if 2 * count > self.end - self.at:
            raise self.refuse("it has a map larger than itself")
        found: dict[str, Value] = {}
        for _ in range(count):
            key = self._text(self.number(1))
            if key is None or key in found:
                raise self.refuse("it has a map with a key twice, or one that is no text")
            found[key] = self.value(depth + 1)
        return found

    def _text(self, code: int) -> str | None:
        if 0xA0 <= code <= 0xBF:
            size = code & 31
        elif 0xD9 <= code <= 0xDB:
            size = self.number(1 << (code - 0xD9))
        else:
            return None
        if size > MAX_NAME:
            raise self.refuse(f"it has a name of {size} bytes")
        return self.take(size).decode("utf-8", "backslashreplace")

    def _extension(self, code: int) -> tuple[int, int] | None:
        """Type and length of an extension that begins with this byte; None for anything else."""
        if 0xD4 <= code <= 0xD8:
            size = 1 << (code - 0xD4)
        elif 0xC7 <= code <= 0xC9:
            size = self.number(1 << (code - 0xC7))
        else:
            return None
        return self.number(1), size

    def _array(self, kind: int, size: int) -> Stored:
        """An array or a number of numpy: a list of shape, data type and bytes; nothing is read."""
        begin = self.at
        if kind not in (ARRAY, NUMBER):
            raise self.refuse(f"it has an extension of type {kind} and {size} bytes")
        if size > self.end - begin:
            raise self.refuse("it is cut short, or has a length beyond its end")
        if self.number(1) != 0x93:
            raise self.refuse(f"the array at byte {begin} is no list of three")
        shape = tuple(self._sides())
        dtype = DTYPES.get(str(self._text(self.number(1))))
        length = self._bytes()
        if dtype is None or length is None:
            raise self.refuse(f"the array at byte {begin} has no plain numbers")
        needed = prod(shape) * (ITEM_BYTES.get(dtype) or int(dtype[-1]))
        if length != needed or self.at + length != begin + size:
            raise self.refuse(f"the array at byte {begin} has {length} bytes instead of {needed}")
        offset, self.at = self.at, self.at + length
        return Stored(file=self.path, dtype=dtype, shape=shape, pieces=((offset, length),))

    def _sides(self) -> Iterator[int]:
        code = self.number(1)
        count = code & 15
        if not 0x90 <= code <= 0x9F or count > MAX_DIMENSIONS:
            raise self.refuse("it has an array without a shape")
        for _ in range(count):
            side = self._integer(self.number(1))
            if side < 0:
                raise self.refuse("it has an array with a negative size")
            yield side

    def _bytes(self) -> int | None:
        code = self.number(1)
        return self.number(1 << (code - 0xC4)) if 0xC4 <= code <= 0xC6 else None
