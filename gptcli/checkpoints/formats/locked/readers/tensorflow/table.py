"""The sorted table that TensorFlow keeps an index in (LevelDB's), read whole.

Its last 48 bytes say where the index of blocks lies. A block holds keys and values, each key
without what it has in common with the one before; behind it stand a byte (stored, or packed with
Snappy) and a checksum. Keys ascend, and blocks do not overlap, so no file makes more work than its
size and `MAX_BYTES` allow.
"""

from __future__ import annotations

from collections.abc import Iterator

from gptcli.checkpoints.formats.locked.readers.tensorflow import snappy
from gptcli.checkpoints.formats.locked.readers.tensorflow.crc32c import crc32c, masked
from gptcli.checkpoints.formats.locked.source import Refused

FOOTER_BYTES, TRAILER_BYTES = 48, 5
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
MAX_KEY_BYTES = 2048
MAX_BYTES = 2**24  # of all keys and values
MAX_VARINT_BYTES = 10


def entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values, ascending. Raises Refused."""
    if len(data) < FOOTER_BYTES or data[-8:] != MAGIC:
        raise Refused("it is no table of TensorFlow, or its end is missing")
    footer = data[-FOOTER_BYTES:-8]
    _, place = _handle(footer, 0)
    (begin, size), _ = _handle(footer, place)
    last, before, total = b"", 0, 0
    index = _block(data, begin, size)
    for _, value in _pairs(index):
        (begin, size), _ = _handle(value, 0)
        if begin < before:
            raise Refused("its blocks overlap")
        before = begin + size + TRAILER_BYTES
        for key, held in _pairs(_block(data, begin, size)):
            if key <= last and (last or total):
                raise Refused(f"its keys do not ascend at {key!r:.80}")
            last, total = key, total + len(key) + len(held) + 1
            if total > MAX_BYTES:
                raise Refused(f"its entries take more than {MAX_BYTES} bytes")
            yield key, held


def varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven to a byte, and the place behind it. Raises Refused."""
    value = 0
    for count, byte in enumerate(data[place : place + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, place + count + 1
    raise Refused("a number in it has no end")


def _handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    begin, place = varint(data, place)
    size, place = varint(data, place)
    return (begin, size), place


def _block(data: bytes, begin: int, size: int) -> bytes:
    """A block's contents, checked and unpacked. Raises Refused."""
    import numpy

    end = begin + size
    if end + TRAILER_BYTES > len(data) - FOOTER_BYTES:
        raise Refused("a block lies outside the file")
    stored = int.from_bytes(data[end + 1 : end + TRAILER_BYTES], "little")
    if masked(crc32c(numpy.frombuffer(data, numpy.uint8)[begin : end + 1])) != stored:
        raise Refused("a block's checksum is wrong")
    match data[end]:
        case 0:
            return data[begin:end]
        case 1:
            return snappy.unpacked(data[begin:end], MAX_BYTES)
        case kind:
            raise Refused(f"a block is packed in an unknown way ({kind})")


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block, whose end says how many places to begin at it has."""
    end = len(block) - 4
    if end >= 0:
        end -= 4 * int.from_bytes(block[-4:], "little")
    if end < 0:
        raise Refused("a block is cut short")
    place, key = 0, b""
    while place < end:
        shared, place = varint(block, place)
        own, place = varint(block, place)
        size, place = varint(block, place)
        if shared > len(key) or shared + own > MAX_KEY_BYTES or place + own + size > end:
            raise Refused("an entry of a block lies outside it")
        key = key[:shared] + block[place : place + own]
        place += own + size
        yield key, block[place - size : place]
