"""What a batch can be given: names of files, or prompts from Python.

Both answer the same three questions: which rows, how many, and what they are known by when a run is
resumed.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

from gptcli.batch.input import sources
from gptcli.batch.input.changes import InputWatch
from gptcli.batch.input.entries import prompt
from gptcli.batch.input.fingerprints import Fingerprint
from gptcli.batch.input.notices import RowNotices
from gptcli.batch.input.row import Row, digest
from gptcli.batch.options import BatchInput
from gptcli.errors import GptcliError, UsageError
from gptcli.inputs.texts import prompt_of

COUNTED_BYTES = 4 << 20  # of input, at most, that are read twice to count the rows
Rows = Generator[Row | None, None, None]
Name = str | os.PathLike[str]


@dataclass(frozen=True)
class Prompts:
    """Prompts from Python, each a row; an iterator is read as rows are computed.

    When a run is resumed they are compared one by one, as the rows of standard input are. Raises
    UsageError for a single text.
    """

    texts: Iterable[str | Sequence[int]]

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):  # its letters would be the prompts
            raise UsageError("prompts", "one text is given", "Give a list: Prompts([text]).")

    def rows(
        self,
        reading: BatchInput,
        stdin: BinaryIO | None = None,
        notices: RowNotices | None = None,
        watch: InputWatch | None = None,
    ) -> Rows:
        """The rows, numbered from 0; a prompt that cannot be used is a row with an error."""
        for number, text in enumerate(self.texts):
            yield _row(number, text, reading)

    def total(self, reading: BatchInput) -> int | None:
        """How many there are; None where only reading them tells."""
        return len(self.texts) if isinstance(self.texts, Sized) else None

    def fingerprint(
        self, reading: BatchInput, watch: InputWatch | None = None
    ) -> tuple[Fingerprint, ...]:
        """An input that is known by its rows alone."""
        return (Fingerprint("prompts", None, None),)


@dataclass(frozen=True)
class Files:
    """Files, folders, patterns, and `-` for standard input; none means standard input."""

    names: tuple[str, ...]

    def rows(
        self,
        reading: BatchInput,
        stdin: BinaryIO | None = None,
        notices: RowNotices | None = None,
        watch: InputWatch | None = None,
    ) -> Rows:
        """As `gptcli.batch.input.sources.rows`."""
        return sources.rows(self.names, reading, stdin, notices, watch)

    def total(self, reading: BatchInput) -> int | None:
        """How many rows there are, where it costs little to read the input twice."""
        size = sources.size(self.names, reading)
        if size is None or size > COUNTED_BYTES:
            return None
        with closing(sources.rows(self.names, reading, None)) as rows:
            return sum(row is not None for row in rows)

    def fingerprint(
        self, reading: BatchInput, watch: InputWatch | None = None
    ) -> tuple[Fingerprint, ...]:
        """As `gptcli.batch.input.sources.fingerprint`."""
        return sources.fingerprint(self.names, reading, watch)


def taken(inputs: Name | Iterable[Name] | Prompts) -> Files | Prompts:
    """The inputs that a caller gave: a name, several names, or prompts."""
    if isinstance(inputs, Prompts):
        return inputs
    names = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    return Files(tuple(os.fspath(name) for name in names))


def _row(number: int, given: object, reading: BatchInput) -> Row:
    where = f"prompt {number + 1}"
    key = digest(repr(given).encode())
    try:
        found = prompt_of(given, where)
        written = found if isinstance(found, str) else repr(list(found))
        key = digest(written.encode("utf-8", "surrogatepass"))
        value = found if isinstance(found, str) else list(found)
        return Row(number, key, str(number), prompt(value, where, reading))
    except GptcliError as error:
        return Row(number, key, str(number), "", error=error)
