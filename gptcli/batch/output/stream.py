"""Rows that go to standard output, a pipe or a device: as lines of JSON, and without a journal.

What was sent cannot be read again, so nothing can be resumed, locked or flushed. It has the methods
of `gptcli.batch.output.journal.Journal`, so that one loop over the rows serves both. The caller
decides how text is sent: it sanitises what goes to a terminal, and ends on a closed pipe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from types import TracebackType
from typing import Self

from gptcli.batch.input.row import Row
from gptcli.batch.output.records import encode, is_failed

# A descriptor of ours may be a regular file, but what is in it before is not ours to judge.
_OURS = re.compile(r"-|/dev/std(out|err)|/dev/fd/\d+|/proc/(self|\d+)/fd/\d+")


def is_stream(output: str | None) -> bool:
    """Whether this output is not a file of ours: standard output, a pipe, a device."""
    if output is None or _OURS.fullmatch(output):
        return True
    try:
        mode = Path(output).stat().st_mode
    except (OSError, ValueError):
        return False
    return not S_ISREG(mode) and not S_ISDIR(mode)


class Stream:
    """An output that only takes rows; `send` writes a text at once, or raises WriteFailed."""

    recovered = 0

    def __init__(self, send: Callable[[str], object]) -> None:
        self.failed = 0
        self.complete = False
        self._send = send
        self._seen = self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def skip(self, row: Row) -> bool:
        """False: no row is there already."""
        assert row.number == self._seen, f"row {row.number} came where {self._seen} belongs"
        self._seen += 1
        return False

    def append(self, row: Row, record: Mapping[str, object]) -> None:
        """Send the next row, with its key. Raises WriteFailed."""
        assert row.number == self._next, f"row {row.number} came where {self._next} belongs"
        self._send(encode(row.key, record).decode("utf-8"))
        self._next += 1
        self.failed += is_failed(record)

    def finish(self) -> None:
        """The input has ended."""
        assert self._next == self._seen, f"row {self._next} was not written"
        self.complete = True

    def close(self) -> None:
        """Nothing is held."""
