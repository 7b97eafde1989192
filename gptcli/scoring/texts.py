"""Reads the texts to score: from the argument, from files or standard input, whole or by lines.

A text can be a chapter or a test set. One line break at the end of a file is not part of the text.
Every file is opened once before the model loads, so a missing file costs nothing. A file that
cannot be decoded is a text with an error, and the others are still scored. Not here: minimal pairs
are in `gptcli.scoring.pairs`.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from gptcli.errors import BadInput, GptcliError, MissingInput, UsageError
from gptcli.inputs.lines import read_lines
from gptcli.inputs.prompt import decode, encode_argument, errors_of_file
from gptcli.options import Input
from gptcli.scoring.scorer import TextToScore
from gptcli.system.os_errors import reason

MAX_TEXT_BYTES = 8 << 20  # some two million tokens, all in memory
HOW = 'Give it as an argument, gptcli score "Once upon a time.", or by -f FILE, or by a pipe.'


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where texts come from: the `argument`, else the `files`, else standard input."""

    argument: str | None = None
    files: Sequence[str] = ()
    lines: bool = False  # every line is a text
    errors: Literal["strict", "replace"] = "strict"  # for bytes that are not UTF-8

    @property
    def input(self) -> Input:
        """The same for the readers of lines and bytes. The scorer refuses empty texts."""
        return Input(errors=self.errors, allow_empty=True)


def read_texts(source: TextSource, stdin: BinaryIO | None) -> Iterator[TextToScore | None]:
    """The texts; None for "none right now".

    Ids: a file's name, "-" for standard input, "0" for the argument; with `lines` the line's
    number, after the file's name where there are several files. An empty line is an empty text.
    Raises before it reads: UsageError (no input, a bad name, standard input twice) and
    MissingInput (a file). Raises while it reads: MissingInput (standard input).
    """
    names = source.files
    _check(names, source.argument, stdin)
    if source.lines:
        return _lines(source, stdin)
    if source.argument not in (None, "-"):
        return iter([_argument(str(source.argument), source.input)])
    return (_whole(name, source.input, stdin) for name in names or ["-"])


def _check(names: Sequence[str], argument: str | None, stdin: BinaryIO | None) -> None:
    """Refuse files that cannot be opened, before the model loads."""
    for name in names:
        if name == "":
            raise UsageError("--file", "the name is empty", "Name a file.")
        if name != "-":
            with errors_of_file(name), Path(name).open("rb"):
                pass
    if names.count("-") > 1:
        raise UsageError("standard input", "it is asked for twice", "Give - once.")
    wanted = "-" in names or (not names and argument in (None, "-"))
    if wanted and stdin is None:
        raise MissingInput("standard input", "it is closed", HOW)
    named = "-" in names or argument == "-"
    if wanted and not named and stdin is not None and stdin.isatty():
        raise UsageError("no text", "standard input is a terminal", HOW)


def _lines(source: TextSource, stdin: BinaryIO | None) -> Iterator[TextToScore | None]:
    argument = None if source.files else source.argument or "-"
    for name in source.files or (None,):
        prefix = f"{name}:" if len(source.files) > 1 else ""
        for line in read_lines(argument, replace(source.input, file=name), stdin):
            if line is None:
                yield None
            else:
                yield TextToScore(f"{prefix}{line.number}", line.text or "", line.error)


def _argument(argument: str, input: Input) -> TextToScore:
    return TextToScore("0", decode(encode_argument(argument), input, "argument"))


def _whole(name: str, input: Input, stdin: BinaryIO | None) -> TextToScore:
    """A file or standard input as one text."""
    where = "standard input" if name == "-" else f"file {name}"
    try:
        data = read_bytes(name, stdin)
        start = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
        text = decode(data, input, where, start)
    except GptcliError as error:
        return TextToScore(name, "", error)
    return TextToScore(name, text[:-2] if text.endswith("\r\n") else text.removesuffix("\n"))


def read_bytes(name: str, stdin: BinaryIO | None) -> bytes:
    """The bytes of a file, or of standard input for "-". Raises MissingInput, BadInput (size)."""
    if name != "-":
        with errors_of_file(name), Path(name).open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    elif stdin is None:
        raise MissingInput("standard input", "it is closed", HOW)
    else:
        try:
            data = stdin.read(MAX_TEXT_BYTES + 1)
        except OSError as error:
            raise MissingInput("standard input", reason(error), "Use -f FILE.") from None
    if len(data) > MAX_TEXT_BYTES:
        shown = "standard input" if name == "-" else f"file {name}"
        raise BadInput(
            shown, f"more than {MAX_TEXT_BYTES >> 20} MiB", "Split it, or score it by --lines."
        )
    return data
