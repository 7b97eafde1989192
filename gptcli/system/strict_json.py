"""Read the small JSON files of a checkpoint, trusting nothing.

`json.loads` takes more than JSON: NaN, 1e999, the same key twice, integers of any length. In our
own files and in rows each of these is an error that names the rule. In a checkpoint's files they do
no harm by themselves, and public files hold them (transformers writes a limit of 31 digits): there
they pass, and who uses a value checks its range. Only regular files of a bounded size are opened,
so that a pipe or a device in place of config.json cannot make the program wait.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gptcli.errors import BadModel, MissingInput
from gptcli.system.os_errors import said
from gptcli.system.regular_files import NotRegular, open_regular

Object = Mapping[str, object]

LONGEST_NUMBER = 30  # characters; 2^64 has 20
MAX_INTEGER_DIGITS = 4000  # of a row's integer, carried along; Python refuses to convert many more
MAX_DEPTH = 200  # lists and objects in each other: what reads them may take calls for each
LEAST_READ = 2**16  # bytes
SMALL_FILE_BYTES = 2**20  # the limit for config.json and its like
POINTER = b"version https://git-lfs.github.com/spec/v1"
PAGE = (b"<!doctype html", b"<html")
AGAIN = "Download or save the model again, or choose another with -m"


def corrupt(file: Path, rule: str) -> BadModel:
    """The error for a file that is broken: `rule` says what it breaks."""
    return BadModel("corrupt model file", f"{file.name}: {rule}", AGAIN)


def unsafe(file: Path, rule: str, hint: str) -> BadModel:
    """The error for a file that asks for something that could run code or leave the folder."""
    return BadModel("unsafe model file", f"{file.name}: {rule}", hint)


def placeholder(file: Path, head: bytes) -> BadModel | None:
    """The error for a git-lfs pointer or a saved web page in place of a file; None for any other.

    head: the first bytes of the file.
    """
    if head.startswith(POINTER):
        return BadModel(
            "git-lfs pointer",
            f"{file.name} is a git-lfs pointer, not the file itself",
            f"Fetch the file: git -C {shlex.quote(str(file.parent))} lfs pull",
        )
    if head.lstrip()[:14].lower().startswith(PAGE):
        return BadModel(
            "web page",
            f"{file.name} is a web page that was saved in place of the file",
            "Get the file itself, for example with: hf download",
        )
    return None


def open_model_file(file: Path) -> BinaryIO:
    """As `open_regular`, with an error of ours.

    Raises MissingInput (cannot be read) and BadModel (a folder, pipe or device).
    """
    try:
        return open_regular(file)
    except (NotRegular, IsADirectoryError):
        raise corrupt(file, "not a regular file") from None
    except OSError as error:
        hint = "Check the path and its permissions"
        raise MissingInput(str(file), said(error), hint) from None
    except ValueError:  # half of a surrogate pair, or a NUL
        hint = "Check the file that names it"
        raise MissingInput(str(file), "no file can have that name", hint) from None


def read_bytes(file: Path, limit: int) -> bytes:
    """All of a regular file. Raises BadModel above `limit` bytes, MissingInput if unreadable."""
    with open_model_file(file) as stream:
        told = os.fstat(stream.fileno()).st_size  # as much as that is allocated; /proc says 0
        data = stream.read(min(limit, max(told, LEAST_READ)) + 1)
    if len(data) > limit:
        raise corrupt(file, f"larger than {limit} bytes")
    return data


def read_object(file: Path, limit: int = SMALL_FILE_BYTES) -> Object:
    """Read a JSON object from a checkpoint's file of at most `limit` bytes.

    NaN, infinity and long numbers pass, as does a key that stands twice with one value. Raises
    BadModel, naming the file and the rule, and MissingInput where it cannot be read.
    """
    data = read_bytes(file, limit)
    try:
        return _parsed(data, loaded)
    except ValueError as error:
        raise placeholder(file, data) or corrupt(file, str(error)) from None


def parse_object(data: bytes) -> Object:
    """Parse strict JSON (RFC 8259) that must be an object; raises ValueError with the rule."""
    return _parsed(data, parse_value)


def _parsed(data: bytes, parse: Callable[[str], object]) -> Object:
    try:
        value = parse(data.decode("utf-8"))
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
    return loaded(
        text,
        object_pairs_hook=_unique,
        parse_int=_integer,
        parse_float=_finite,
        parse_constant=_no_constant,
    )


def parse_written(text: str) -> object:
    """Parse JSON that we wrote, and that someone may have changed; a little slower than `json`.

    Raises ValueError as `parse_value`, but takes what rows carry along: integers of up to
    MAX_INTEGER_DIGITS, and a key that stands twice.
    """
    return loaded(
        text,
        object_pairs_hook=None,
        parse_int=_carried,
        parse_float=_finite,
        parse_constant=_no_constant,
    )


def loaded(text: str, **hooks: Any) -> object:
    """`json.loads`; without hooks it takes NaN, infinity and long numbers. Raises ValueError."""
    try:
        value = json.loads(text, **({"object_pairs_hook": _agreeing, "parse_int": _long} | hooks))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if may_be_deep(text) and too_deep(value):
        raise ValueError("nested too deeply")
    return value


def may_be_deep(text: str) -> bool:
    """Whether a JSON text can hold a value that is `too_deep`; costs next to nothing."""
    return text.count("[") + text.count("{") > MAX_DEPTH


def too_deep(value: object, limit: int = MAX_DEPTH) -> bool:
    """Whether lists and objects stand in each other more than `limit` deep; does not recurse."""
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(limit):
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [one for items in inner for one in items if isinstance(one, list | dict)]
        if not level:
            return False
    return True


def _agreeing(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs) and any(found[key] != value for key, value in pairs):
        raise ValueError("a key stands twice in one object, with two values")
    return found


def _long(text: str) -> int | float:
    """A whole number; one that no computer counts to is a float, like the limits it stands for."""
    return int(text) if len(text) <= LONGEST_NUMBER else float(text)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _integer(text: str, longest: int = LONGEST_NUMBER) -> int:
    if len(text) > longest:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _carried(text: str) -> int:
    return _integer(text, MAX_INTEGER_DIGITS)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:LONGEST_NUMBER]} is out of range")
    return number


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not a JSON number")
