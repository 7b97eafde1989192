"""The prompt: from the argument, a file, standard input, or several of them.

Bytes are read and decoded here, strictly as UTF-8 in every locale, so that an error names the place
of a bad byte. Nothing waits for input that may never come: beside a prompt that is an argument, a
silent pipe has one second. Not here: many inputs are in `gptcli.inputs.lines`.
"""

from __future__ import annotations

import codecs
import os
import re
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from gptcli.errors import BadInput, MissingInput, UsageError
from gptcli.inputs.encoding import not_utf8, refuse_foreign
from gptcli.options import Input
from gptcli.system.os_errors import reason
from gptcli.system.regular_files import open_stream
from gptcli.system.units import counted

MAX_PROMPT_BYTES = 4 << 20  # a thousand times the longest context
PATIENCE_SECONDS = 1.0  # for an open, silent pipe when a prompt is already there
SILENCE_SECONDS = 10.0  # between two pieces of a pipe beside a prompt that is there already

_PATH = re.compile(r"^[.~]?/|/.*\.\w+$|\.(txt|md|html?|json|csv|tsv|pdf)$", re.IGNORECASE)
_HOW = 'Give it as an argument, gptcli generate "Once upon a time", or by -f FILE, or by a pipe.'
SHORTEN = "A prompt is a few pages at most: cut it."
ENDS_IN_SPACE = (
    "the prompt ends in a space, but GPT-2's tokens begin with one: without it the text is better"
)


@dataclass(frozen=True)
class Prompt:
    """What to continue, and what to tell the user about it."""

    text: str
    notices: tuple[str, ...] = ()


def read_prompt(argument: str | None, input: Input, stdin: BinaryIO | None) -> Prompt:
    """Put the prompt together from the file, standard input and the argument, in this order.

    Parts are joined by a line break; empty ones are left out. Of a file and of standard input one
    trailing line break is dropped. `stdin` is the binary stream, None when it is closed; `argument`
    is as `sys.argv` holds it. Raises UsageError (no prompt, an empty one, a bad file name, an
    argument that is the path of a file), MissingInput (the file), BadInput (not UTF-8, more than
    4 MiB).
    """
    check_sources(argument, input)
    if argument is not None and _PATH.search(argument):
        refuse_file_name(argument, "the prompt")
    typed = decode_argument(argument, input) if argument not in (None, "-") else None
    stored = ""
    if input.file not in (None, "-"):
        stored = _decode(_read_file(str(input.file)), input, f"file {input.file}")
    piped, notices = _from_stdin(argument, input, stdin)
    text = "\n".join(filter(None, (stored, piped, typed)))
    if not text and not input.allow_empty:
        if typed is None and input.file is None and piped is None:
            why = "standard input is a terminal or closed"
            raise UsageError("no prompt", "--no-stdin is given" if input.no_stdin else why, _HOW)
        raise empty("empty prompt")
    return Prompt(text, (*notices, ENDS_IN_SPACE) if text.endswith(" ") else notices)


def check_sources(argument: str | None, input: Input) -> None:
    """Raises UsageError for sources that exclude each other, and for a file without a name."""
    if argument == "-" and input.file == "-":
        raise UsageError("standard input", "it is asked for twice", "Drop -f - or the argument -.")
    if input.no_stdin and "-" in (argument, input.file):
        raise UsageError("--no-stdin", "- asks for standard input", "Leave one of them out.")
    if input.file == "":
        raise UsageError("--file", "the name is empty", "Name a file.")


def empty(what: str) -> UsageError:
    """The error for a prompt without text."""
    return UsageError(
        what,
        "there is nothing to continue",
        "Give some text, or start from nothing with --allow-empty.",
    )


def refuse_file_name(text: str, what: str) -> None:
    """Raises UsageError where an argument that should be a text is the name of a file."""
    try:
        is_file = 0 < len(text) < 4096 and "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):
        return
    if is_file:
        raise UsageError(
            what, f"{text} is a file, and would be taken as the text", f"Add -f: -f {text}"
        )


def read_piped(input: Input, stdin: BinaryIO | None) -> Prompt | None:
    """What is piped in beside an argument; None where nothing is. Raises as `read_prompt`."""
    text, notices = _from_stdin("", input, stdin)
    return Prompt(text or "", notices) if text or notices else None


def read_text(value: str, input: Input) -> str:
    """The contents of the file of that name, or else `value` itself: a text.

    What has no space and looks like a path must be a file. Raises MissingInput, BadInput.
    """
    try:
        is_file = len(value) < 4096 and "\n" not in value and Path(value).is_file()
    except (OSError, ValueError):
        is_file = False
    looks = not any(character.isspace() for character in value) and bool(_PATH.search(value))
    if is_file or looks:
        return _decode(_read_file(value), input, f"file {value}")
    return decode_argument(value, input)


def _from_stdin(
    argument: str | None, input: Input, stdin: BinaryIO | None
) -> tuple[str | None, tuple[str, ...]]:
    """Standard input's text, None where it is not read; and what to tell the user."""
    demanded = "-" in (argument, input.file)
    if not demanded and (
        input.no_stdin or input.file is not None or stdin is None or stdin.isatty()
    ):
        return None, ()
    patient = demanded or (argument is None and not input.allow_empty)
    data = _read_stdin(stdin, patient=patient)
    if data is None:
        return "", ("standard input stayed open and empty: ignored; use -f - to wait for it",)
    text = _decode(data, input, "standard input")
    beside = argument not in (None, "-") and not demanded and text
    return text, (_beside(text),) if beside else ()


def _beside(text: str) -> str:
    """Tells that standard input was read, which a loop of the shell may not expect."""
    lines = counted(text.count("\n") + 1, "line")
    return f"{lines} of standard input read beside the argument; --no-stdin leaves it alone"


def _read_stdin(stdin: BinaryIO | None, *, patient: bool) -> bytes | None:
    """Everything up to the limit; None when nothing came in time and `patient` is not set."""
    if stdin is None:
        raise MissingInput("standard input", "it is closed", _HOW)
    if not patient and not is_ready(stdin, PATIENCE_SECONDS):
        return None
    try:
        return stdin.read(MAX_PROMPT_BYTES + 1) if patient else _read_promptly(stdin)
    except OSError as error:
        raise MissingInput("standard input", reason(error), "Give the prompt by -f FILE.") from None


def _read_promptly(stdin: BinaryIO) -> bytes:
    """Everything up to the limit. Raises UsageError after SILENCE_SECONDS of silence."""
    try:
        descriptor = stdin.fileno()
    except (OSError, ValueError):  # not a real file (a test's BytesIO)
        return stdin.read(MAX_PROMPT_BYTES + 1)
    found = bytearray()
    while len(found) <= MAX_PROMPT_BYTES:
        if not is_ready(stdin, SILENCE_SECONDS):
            why = f"it stays open, and was silent for {SILENCE_SECONDS:g} s"
            hint = "Leave it alone with --no-stdin, or wait for its end with -f -."
            raise UsageError("standard input", why, hint)
        piece = os.read(descriptor, MAX_PROMPT_BYTES + 1 - len(found))
        if not piece:
            break
        found += piece
    return bytes(found)


def is_ready(stdin: BinaryIO, patience: float) -> bool:
    """Whether reading would not wait: data or the end is there, or comes in `patience` seconds."""
    try:
        descriptor = stdin.fileno()
        if S_ISREG(os.fstat(descriptor).st_mode):
            return True
        return bool(select.select([descriptor], [], [], patience)[0])
    except (OSError, ValueError):  # not a real file (a test's BytesIO): reading returns at once
        return True


def _read_file(name: str) -> bytes:
    with errors_of_file(name), open_stream(name) as file:
        return file.read(MAX_PROMPT_BYTES + 1)


@contextmanager
def errors_of_file(name: str) -> Iterator[None]:
    """Turn what goes wrong with the file of -f into UsageError (its name) and MissingInput."""
    try:
        yield
    except ValueError:
        raise UsageError("--file", "the name holds a NUL character", "Give another name.") from None
    except IsADirectoryError:
        raise MissingInput(f"file {name}", "it is a folder", "Name one file in it.") from None
    except OSError as error:
        raise MissingInput(f"file {name}", reason(error), "Check the name: ls -l.") from None


def _decode(data: bytes, input: Input, source: str) -> str:
    """UTF-8 without its byte order mark and without one trailing line break."""
    if len(data) > MAX_PROMPT_BYTES:
        raise BadInput(source, "more than 4 MiB", SHORTEN)
    text = _utf8(data, input, source)
    for ending in ("\r\n", "\n"):
        if text.endswith(ending):
            return text[: -len(ending)]
    return text


def decode_argument(argument: str, input: Input) -> str:
    """The text of a command-line argument. Raises BadInput."""
    return _utf8(encode_argument(argument), input, "argument")


def encode_argument(argument: str) -> bytes:
    """The bytes that the shell passed, whatever the locale. Raises BadInput."""
    try:
        return os.fsencode(argument)
    except UnicodeEncodeError as error:
        raise BadInput(
            "argument", f"character {error.start} is half of a surrogate pair", "Correct it."
        ) from None


def _utf8(data: bytes, input: Input, source: str) -> str:
    refuse_foreign(data, source)
    mark = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    return decode(data, input, source, mark)


def decode(data: bytes, input: Input, source: str, start: int = 0) -> str:
    """The text of UTF-8 from the byte `start` on. Raises BadInput, naming the bad byte."""
    try:
        return data[start:].decode("utf-8", input.errors)
    except UnicodeDecodeError as error:
        raise not_utf8(source, start + error.start) from None
