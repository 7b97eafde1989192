"""Many inputs, one a line, from the file, standard input or the argument, as they come.

A line is handed on as soon as it is whole, and nothing is read ahead that is not asked for: a file
of any size takes little memory, and what a slow pipe has not sent yet never keeps the lines before
it waiting. A bad line is a line with an error: those after it are still read. Left out: the reading
of single prompts, in `gptcli.inputs.prompt`, and of formats other than lines.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from gptcli.errors import BadInput, GptcliError, MissingInput, UsageError
from gptcli.inputs.prompt import decode, empty, encode_argument, errors_of_file, is_ready
from gptcli.options import Input
from gptcli.system.os_errors import reason

LONGEST = 1 << 20  # bytes of a line: hundreds of times the longest context
_PIECE = 1 << 16  # bytes read at a time

_HOW = "Give the lines by -f FILE, or by a pipe."


@dataclass(frozen=True)
class InputLine:
    """An input, or why it cannot be one; `number` counts from 1."""

    number: int
    text: str | None
    error: GptcliError | None = None


def read_lines(
    argument: str | None, input: Input, stdin: BinaryIO | None
) -> Iterator[InputLine | None]:
    """The lines of the argument, the file or standard input; None for "none right now".

    A line ends at LF, or at the end of the input; one CR before it is dropped, as is a byte order
    mark at the very beginning. A line has an error if it is empty or blank (UsageError, unless
    `input.allow_empty`), no UTF-8 or longer than 1 MiB (BadInput). Raises, before anything is read,
    UsageError (no input, two of them, a bad file name) and MissingInput (the file); while reading,
    MissingInput.
    """
    typed = argument not in (None, "-")
    if argument == "-" and input.file == "-":
        raise UsageError("standard input", "it is asked for twice", "Drop -f - or the argument -.")
    if input.file == "":
        raise UsageError("--file", "the name is empty", "Name a file.")
    if argument is not None and input.file is not None:
        raise UsageError("--lines", "an argument and a file are both given", "Drop one of them.")
    if typed:
        return _lines(BytesIO(encode_argument(str(argument))), "argument", input)
    if input.file not in (None, "-"):
        with errors_of_file(str(input.file)):
            file = Path(str(input.file)).open("rb")  # noqa: SIM115 - closed where it is read
        return _lines(file, f"file {input.file}", input, close=True)
    if "-" not in (argument, input.file) and (stdin is None or stdin.isatty()):
        raise UsageError("no lines", "standard input is a terminal or closed", _HOW)
    if stdin is None:
        raise MissingInput("standard input", "it is closed", _HOW)
    return _lines(stdin, "standard input", input)


def _lines(
    stream: BinaryIO, source: str, input: Input, *, close: bool = False
) -> Iterator[InputLine | None]:
    """The stream's lines; it is closed at the end if `close`."""
    with ExitStack() as stack:
        if close:
            stack.enter_context(stream)
        number = 0
        for data in split(pieces(stream, source)):
            if data is None:
                yield None
                continue
            number += 1
            start = len(codecs.BOM_UTF8) if number == 1 and data.startswith(codecs.BOM_UTF8) else 0
            yield _line(number, data, start, input)


def _line(number: int, data: bytes, start: int, input: Input) -> InputLine:
    """The line of these bytes, from `start` on."""
    try:
        if len(data) > LONGEST:
            raise BadInput(
                f"line {number}", "longer than 1 MiB", "A prompt is a few pages at most: cut it."
            )
        text = decode(data, input, f"line {number}", start)
        if not text.strip() and not input.allow_empty:
            raise empty(f"line {number} is empty")
    except GptcliError as error:
        return InputLine(number, None, error)
    return InputLine(number, text)


def split(
    pieces: Iterator[bytes | None], end: bytes = b"\n", dropped: bytes = b"\r"
) -> Iterator[bytes | None]:
    """Lines without their ends; of a line that is too long only its beginning is kept.

    One `dropped` before the `end` is no part of a line. Of a line longer than LONGEST bytes more
    than LONGEST bytes come. None is handed on, and comes now and then while a long line is read.
    """
    held = b""
    for piece in pieces:
        if piece is None:
            yield None
            continue
        *whole, rest = piece.split(end)
        for part in whole:
            yield (held + part).removesuffix(dropped)
            held = b""
        if len(held) < LONGEST + 2:  # one CR, and one byte too many
            held = (held + rest)[: LONGEST + 2]
        elif not whole:
            yield None
    if held:
        yield held.removesuffix(dropped)


def pieces(stream: BinaryIO, source: str, hint: str = _HOW) -> Iterator[bytes | None]:
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
            piece = stream.read(_PIECE) if descriptor is None else os.read(descriptor, _PIECE)
        except BlockingIOError:  # the descriptor does not wait, and something else read first
            yield None
            continue
        except OSError as error:
            raise MissingInput(source, reason(error), hint) from None
        if not piece:
            return
        yield piece
