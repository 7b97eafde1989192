"""Read the small JSON files of a checkpoint, trusting nothing.

A checkpoint comes from strangers, and `json.loads` takes more than JSON: NaN, 1e999, the same key
twice, integers of any length. Here each of these is an error that names the file and the rule, and
only regular files of a bounded size are opened, so that a pipe or a device in place of config.json
cannot make the program wait. What the values mean is for `gptcli.checkpoints.preflight` to judge.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from gptcli.errors import BadModel, MissingInput
from gptcli.system.os_errors import said

Object = Mapping[str, object]

LONGEST_NUMBER = 30  # characters; 2^64 has 20
SMALL = 2**20  # bytes: the limit for config.json and its like
AGAIN = "Download or save the model again, or choose another with -m"


def corrupt(file: Path, rule: str) -> BadModel:
    """The error for a file that is broken: `rule` says what it breaks."""
    return BadModel("corrupt model file", f"{file.name}: {rule}", AGAIN)


def unsafe(file: Path, rule: str, hint: str) -> BadModel:
    """The error for a file that asks for something that could run code or leave the folder."""
    return BadModel("unsafe model file", f"{file.name}: {rule}", hint)


def open_regular(file: Path) -> BinaryIO:
    """Open a file for reading bytes; a link is followed, anything but a regular file refused.

    Raises MissingInput (cannot be read) and BadModel (a folder, pipe or device).
    """
    try:
        # Without O_NONBLOCK, opening a named pipe waits for its writer.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        hint = "Check the path and its permissions"
        raise MissingInput(str(file), said(error), hint) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise corrupt(file, "not a regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(file: Path, limit: int) -> bytes:
    """All of a regular file. Raises BadModel above `limit` bytes, MissingInput if unreadable."""
    with open_regular(file) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise corrupt(file, f"larger than {limit} bytes")
    return data


def read_object(file: Path, limit: int = SMALL) -> Object:
    """Read a JSON object from a file of at most `limit` bytes.

    Raises BadModel, naming the file and the rule, and MissingInput where it cannot be read.
    """
    data = read_bytes(file, limit)
    try:
        return parse_object(data)
    except ValueError as error:
        raise corrupt(file, str(error)) from None


def parse_object(data: bytes) -> Object:
    """Parse strict JSON (RFC 8259) that must be an object; raises ValueError with the rule."""
    try:
        value = parse_value(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def parse_value(text: str) -> object:
    """Parse strict JSON of any kind.

    Raises json.JSONDecodeError where it is no JSON, another ValueError with the rule it breaks.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:LONGEST_NUMBER]} is out of range")
    return number


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not a JSON number")
