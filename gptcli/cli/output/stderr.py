"""Standard streams: what is said on stderr, and whether a stream may be styled.

stderr is written past Python's buffer, because a full or closed stderr must neither change the
outcome nor fail again while the interpreter shuts down. Left out: standard output, see
`gptcli.cli.output.sink`.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import BinaryIO

from gptcli.system.sanitizer import one_line, sanitize

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
NOTE, ERROR = "gptcli: note: ", "gptcli: error: "
ERASE = "\r\x1b[2K\x1b[?25h"  # clear the line, show the cursor
_kept: dict[int, int] = {}  # a copy of descriptor 2


def say(text: str) -> None:
    """Write one line to stderr, control characters shown; failures are ignored."""
    emit(one_line(text) + "\n")


def say_lines(text: str) -> None:
    """As `say`, for several lines: a traceback."""
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
        except io.UnsupportedOperation:  # replaced by a program that calls main()
            sys.stderr.write(text)
            return
        if descriptor == 2:
            descriptor = _kept.get(2, 2)
        rest = text.encode("utf-8", "backslashreplace")
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def stdin_bytes() -> BinaryIO | None:
    """Standard input as bytes; None when it is closed, or was replaced by what has no bytes."""
    found: BinaryIO | None = getattr(sys.stdin, "buffer", None)
    return found


def stderr_is_terminal() -> bool:
    """Whether a spinner can be shown."""
    with suppress(OSError, ValueError):
        return sys.stderr is not None and sys.stderr.isatty()
    return False


def styled() -> bool:
    """Whether a terminal may get dim text: NO_COLOR, TERM=dumb and FORCE_COLOR decide."""
    if os.environ.get("FORCE_COLOR"):
        return True
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in (None, "", "dumb")


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
    # What we say must arrive also while a library's own talk on stderr is sent nowhere.
    with suppress(OSError):
        if 2 in _kept:  # of an earlier call in this process
            os.close(_kept.pop(2))
        _kept[2] = os.dup(2)


def settle() -> OSError | None:
    """Flush Python's streams; what cannot be written is dropped, so that shutdown does not fail.

    Returns what went wrong with standard output.
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
