"""Messages on stderr, and whether a stream may be styled.

Messages bypass Python's buffer: a full or closed stderr must not change the outcome, nor fail again
when the interpreter shuts down. Not here: standard output is in `gptcli.cli.output.sink`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from gptcli.system.sanitizer import one_line, sanitize

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
NOTE, ERROR = "gptcli: note: ", "gptcli: error: "
CLEAR = "\r\x1b[2K"  # clear the line
ERASE = CLEAR + "\x1b[?25h"  # and show the cursor
_drawings: list[tuple[Callable[[], str], Callable[[], object]]] = []  # what is shown: see `drawing`
_copies: dict[int, int] = {}  # copies of descriptors, by the number they had: only 2 is copied
_color = "auto"  # what --color says


def say(text: str) -> None:
    """Write one line to stderr, control characters shown; failures are ignored.

    It takes the place of a progress line, which is drawn again below it.
    """
    erase, redraw = _drawings[-1] if _drawings else (str, str)
    emit(erase() + one_line(text) + "\n")
    redraw()


@contextmanager
def drawing(
    erase: Callable[[], str] = lambda: CLEAR, redraw: Callable[[], object] = str
) -> Iterator[None]:
    """Inside the block a spinner, a progress line or a board is on the terminal.

    `erase` gives the escape sequence that takes it away, `redraw` shows it again below a message; a
    spinner does that by itself.
    """
    _drawings.append((erase, redraw))
    try:
        yield
    finally:
        _drawings.pop()


def say_lines(text: str) -> None:
    """As `say`, for a text of several lines, such as a traceback."""
    emit(sanitize(text).rstrip("\n") + "\n")


def note(text: str) -> None:
    """Say a notice on stderr."""
    say(NOTE + text)


def emit(text: str) -> None:
    """Write `text` to stderr as it is; failures are ignored."""
    with suppress(OSError, ValueError):
        if sys.stderr is None:
            return
        try:
            descriptor = sys.stderr.fileno()
        except io.UnsupportedOperation:  # replaced by the caller of main()
            sys.stderr.write(text)
            return
        if descriptor == 2:
            descriptor = _copies.get(2, 2)
        rest = text.encode("utf-8", "backslashreplace")
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def stdin_bytes() -> BinaryIO | None:
    """The binary stream of standard input; None if it is closed or has no binary stream."""
    found: BinaryIO | None = getattr(sys.stdin, "buffer", None)
    return found


def stderr_is_terminal() -> bool:
    """Whether a spinner can be shown."""
    with suppress(OSError, ValueError):
        return sys.stderr is not None and sys.stderr.isatty()
    return False


def stdout_is_terminal() -> bool:
    """Whether standard output is one."""
    with suppress(OSError, ValueError):
        return sys.stdout is not None and sys.stdout.isatty()
    return False


def choose_color(choice: str) -> None:
    """Take what --color says: auto, always or never."""
    global _color
    _color = choice


def color_choice() -> str:
    """What --color says: auto, always or never."""
    return _color


def styled(terminal: bool = True) -> bool:
    """Whether a stream may be styled: --color decides, else FORCE_COLOR, NO_COLOR and TERM."""
    if _color != "auto":
        return _color == "always"
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in (None, "", "dumb")
    return terminal and not plain


def reconfigure() -> None:
    """Make Python's own streams UTF-8 in every locale; line breaks stay as they are."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def keep_descriptors() -> None:
    """Put /dev/null where a standard stream is closed, so that no file we open takes its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    # Our messages must arrive also while a library's output on stderr is silenced.
    with suppress(OSError):
        if 2 in _copies:  # from an earlier call in this process
            os.close(_copies.pop(2))
        _copies[2] = os.dup(2)


def settle() -> OSError | None:
    """Flush Python's streams, and drop what cannot be written, so that shutdown does not fail.

    Returns the error of standard output, if any.
    """
    failure = None
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError) as error:
            if stream is sys.stdout and isinstance(error, OSError):
                failure = error
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
    return failure
