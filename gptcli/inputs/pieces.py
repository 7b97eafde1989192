"""Bytes as they come: read piece by piece, never ahead, and cut into lines of 1 MiB at most.

Not here: what the bytes mean is in `gptcli.inputs.records`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from gptcli.errors import MissingInput
from gptcli.inputs.prompt import is_ready
from gptcli.system.os_errors import reason

MAX_LINE_BYTES = 1 << 20  # hundreds of times the longest context
TOO_LONG = "longer than 1 MiB"
PIECE_BYTES = 1 << 16  # read at a time
HOW_LINES = "Give the lines by -f FILE, or by a pipe."


def split(
    pieces: Iterator[bytes | None], end: bytes = b"\n", dropped: bytes = b"\r"
) -> Iterator[bytes | None]:
    """Lines without their ends; of a line that is too long only its beginning is kept.

    One `dropped` before the `end` is no part of a line. Of a line longer than MAX_LINE_BYTES, more
    than so many bytes come. None is handed on, and comes now and then while a long line is read.
    """
    held = bytearray()  # a writer of single bytes would make copies of it quadratic
    for piece in pieces:
        if piece is None:
            yield None
            continue
        *whole, rest = piece.split(end)
        for part in whole:
            held += part
            yield bytes(held).removesuffix(dropped)
            held.clear()
        room = MAX_LINE_BYTES + 2 - len(held)  # one CR, and one byte too many
        if room > 0:
            held += rest[:room]
        elif not whole:
            yield None
    if held:
        yield bytes(held).removesuffix(dropped)


def pieces(stream: BinaryIO, source: str, hint: str = HOW_LINES) -> Iterator[bytes | None]:
    """What there is to read, piece by piece; None whenever reading would wait.

    Raises MissingInput, with `source` and `hint`, when reading fails.
    """
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # not a real file (a BytesIO): reading returns at once
        descriptor = None
    while True:
        if not is_ready(stream, 0):
            yield None
            continue
        try:
            # Past the stream's own buffer, which would wait until it is full.
            piece = (
                stream.read(PIECE_BYTES) if descriptor is None else os.read(descriptor, PIECE_BYTES)
            )
        except BlockingIOError:  # the descriptor does not wait, and something else read first
            yield None
            continue
        except OSError as error:
            raise MissingInput(source, reason(error), hint) from None
        if not piece:
            return
        yield piece
