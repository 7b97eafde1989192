"""The values of an HDF5 array, read from where they lie, packed or not.

gzip may make a thousand bytes of one: so nothing is unpacked beyond the size that the array says.
The filters are those of the HDF5 File Format Specification: deflate, shuffle, fletcher32.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gptcli.checkpoints.formats.locked.source import Refused

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

DEFLATE, SHUFFLE, FLETCHER32 = FILTERS = (1, 2, 3)  # numbers of the format
CHECKSUM_BYTES = 4
BLOCK_WORDS = 2**20  # of a checksum, taken at once


class ChunkPlace(NamedTuple):
    """Where a piece of an array lies. unused: a bit for each filter that was left out."""

    offset: int
    size: int
    unused: int


def stored(dtype: str) -> str:
    """numpy's type of the values as they lie in the file."""
    return "<u2" if dtype == "bfloat16" else dtype


def native(values: Any) -> Array:
    """The values with their bytes in little-endian order."""
    found: Array = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return found


@dataclass(frozen=True)
class Empty:
    """An array without values."""

    dtype: str
    shape: tuple[int, ...]

    def __call__(self) -> Array:
        """The array."""
        import numpy

        return native(numpy.empty(self.shape, stored(self.dtype)))


@dataclass(frozen=True)
class Contiguous:
    """An array that lies in one piece at byte `offset`."""

    path: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]

    def __call__(self) -> Array:
        """Read it. Raises Refused where the file ends before it does."""
        import numpy

        with self.path.open("rb") as file:
            file.seek(self.offset)
            values = numpy.fromfile(file, stored(self.dtype), prod(self.shape))
        if values.size != prod(self.shape):
            raise Refused(f"{self.path.name}: it became shorter meanwhile")
        return native(values.reshape(self.shape))


@dataclass(frozen=True)
class Chunked:
    """An array in pieces of shape `sides`; chunks: by the place of their first number."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    sides: tuple[int, ...]
    filters: tuple[int, ...]
    chunks: Mapping[tuple[int, ...], ChunkPlace]

    def __call__(self) -> Array:
        """Read all pieces. Raises Refused where one cannot be unpacked."""
        import numpy

        kind = numpy.dtype(stored(self.dtype))
        values: Array = numpy.empty(self.shape, kind)
        size = prod(self.sides) * kind.itemsize
        with self.path.open("rb") as file:
            for corner, chunk in sorted(self.chunks.items(), key=lambda item: item[1].offset):
                file.seek(chunk.offset)
                try:
                    data = unpacked(
                        file.read(chunk.size), size, kind.itemsize, self._used(chunk.unused)
                    )
                except (ValueError, zlib.error) as error:
                    raise Refused(f"{self.path.name}: a piece is damaged ({error})") from None
                piece = numpy.frombuffer(data, kind).reshape(self.sides)
                ends = zip(corner, self.sides, self.shape, strict=True)
                target = tuple(slice(at, min(at + side, end)) for at, side, end in ends)
                values[target] = piece[tuple(slice(0, part.stop - part.start) for part in target)]
        return native(values)

    def _used(self, unused: int) -> list[int]:
        return [one for place, one in enumerate(self.filters) if not unused >> place & 1]


def unpacked(data: bytes, size: int, width: int, filters: list[int]) -> bytes:
    """The `size` bytes of a piece, of numbers of `width` bytes, that `filters` were applied to.

    Raises ValueError, zlib.error.
    """
    for place in reversed(range(len(filters))):
        expected = size + CHECKSUM_BYTES * filters[:place].count(FLETCHER32)
        match filters[place]:
            case 1:  # deflate
                data = _inflated(data, expected)
            case 2:  # shuffle
                data = _gathered(data, width)
            case _:
                data = _checked(data)
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes, not {size}")
    return data


def _inflated(data: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    found = inflater.decompress(data, size + 1)
    if len(found) != size or not inflater.eof:
        raise ValueError(f"it is not {size} bytes when unpacked")
    return found


def _gathered(data: bytes, width: int) -> bytes:
    """All first bytes, all second bytes ... : the numbers again."""
    import numpy

    whole = len(data) // width * width
    planes = numpy.frombuffer(data[:whole], numpy.uint8).reshape(width, -1)
    return planes.T.tobytes() + data[whole:]


def _checked(data: bytes) -> bytes:
    """The data before its checksum: HDF5 takes it of big-endian words, modulo 65535."""
    import numpy

    data, kept = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    words = numpy.frombuffer(data + bytes(len(data) % 2), ">u2")
    first = second = 0
    for begin in range(0, words.size, BLOCK_WORDS):
        block = words[begin : begin + BLOCK_WORDS].astype(numpy.uint64)
        weights = numpy.arange(block.size, 0, -1, dtype=numpy.uint64)
        second = (second + block.size * first + int((block * weights).sum())) % 65535
        first = (first + int(block.sum())) % 65535
    told = int.from_bytes(kept, "little")
    halves = ((told >> 16) % 65535, told % 2**16 % 65535)
    if len(kept) < CHECKSUM_BYTES or halves != (second, first):
        raise ValueError("its checksum is another one")
    return data
