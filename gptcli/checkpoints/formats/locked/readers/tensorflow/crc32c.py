"""CRC-32C (Castagnoli) of large arrays, with NumPy's XOR alone.

A CRC is the remainder of the data, as a polynomial over GF(2), by one of degree 32. That polynomial
divides x^6777 + x^484 + x^100 + 1, found by search, and so, since squares of sums are sums of
squares there, the same with all exponents times 64. Hence a word of 64 bits may be XORed into three
places 6293, 6677 and 6777 words behind it, and left out: 6293 words at a time, until 6777 are left.
The same with bytes for words leaves 6777 bytes, for which a table of 256 entries is fast enough.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

POLYNOMIAL = 0x82F63B78  # bit 31 is x^0
WIDTH, TERMS = 6777, (484, 100, 0)  # exponents of the sparse multiple
ONES = 0xFFFFFFFF
STEP = WIDTH - TERMS[0]  # how much can be folded at once


def crc32c(data: Array) -> int:
    """The checksum of an array of bytes; it is not changed, and 110 KB more are taken."""
    import numpy

    first = data[:4] ^ numpy.uint8(0xFF)  # the register begins as ones
    rest, head = data[4:], first.tobytes()
    if data.size < 4:
        return _by_table(data.tobytes(), ONES) ^ ONES
    if rest.size > 8 * (WIDTH + STEP):
        rest, head = _folded(head, rest, 8), b""
    if len(head) + rest.size > 2 * WIDTH:
        rest, head = _folded(head, rest, 1), b""
    return _by_table(head + rest.tobytes(), 0) ^ ONES


def masked(value: int) -> int:
    """The form that is stored beside data, so that a checksum of checksums tells something."""
    return ((value >> 15 | value << 17) + 0xA282EAD8) & ONES


def _folded(head: bytes, rest: Array, unit: int) -> Array:
    """WIDTH * unit bytes with the remainder of `head` and `rest`. Zeros may go before both."""
    import numpy

    width, step = WIDTH * unit, STEP * unit
    window, other = (numpy.zeros(width, numpy.uint8) for _ in range(2))
    first = rest.size % step  # whole steps come after it
    window[width - first - len(head) : width - first] = numpy.frombuffer(head, numpy.uint8)
    window[width - first :] = rest[:first]
    kind = numpy.uint64 if unit == 8 else numpy.uint8
    for begin in range(first, rest.size, step):
        other[: width - step] = window[step:]
        other[width - step :] = rest[begin : begin + step]
        for term in TERMS:
            place = (TERMS[0] - term) * unit
            part: Array = other[place : place + step].view(kind)
            numpy.bitwise_xor(part, window[:step].view(kind), out=part)
        window, other = other, window
    return window


@cache
def _table() -> tuple[int, ...]:
    values = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        values.append(value)
    return tuple(values)


def _by_table(data: bytes, register: int) -> int:
    table = _table()
    for byte in data:
        register = register >> 8 ^ table[(register ^ byte) & 0xFF]
    return register
