"""Lines become messages: one line each, or several lines between two \"\"\".

A terminal and a pipe differ only in how a line is read. Not here: line editing is in
`gptcli.cli.interactive.line_editor`, slash commands are in `gptcli.cli.interactive.slash`.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from gptcli.cli.output import stderr
from gptcli.errors import BadInput, MissingInput
from gptcli.inputs.prompt import MAX_PROMPT_BYTES
from gptcli.system.os_errors import reason

PROMPT, MORE = ">>> ", "... "
QUOTES = '"""'
LEAVE = "Ctrl-D or /exit leaves"

ReadLine = Callable[[str], str | None]
"""(prompt to show) -> a line without its line break, or None at the end of input."""


@dataclass(frozen=True)
class TypedLine:
    """A command, which begins with one slash, or a message.

    `error` says why it cannot be read; the next one can.
    """

    text: str
    command: bool = False
    error: BadInput | None = None


def messages(read: ReadLine) -> Iterator[TypedLine]:
    """Messages until the end of input, without blank ones.

    Ctrl-C (a KeyboardInterrupt of `read`) drops what was typed so far. A message has an error if
    the input ends inside it, or if `read` raises BadInput.
    """
    interrupts = 0
    while True:
        try:
            line = read(PROMPT)
            if line is None:
                return
            message = _message(line, read)
        except BadInput as error:
            yield TypedLine("", error=error)
            continue
        except KeyboardInterrupt:
            interrupts += 1
            if interrupts == 2:
                stderr.note(LEAVE)
            continue
        interrupts = 0
        if message.text.strip():
            yield message


def piped(stdin: BinaryIO | None, prompting: bool = False) -> ReadLine:
    """Read lines of standard input as UTF-8, without line breaks; `prompting` shows the prompts.

    The function raises BadInput for bytes that are not UTF-8 and for a line above 4 MiB, and
    MissingInput for an input that cannot be read.
    """
    count = 0

    def read(prompt: str) -> str | None:
        nonlocal count
        if stdin is None:
            raise MissingInput("standard input", "it is closed", "Type messages, or pipe them in.")
        if prompting:
            stderr.emit(prompt)
        try:
            data = rest = stdin.readline(MAX_PROMPT_BYTES + 1)
            while len(data) > MAX_PROMPT_BYTES and rest and not rest.endswith(b"\n"):
                rest = stdin.readline(MAX_PROMPT_BYTES + 1)  # of a line that is refused
        except OSError as error:
            why = reason(error)
            raise MissingInput("standard input", why, "Pipe messages in.") from None
        count += 1
        return _decoded(data, count) if data else None

    return read


def _decoded(data: bytes, number: int) -> str:
    if len(data) > MAX_PROMPT_BYTES:
        raise BadInput(f"line {number}", "more than 4 MiB", "A message is a few pages at most.")
    skipped = len(codecs.BOM_UTF8) if number == 1 and data.startswith(codecs.BOM_UTF8) else 0
    try:
        text = data[skipped:].decode("utf-8")
    except UnicodeDecodeError as error:
        why = f"invalid UTF-8 at byte {skipped + error.start}"
        raise BadInput(f"line {number}", why, "Convert it with iconv.") from None
    return text.removesuffix("\n").removesuffix("\r")


def _message(line: str, read: ReadLine) -> TypedLine:
    if line.startswith(QUOTES):
        return TypedLine(_between_quotes(line[len(QUOTES) :], read))
    if line.startswith("//"):
        return TypedLine(line[1:])
    return TypedLine(line, command=line.startswith("/"))


def _between_quotes(text: str, read: ReadLine) -> str:
    """The text after the opening quotes, up to the line that ends with the closing quotes."""
    lines = [text]
    while not lines[-1].rstrip().endswith(QUOTES):
        line = read(MORE)
        if line is None:
            hint = f"End the message with {QUOTES} before the input ends."
            raise BadInput("unfinished message", f"it began with {QUOTES}", hint)
        lines.append(line)
    lines[-1] = lines[-1].rstrip().removesuffix(QUOTES)
    return "\n".join(lines).strip("\n")
