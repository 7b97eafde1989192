"""Sealed files: safetensors files of our own, which hold checksums of all their bytes.

What is made once and used by later runs must be what was made: one wrong bit writes another text,
and nothing says so. A sealed file ends in a tensor of CRC-32s, one of its header and one of each
`PIECE_BYTES` of its data. A CRC-32 finds every single wrong bit, every run of up to 32 of them, and
pages that were swapped, zeroed or lost, but for one in 2^32. It is no protection against people.
Checking reads every byte, in threads, at the speed of memory where the file is in the system's
cache. Reading, not mapping, so that a bad sector is an error and not a signal. Not here: what is
kept, and where, is for users of this module, such as `gptcli.checkpoints.int8_store`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from zlib import crc32

from gptcli.checkpoints.safetensors_headers import MAX_HEADER_BYTES, Tensor, read_header
from gptcli.errors import BadModel, MissingInput
from gptcli.system import durable
from gptcli.system.os_errors import reason
from gptcli.system.processors import allowed_cores
from gptcli.system.strict_json import open_model_file, parse_object

CHECKSUMS = "checksums"  # the name of the last tensor
PIECE_BYTES = 2**22
BUFFER_BYTES = 2**18  # that are read at a time: they stay in a core's own cache
MOST_THREADS = 8  # which saturate memory
ALIGNMENT = 64  # bytes, of the data


class BrokenSeal(Exception):
    """A sealed file whose bytes are not those that were written; the text says what is wrong."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor to be written: safetensors' name of its dtype, its shape, its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True)
class Sealed:
    """What a sealed file holds: what it says of itself, and where its tensors lie."""

    about: Mapping[str, str]
    tensors: Mapping[str, Tensor]


def write(descriptor: int, about: Mapping[str, str], pieces: Mapping[str, StoredTensor]) -> None:
    """Write a sealed file into a new, empty one. Raises OSError."""
    header = _header(about, pieces)
    durable.write_all(descriptor, header)
    sums, sum_, filled = [crc32(header)], 0, 0
    for part in _parts(pieces.values()):
        durable.write_all(descriptor, part)
        sum_, filled = crc32(part, sum_), filled + len(part)
        if filled == PIECE_BYTES:
            sums.append(sum_)
            sum_ = filled = 0
    if filled:
        sums.append(sum_)
    durable.write_all(descriptor, pack(f"<{len(sums)}I", *sums))


def read(path: Path) -> Sealed:
    """Check every byte of a sealed file. Raises FileNotFoundError, and BrokenSeal for any fault."""
    try:
        tensors = read_header(path)
        sums = tensors.pop(CHECKSUMS)
        begin = min((tensor.offset for tensor in tensors.values()), default=sums.offset)
        with open_model_file(path) as file:
            _check(file.fileno(), begin, sums)
            return Sealed(said_by(path), tensors)
    except MissingInput as error:
        if not os.path.lexists(path):
            raise FileNotFoundError from None
        raise BrokenSeal(error.why) from None
    except KeyError:
        raise BrokenSeal("it has no checksums") from None
    except BadModel as error:
        raise BrokenSeal(error.why) from None
    except OSError as error:
        raise BrokenSeal(reason(error)) from None


def said_by(path: Path) -> dict[str, str]:
    """What a file says of itself, unchecked. Raises OSError; BadModel, MissingInput."""
    with open_model_file(path) as file:
        length = int.from_bytes(file.read(8), "little")
        data = file.read(min(length, MAX_HEADER_BYTES))
    try:
        said = parse_object(data).get("__metadata__")
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    return {key: value for key, value in said.items() if isinstance(value, str)}


def _check(descriptor: int, begin: int, sums: Tensor) -> None:
    """Compare all checksums; the data end where `sums` begins. Raises BrokenSeal, OSError."""
    starts = range(begin, sums.offset, PIECE_BYTES)
    ranges = [(0, begin), *((at, min(at + PIECE_BYTES, sums.offset)) for at in starts)]
    kept = os.pread(descriptor, sums.nbytes, sums.offset)
    if (sums.dtype, sums.shape) != ("U32", (len(ranges),)):
        raise BrokenSeal("its checksums are of other data")
    with ThreadPoolExecutor(min(MOST_THREADS, allowed_cores(), len(ranges))) as pool:
        found = pool.map(lambda piece: _checksum(descriptor, *piece), ranges)
        for number, (sum_, (start, end)) in enumerate(zip(found, ranges, strict=True)):
            if pack("<I", sum_) != kept[4 * number : 4 * number + 4]:
                raise BrokenSeal(f"a checksum of bytes {start} to {end} is wrong")


def _checksum(descriptor: int, start: int, end: int) -> int:
    """The checksum of a part of a file. Raises BrokenSeal where the file is cut off; OSError."""
    buffer = memoryview(bytearray(min(BUFFER_BYTES, end - start)))
    found = 0
    while start < end:
        length = os.preadv(descriptor, [buffer[: end - start]], start)
        if not length:
            raise BrokenSeal("it is cut off")
        found = crc32(buffer[:length], found)
        start += length
    return found


def _header(about: Mapping[str, str], pieces: Mapping[str, StoredTensor]) -> bytes:
    """The beginning of a safetensors file, with room for the checksums behind the data."""
    header: dict[str, object] = {"__metadata__": dict(about)}
    end = 0
    for name, piece in pieces.items():
        begin, end = end, end + len(piece.data)
        header[name] = _entry(piece.dtype, piece.shape, begin, end)
    count = 1 + -(-end // PIECE_BYTES)
    header[CHECKSUMS] = _entry("U32", (count,), end, end + 4 * count)
    data = json.dumps(header).encode()
    data += b" " * (-(8 + len(data)) % ALIGNMENT)
    return len(data).to_bytes(8, "little") + data


def _entry(dtype: str, shape: tuple[int, ...], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def _parts(pieces: Iterable[StoredTensor]) -> Iterator[memoryview]:
    """All data, cut where a piece of the file ends."""
    room = PIECE_BYTES
    for piece in pieces:
        data = memoryview(piece.data)
        while data:
            yield data[:room]
            data, room = data[room:], room - min(room, len(data))
            room = room or PIECE_BYTES
