"""Inputs compressed by gzip or zstd, decompressed piece by piece as they come.

The first bytes tell the compression, not the name: servers and browsers decompress files and keep
the name. Neither magic number can begin a text in UTF-8. Damage ends the input with one error,
after the text before it, because the next row cannot be found. Archives of many files, such as zip,
are not read.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from gptcli.errors import BadInput, Unavailable

Packing = Literal["gzip", "zstd"]

SUFFIXES: dict[str, Packing] = {".gz": "gzip", ".zst": "zstd"}
MAGIC: dict[bytes, Packing] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

# Bytes unpacked at a time. Four bytes of zstd can stand for 128 KiB: so these, for 8 MiB at most.
_PACKED_BYTES = 256
_UNPACKED_BYTES = 1 << 16


class Unpacker(Protocol):
    """What zlib, zstandard and compression.zstd have in common: one stream's state."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def packing_of(head: bytes) -> Packing | None:
    """What an input with these first bytes is packed by."""
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)


def unpacker(kind: Packing) -> tuple[Callable[[], Unpacker], tuple[type[Exception], ...]]:
    """What makes the state for a stream, and what it raises. Raises Unavailable without zstd."""
    if kind == "gzip":
        return lambda: zlib.decompressobj(wbits=31), (zlib.error, EOFError)
    # Imported by name: neither has to be there, and one is new in Python 3.14.
    try:
        own = importlib.import_module("compression.zstd")
        return own.ZstdDecompressor, (own.ZstdError, EOFError)
    except ImportError:
        pass
    try:
        package = importlib.import_module("zstandard")
    except ImportError:
        raise Unavailable(
            "zstd", "the package zstandard is not installed", "pip install 'gptcli[zstd]'"
        ) from None
    return lambda: package.ZstdDecompressor().decompressobj(), (package.ZstdError, EOFError)


def unpacked(pieces: Iterator[bytes | None], kind: Packing, source: str) -> Iterator[bytes | None]:
    """The pieces unpacked, in pieces of some 64 KiB; None is handed on.

    Several streams may follow one another, as `cat a.gz b.gz` makes them. Raises BadInput, after
    what could be read, where the data is damaged or ends too early; Unavailable without zstd.
    """
    make, broken = unpacker(kind)
    held = bytearray()
    try:
        for part in _parts(pieces, make):
            if part is not None:
                held += part
            if held and (part is None or len(held) >= _UNPACKED_BYTES):
                yield bytes(held)
                held.clear()
            if part is None:
                yield None
    except broken as error:
        if held:
            yield bytes(held)
        why = str(error) if isinstance(error, EOFError) else f"the {kind} data is damaged"
        hint = "The rows before it were read: get the file again, or repair it."
        raise BadInput(source, why, hint) from None
    if held:
        yield bytes(held)


def _parts(pieces: Iterator[bytes | None], make: Callable[[], Unpacker]) -> Iterator[bytes | None]:
    state = make()
    for piece in pieces:
        if piece is None:
            yield None
            continue
        for at in range(0, len(piece), _PACKED_BYTES):
            rest = piece[at : at + _PACKED_BYTES]
            while rest:
                if state.eof:
                    rest = rest.lstrip(b"\0")  # what tapes and block devices are padded with
                    if not rest:
                        break
                    state = make()
                yield state.decompress(rest)
                rest = state.unused_data
    if not state.eof:
        raise EOFError("the packed data ends too early")
