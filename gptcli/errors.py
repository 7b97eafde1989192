"""What can go wrong, each failure class with its own exit code.

Core code raises one of these and never exits; `gptcli.cli.main.main` turns it into one line on
stderr and the exit code. A message has three parts: what failed, why, and what to do about it.

    GptcliError
    ├── UsageError        2   an option or argument is wrong
    ├── TooManyFailures   3   too many rows of a batch failed
    ├── BadInput         65   the prompt cannot be used (encoding, length)
    ├── BadModel         65   the checkpoint is corrupt, unsafe or of an unknown kind
    ├── BadConfig        65   the configuration file cannot be used
    ├── BadTask          65   a task's file cannot be used
    ├── MissingInput     66   a file or folder does not exist or cannot be read
    ├── Unavailable      69   the model is not here and cannot be fetched; a device is missing
    ├── CannotCreate     73   the output file cannot be made
    ├── WriteFailed      74   writing failed half-way (disk full)
    └── Busy             75   another process holds the lock; try again later
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

_LONGEST = 2000  # characters of a part of a message: it may quote what a user or a stranger wrote
_LAST = 200  # of them, from its end

_FLAG = re.compile(
    r"gptcli [a-z][^.;:]*"
    r"|(?<!\S)-m (?P<model>[\w.~/-]*\w)"
    r"|(?<!\S)-(?P<output>o)\b"
    r"|--(?P<off>no-(?!repeat-ngram))?(?P<name>[a-z](?:[a-z0-9-]*[a-z0-9])?)"
)
"""A command line, which stays as it is, or a flag."""


class ExitCode(IntEnum):
    """The process's exit status; 65 to 75 are those of BSD's sysexits.h."""

    OK = 0
    BUG = 1
    USAGE = 2
    PARTIAL = 3
    FILTERED = 4
    DATA = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    CANNOT_CREATE = 73
    IO = 74
    TEMPORARY = 75
    INTERRUPTED = 130
    PIPE_CLOSED = 141
    TERMINATED = 143


class GptcliError(Exception):
    """A failure the user can act on: `what` failed, `why`, and a `hint` saying what to do."""

    exit_code: ExitCode = ExitCode.BUG

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        self.what, self.why, self.hint = _cut(what), _cut(why), _cut(hint)
        self._in_flags: GptcliError | None = None
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """`<what>: <why>`, without the hint."""
        return f"{self.what}: {self.why}" if self.why else self.what

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message

    def in_python(self) -> GptcliError:
        """The same error with arguments of Python in place of flags: `top_p` for `--top-p`."""
        texts = [_arguments(text) for text in (self.what, self.why, self.hint)]
        if texts == [self.what, self.why, self.hint]:
            return self
        found = type(self)(*texts)
        found._in_flags = self
        return found

    @property
    def in_flags(self) -> GptcliError:
        """The error as the command line says it: what `in_python` was made from, else itself."""
        return self._in_flags or self

    def to_dict(self) -> dict[str, object]:
        """The error as `--json` shows it."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "exit": int(self.exit_code),
        }


def _cut(text: str) -> str:
    """A text that is not too long to be read: of a longer one its beginning and its end."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - _LAST]} ... {text[-_LAST:]}"


def _arguments(text: str) -> str:
    """A text with `top_p` for `--top-p` and `bos=False` for `--no-bos`."""

    def argument(found: re.Match[str]) -> str:
        if found["model"] or found["output"]:
            return f'load("{found["model"]}")' if found["model"] else "output"
        if found["name"] is None:
            return found[0]
        return found["name"].replace("-", "_") + ("=False" if found["off"] else "")

    return _FLAG.sub(argument, text)


@contextmanager
def told_in_python() -> Iterator[None]:
    """Let a GptcliError leave the block in the words of Python; see `GptcliError.in_python`."""
    try:
        yield
    except GptcliError as error:
        told = error.in_python()
        if told is error:
            raise
        raise told from None


class UsageError(GptcliError):
    """An option or argument is wrong: nothing was tried."""

    exit_code = ExitCode.USAGE


class TooManyFailures(GptcliError):
    """More rows of a batch failed than may."""

    exit_code = ExitCode.PARTIAL


class BadInput(GptcliError):
    """The input data cannot be used: not UTF-8, too long."""

    exit_code = ExitCode.DATA


class BadModel(GptcliError):
    """The checkpoint is corrupt, unsafe, or does not fit together."""

    exit_code = ExitCode.DATA


class BadConfig(GptcliError):
    """The configuration file is broken or names an unknown option."""

    exit_code = ExitCode.DATA


class BadTask(GptcliError):
    """A task's file is broken, or breaks a rule of its layout."""

    exit_code = ExitCode.DATA


class MissingInput(GptcliError):
    """An input file or model folder does not exist or cannot be read."""

    exit_code = ExitCode.NO_INPUT


class Unavailable(GptcliError):
    """Something outside is not there: a model offline, the Hub, a device."""

    exit_code = ExitCode.UNAVAILABLE


class CannotCreate(GptcliError):
    """The output file exists already or cannot be made."""

    exit_code = ExitCode.CANNOT_CREATE


class WriteFailed(GptcliError):
    """Writing failed: disk full, file too large, device gone."""

    exit_code = ExitCode.IO


class Busy(GptcliError):
    """Another process holds what is needed; trying again later can work."""

    exit_code = ExitCode.TEMPORARY
