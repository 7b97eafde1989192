"""One row of an output as a line of JSON, and the whole lines of a file that may be cut off.

A line begins with the row's key, `{"key": "12:0f3a5c7e9b1d2f40", ...`, and ends in `}` and a line
feed, so that a torn line is never a whole one. A file is checked line by line from its beginning.
Only the text after the last line feed may be incomplete. Any other line that differs from what we
write was changed by someone: it is refused and never repaired. Each row takes 16 bytes of memory.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gptcli.errors import BadInput
from gptcli.system.regular_files import open_regular
from gptcli.system.strict_json import parse_written

_KEY = re.compile(rb'\{"key": "(0|[1-9][0-9]{0,17}):([0-9a-f]{16})"[,}]')
MAX_ROW_BYTES = 1 << 28  # bytes: ten times a row of the longest texts with all log-probabilities
_HINT = "Mend that line, or start over with --force, or write elsewhere with -o."


@dataclass(frozen=True)
class Found:
    """The whole rows of a file, which are numbered from 0 without a gap."""

    digests: array[int] = field(default_factory=lambda: array("Q"))  # the first 64 bits of each
    offsets: array[int] = field(default_factory=lambda: array("Q"))  # where each begins, in bytes
    failed: set[int] = field(default_factory=set)  # numbers of those that are errors
    size: int = 0  # bytes of the whole rows; what comes after them is torn

    def __len__(self) -> int:
        return len(self.digests)


def encode(key: str, record: Mapping[str, object]) -> bytes:
    """The line of a row; `key` comes first. A lone surrogate becomes JSON's escape for it."""
    assert "key" not in record, "the key is the journal's to give"
    line = json.dumps({"key": key, **record}, ensure_ascii=False, allow_nan=False)
    return line.encode("utf-8", "backslashreplace") + b"\n"


def is_failed(record: Mapping[str, object]) -> bool:
    """Whether a row is an error in place of an answer."""
    return record.get("error") is not None


def digest64(digest: str) -> int:
    """The part of a row's digest that its key holds, as a number."""
    return int(digest[:16], 16)


def rekeyed(line: bytes, key: str, id: str) -> bytes:
    """The line under another key; the rest stays byte for byte, unless its `id` is another one."""
    record = json.loads(line)
    if record.get("id", id) == id:
        return line.replace(record["key"].encode(), key.encode(), 1)
    del record["key"]
    return encode(key, {**record, "id": id})


def scan(path: Path, name: str) -> Found:
    """Check the rows of a file; it may end in the middle of one.

    Raises BadInput, naming the line, where one is no row of ours or not the next one; OSError.
    """
    found = Found()
    size = 0
    with open_regular(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_ROW_BYTES), b"")):
            if len(line) == MAX_ROW_BYTES:
                why = f"line {number + 1}: it is longer than any row"
                raise BadInput(f"output {name}", why, _HINT)
            if not line.endswith(b"\n"):
                _check_tail(line, number, name)
                break
            try:
                digest, failed = _row(line, number)
            except ValueError as error:
                raise BadInput(f"output {name}", f"line {number + 1}: {error}", _HINT) from None
            found.digests.append(digest)
            found.offsets.append(size)
            if failed:
                found.failed.add(number)
            size += len(line)
    return Found(found.digests, found.offsets, found.failed, size)


def _check_tail(tail: bytes, number: int, name: str) -> None:
    """A torn first line must be ours, or what a power cut leaves: the file may be a stranger's."""
    begin = b'{"key": "0:'
    ours = tail.startswith(begin) or begin.startswith(tail) or not tail.strip(b"\0")
    if number == 0 and not ours:
        raise BadInput(f"output {name}", "line 1: it does not begin with a row's key", _HINT)


def _row(line: bytes, number: int) -> tuple[int, bool]:
    """The digest of the row with this number, and whether it is an error. Raises ValueError."""
    match = _KEY.match(line)
    if match is None:
        raise ValueError("it does not begin with a row's key")
    if int(match[1]) != number:
        raise ValueError(f"it is row {int(match[1])} where row {number} belongs")
    if not line.endswith(b"}\n"):
        raise ValueError("it does not end as a row does")
    try:
        record = parse_written(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError:
        raise ValueError("it is not JSON") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON as it is written here: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("it is no object")
    return int(match[2], 16), is_failed(record)
