"""Snappy's raw format unpacked, as blocks of a table can have it: literals, and copies of them."""

from __future__ import annotations

from gptcli.checkpoints.formats.locked.source import Refused

COPY_BYTES = {1: 1, 2: 2, 3: 4}  # of the offset, by the kind of a copy
LONGEST_PREAMBLE = 5


def unpacked(data: bytes, limit: int) -> bytes:
    """The data before they were packed, at most `limit` bytes. Raises Refused."""
    size, place = _size(data)
    if size > limit:
        raise Refused(f"a packed block says that it has {size} bytes")
    made = bytearray()
    while place < len(data):
        kind, high = data[place] & 3, data[place] >> 2
        place += 1
        if kind == 0:
            place = _literal(data, place, high, made)
        else:
            place = _copied(data, place, kind, high, made)
        if len(made) > size:
            break
    if len(made) != size:
        raise Refused("a packed block does not have the size that it says")
    return bytes(made)


def _size(data: bytes) -> tuple[int, int]:
    size = 0
    for place, byte in enumerate(data[:LONGEST_PREAMBLE]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return size, place + 1
    raise Refused("a packed block has no beginning")


def _literal(data: bytes, place: int, high: int, made: bytearray) -> int:
    if high >= 60:
        more = high - 59
        high = int.from_bytes(data[place : place + more], "little")
        place += more
    end = place + high + 1
    if end > len(data):
        raise Refused("a packed block is cut short")
    made += data[place:end]
    return end


def _copied(data: bytes, place: int, kind: int, high: int, made: bytearray) -> int:
    width = COPY_BYTES[kind]
    offset = int.from_bytes(data[place : place + width], "little")
    count = high + 1
    if kind == 1:
        offset, count = offset | high >> 3 << 8, (high & 7) + 4
    if not 0 < offset <= len(made) or place + width > len(data):
        raise Refused("a packed block copies from outside itself")
    piece = bytes(made[-offset:][:count])
    made += (piece * (count // len(piece) + 1))[:count]
    return place + width
