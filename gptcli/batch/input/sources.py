"""The rows of a batch: all inputs, in order, row by row.

Nothing is held but the record that is read, and 16 bytes of each id given: an input of any size
takes the same memory, and what a slow pipe has not sent yet keeps nothing before it waiting. A bad
record is a row with an error; only damage that ends an input (packed data cut short) is raised, and
after the rows before it. What can be known at once is raised at once: each file is opened, and
begun to be read, before the first row is asked for.
"""

from __future__ import annotations

import codecs
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import BinaryIO

from gptcli.batch.input import jsonlines, parquet, plaintext, tables
from gptcli.batch.input.compressed import MAGIC, SUFFIXES, packing_of, unpacked
from gptcli.batch.input.entries import ParsedRow, bad, place
from gptcli.batch.input.fingerprints import Fingerprint
from gptcli.batch.input.fingerprints import fingerprint as fingerprint_of
from gptcli.batch.input.paths import STDIN, InputFile, errors_of, expand
from gptcli.batch.input.row import Row
from gptcli.batch.options import BatchInput, InputFormat
from gptcli.errors import BadInput, GptcliError, MissingInput, UsageError
from gptcli.inputs.pieces import pieces

_HOW = "Name a file, or give the rows by a pipe."
_MARK = codecs.BOM_UTF8
_PARQUET = (
    parquet.MAGIC + b"\x15"
)  # behind its magic number a page begins; four letters begin a text


def rows(
    inputs: Sequence[str], reading: BatchInput, stdin: BinaryIO | None
) -> Generator[Row | None, None, None]:
    """The rows of all inputs, numbered from 0; None for "none right now".

    A row that cannot be used has an error (BadInput, with its file and line) and keeps its id, if
    it has one; of two rows with the same id the second has one. Raises, before anything is asked
    for: UsageError (no input, a bad name, an unknown suffix, a column that is not there),
    MissingInput (no such file, none in a folder), BadInput (a table without a header, data damaged
    from the beginning on), Unavailable (a package for Parquet or zstd). While reading: the same,
    where standard input or a later change of a file gives the reason; BadInput where packed data
    is damaged.
    """
    sources = expand(inputs, reading)
    if any(source.path is None for source in sources):
        if stdin is None:
            raise MissingInput("standard input", "it is closed", _HOW)
        if not inputs and stdin.isatty():
            raise UsageError("no input", "standard input is a terminal", _HOW)
    for source in sources:
        _try(source, reading)
    return _rows(sources, reading, stdin)


def fingerprint(inputs: Sequence[str], reading: BatchInput) -> tuple[Fingerprint, ...]:
    """Size and SHA-256 of each file, read in blocks of 1 MiB. Raises as `rows` before reading."""
    return tuple(_fingerprint(source) for source in expand(inputs, reading))


def size(inputs: Sequence[str], reading: BatchInput) -> int | None:
    """Bytes of all inputs; None if one of them can be read but once. Raises as `fingerprint`."""
    sources = expand(inputs, reading)
    if not all(source.regular for source in sources):
        return None
    return sum(source.path.stat().st_size for source in sources if source.path)


def _fingerprint(source: InputFile) -> Fingerprint:
    name = STDIN if source.path is None else source.name
    if source.path is None or not source.regular:
        return Fingerprint(name, None, None)
    return fingerprint_of(source.path, name)


def _rows(
    sources: Sequence[InputFile], reading: BatchInput, stdin: BinaryIO | None
) -> Generator[Row | None, None, None]:
    number = 0
    seen: dict[bytes, tuple[int, int]] = {}  # of each id: its hash, the source's index, the line
    units: dict[int, str] = {}
    for index, source in enumerate(sources):
        for entry in _entries(source, reading, stdin):
            if entry is None:
                yield None
                continue
            error = entry.error
            if entry.id is not None:
                units[index] = entry.unit
                short = hashlib.blake2b(entry.id.encode(), digest_size=16).digest()
                first, line = seen.setdefault(short, (index, entry.line))
                if (first, line) != (index, entry.line) and error is None:
                    before = place(sources[first].name, units[first], line)
                    error = _twice(place(source.name, entry.unit, entry.line), entry.id, before)
            yield _row(number, entry, error)
            number += 1


def _row(number: int, entry: ParsedRow, error: GptcliError | None) -> Row:
    id = str(number) if entry.id is None else entry.id
    if error is not None:
        return Row(number, entry.digest, id, "", error=error)
    return Row(number, entry.digest, id, entry.text, entry.overrides)


def _twice(where: str, id: str, before: str) -> BadInput:
    return bad(where, f"the id {id[:100]!r} is that of {before}", "Give every row its own.")


def _try(source: InputFile, reading: BatchInput) -> None:
    """Open a file and read up to its first row, for the errors that this raises."""
    if source.path is None or not source.regular:
        return
    with errors_of(source.name), source.path.open("rb"):
        pass
    if source.format != "files":  # of which each row is a whole file
        with closing(_entries(source, reading, None)) as entries:
            next(entries, None)


def _entries(
    source: InputFile, reading: BatchInput, stdin: BinaryIO | None
) -> Generator[ParsedRow | None, None, None]:
    """The entries of one input; a file is closed when they end."""
    if source.path is None:
        if stdin is not None:
            yield from _unpacked_entries(source, reading, stdin)
    elif source.format == "parquet":
        yield from parquet.read(source.path, source.name, reading)
    else:
        with errors_of(source.name):
            file = source.path.open("rb")
        with file:
            yield from _unpacked_entries(source, reading, file)


def _unpacked_entries(
    source: InputFile, reading: BatchInput, stream: BinaryIO
) -> Generator[ParsedRow | None, None, None]:
    """The entries of a stream of bytes, packed or not."""
    data = pieces(stream, source.name, _HOW)
    head = yield from _head(data, _tells_packing)
    data = itertools.chain([head] if head else [], data)
    packing = packing_of(head)
    if packing is not None:
        data = unpacked(data, packing, source.name)
    elif source.path is not None and source.path.suffix.lower() in SUFFIXES and source.regular:
        kind = SUFFIXES[source.path.suffix.lower()]
        raise BadInput(source.name, f"it is not packed by {kind}", "Take the suffix off its name.")
    format = source.format
    if format == "auto":
        head = yield from _head(data, _tells_format)
        data = itertools.chain([head] if head else [], data)
        format = _format_of(head)
    if format == "parquet":
        yield from _parquet_entries(source, reading, packed=packing is not None)
    else:
        yield from _parsed(data, format, source, reading)


def _parquet_entries(
    source: InputFile, reading: BatchInput, *, packed: bool
) -> Iterator[ParsedRow | None]:
    """The entries of what has turned out to be Parquet."""
    if source.path is None or not source.regular or packed:
        why = "Parquet is read from its end, and a pipe or packed file has none"
        raise BadInput(source.name, why, "Unpack it into a file, and name that.")
    return parquet.read(source.path, source.name, reading)


def _parsed(
    data: Iterator[bytes | None], format: InputFormat, source: InputFile, reading: BatchInput
) -> Iterator[ParsedRow | None]:
    if format in ("csv", "tsv"):
        return tables.read(data, source.name, reading, "\t" if format == "tsv" else ",")
    if format in ("jsonl", "openai"):
        only = format == "openai"
        return jsonlines.read(data, source.name, reading, only_openai=only)
    if format == "files":
        return plaintext.read_file(data, source.name, reading, source.id)
    return plaintext.read_lines(data, source.name, reading)


def _head(
    data: Iterator[bytes | None], tells: Callable[[bytes], bool]
) -> Generator[None, None, bytes]:
    """The first bytes, as many as tell what the question is; None is handed on while they come."""
    head = b""
    for piece in data:
        if piece is None:
            yield None
            continue
        head += piece
        if tells(head):
            break
    return head


def _tells_packing(head: bytes) -> bool:
    return packing_of(head) is not None or not any(magic.startswith(head) for magic in MAGIC)


def _tells_format(head: bytes) -> bool:
    start = head.removeprefix(_MARK).lstrip()
    return len(start) >= len(_PARQUET) or not _PARQUET.startswith(start)


def _format_of(head: bytes) -> InputFormat:
    """What an input that no name tells of is: JSON lines begin with a brace."""
    start = head.removeprefix(_MARK).lstrip()
    if start.startswith(_PARQUET):
        return "parquet"
    return "jsonl" if start.startswith(b"{") else "lines"
