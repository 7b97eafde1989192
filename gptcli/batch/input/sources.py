"""The rows of a batch: all inputs, in order, row by row.

Memory holds one record, and 16 bytes of each id; the size of an input does not matter. A slow pipe
holds back no row that was sent. A bad record is a row with an error. Only damage that ends an input
(packed data cut short) is raised, after the rows before it. Each file is opened, and read up to its
first row, before a row is asked for, so that other errors are raised early.
"""

from __future__ import annotations

import codecs
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import BinaryIO

from gptcli.batch.input import jsonlines, parquet, plaintext
from gptcli.batch.input.changes import InputWatch
from gptcli.batch.input.entries import ParsedRow, entry_of
from gptcli.batch.input.fingerprints import Fingerprint
from gptcli.batch.input.notices import RowNotices
from gptcli.batch.input.paths import InputFile, errors_of, expand
from gptcli.batch.input.row import Row
from gptcli.batch.options import BatchInput, InputFormat
from gptcli.errors import BadInput, GptcliError, MissingInput, UsageError
from gptcli.inputs.columns import TextColumn
from gptcli.inputs.compressed import MAGIC, SUFFIXES, packing_of, unpacked
from gptcli.inputs.encoding import checked
from gptcli.inputs.pieces import pieces
from gptcli.inputs.records import bad, place
from gptcli.inputs.table import read_table
from gptcli.system.regular_files import open_regular, open_stream

_HOW = "Name a file, or give the rows by a pipe."
_MARK = codecs.BOM_UTF8
_PARQUET = parquet.MAGIC + b"\x15"  # with a page's first byte: PAR1 alone can begin a text


def rows(
    inputs: Sequence[str],
    reading: BatchInput,
    stdin: BinaryIO | None,
    notices: RowNotices | None = None,
    watch: InputWatch | None = None,
) -> Generator[Row | None, None, None]:
    """The rows of all inputs, numbered from 0; None for "none right now".

    A row that cannot be used has an error (BadInput, with its file and line) and keeps its id, if
    that can be read; of two rows with the same id the second has one. The id of a row without one
    is its number, and where other rows can have ids `row:NUMBER`, which is none of theirs.

    Raises, before anything is asked for: UsageError (no input, a bad name, an unknown suffix, a
    column that is not there), MissingInput (no such file, none in a folder), BadInput (a table
    without a header, UTF-16, data damaged from the beginning on), Unavailable (a package for
    Parquet or zstd). While reading: the same, where standard input or a later change of a file
    gives the reason; BadInput where packed data is damaged; InputChanged where `watch` was given
    to `fingerprint`, and an input is another one since.
    """
    sources = expand(inputs, reading)
    if any(source.path is None for source in sources):
        if stdin is None:
            raise MissingInput("standard input", "it is closed", _HOW)
        if not inputs and stdin.isatty():
            raise UsageError("no input", "standard input is a terminal", _HOW)
    notices = notices or RowNotices()
    named = [_try(source, reading, notices) for source in sources]
    several = any(named) if len(sources) > 1 else None
    watch = watch or InputWatch()
    found = _rows(sources, reading, stdin, notices, several, watch)
    return _whole(found, watch, sources, lambda: expand(inputs, reading))


def fingerprint(
    inputs: Sequence[str], reading: BatchInput, watch: InputWatch | None = None
) -> tuple[Fingerprint, ...]:
    """Size and SHA-256 of each file, read in blocks of 1 MiB. Raises as `rows` before reading.

    From then on `watch` tells a change.
    """
    return (watch or InputWatch()).fingerprints(expand(inputs, reading))


def size(inputs: Sequence[str], reading: BatchInput) -> int | None:
    """Bytes of all inputs; None if one of them can be read but once. Raises as `fingerprint`."""
    sources = expand(inputs, reading)
    if not all(source.regular for source in sources):
        return None
    return sum(source.path.stat().st_size for source in sources if source.path)


def _whole(
    rows: Iterator[Row | None],
    watch: InputWatch,
    sources: Sequence[InputFile],
    expanded: Callable[[], Sequence[InputFile]],
) -> Generator[Row | None, None, None]:
    """The rows, if the inputs are the same before the first and after the last."""
    watch.begin(sources)
    yield from rows
    watch.end(expanded)


def _rows(
    sources: Sequence[InputFile],
    reading: BatchInput,
    stdin: BinaryIO | None,
    notices: RowNotices,
    named: bool | None,
    watch: InputWatch,
) -> Generator[Row | None, None, None]:
    """`named`: whether some row may have an id; None where each row tells that."""
    number = 0
    seen: dict[bytes, tuple[int, int]] = {}  # of each id: its hash, the source's index, the line
    units: dict[int, str] = {}
    for index, source in enumerate(sources):
        for entry in watch.watched(source, _entries(source, reading, stdin, notices, watch)):
            if entry is None:
                yield None
                continue
            error, id = entry.error, entry.id
            has_ids = entry.has_ids if named is None else named
            if id is None:
                id = str(number)
                while has_ids and (id == str(number) or _short(id) in seen):
                    id = f"row:{id}"
            else:
                units[index] = entry.unit
                first, line = seen.setdefault(_short(id), (index, entry.line))
                if (first, line) != (index, entry.line) and error is None:
                    before = place(sources[first].name, units[first], line)
                    error = _twice(place(source.name, entry.unit, entry.line), id, before)
            yield _row(number, id, entry, error)
            number += 1


def _short(id: str) -> bytes:
    return hashlib.blake2b(id.encode(), digest_size=16).digest()


def _row(number: int, id: str, entry: ParsedRow, error: GptcliError | None) -> Row:
    if error is not None:
        return Row(number, entry.digest, id, "", error=error, carried=entry.carried)
    return Row(number, entry.digest, id, entry.text, entry.overrides, carried=entry.carried)


def _twice(where: str, id: str, before: str) -> BadInput:
    return bad(where, f"the id {id[:100]!r} is that of {before}", "Give every row its own.")


def _try(source: InputFile, reading: BatchInput, notices: RowNotices) -> bool:
    """Open a file and read up to its first row, for the errors that this raises.

    Returns whether its rows can have ids; of what can be read only once, they can.
    """
    if source.path is None or not source.regular:
        return source.format != "lines"
    with errors_of(source.name), open_regular(source.path):
        pass
    if source.format == "files":  # of which each row is a whole file
        return True
    with closing(_entries(source, reading, None, notices, InputWatch())) as entries:
        first = next(entries, None)
    return first is not None and first.has_ids


def _entries(
    source: InputFile,
    reading: BatchInput,
    stdin: BinaryIO | None,
    notices: RowNotices,
    watch: InputWatch,
) -> Generator[ParsedRow | None, None, None]:
    """The entries of one input; a file is closed when they end."""
    if source.path is None:
        if stdin is not None:
            yield from _unpacked_entries(source, reading, stdin, notices, watch)
    elif source.format == "parquet":
        yield from parquet.read(source.path, source.name, reading, notices)
    else:
        with errors_of(source.name):
            file = (open_regular if source.regular else open_stream)(source.path)
        with file:
            yield from _unpacked_entries(source, reading, file, notices, watch)


def _unpacked_entries(
    source: InputFile,
    reading: BatchInput,
    stream: BinaryIO,
    notices: RowNotices,
    watch: InputWatch,
) -> Generator[ParsedRow | None, None, None]:
    """The entries of a stream of bytes, packed or not."""
    data = watch.pieces(source, stream) or pieces(stream, source.name, _HOW)
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
        if format == "lines" and reading.given:
            format = "tsv" if reading.separator == "\t" else "csv"
    if format == "parquet":
        yield from _parquet_entries(source, reading, notices, packed=packing is not None)
    else:
        yield from _parsed(data, format, source, reading, notices)


def _parquet_entries(
    source: InputFile, reading: BatchInput, notices: RowNotices, *, packed: bool
) -> Iterator[ParsedRow | None]:
    """The entries of what has turned out to be Parquet."""
    if source.path is None or not source.regular or packed:
        why = "Parquet is read from its end, and a pipe or packed file has none"
        raise BadInput(source.name, why, "Unpack it into a file, and name that.")
    return parquet.read(source.path, source.name, reading, notices)


def _parsed(
    data: Iterator[bytes | None],
    format: InputFormat,
    source: InputFile,
    reading: BatchInput,
    notices: RowNotices,
) -> Iterator[ParsedRow | None]:
    name = source.name
    data = checked(data, name, marked_only=reading.null)
    if format in ("csv", "tsv"):
        wanted = (TextColumn(reading.column),)
        table = read_table(data, name, format, reading, notices.say, wanted, reading.errors)
        return (
            None if row is None else entry_of(row, name, reading, notices, cells=True)
            for row in table
        )
    if format in ("jsonl", "openai"):
        only = format == "openai"
        return jsonlines.read(data, name, reading, notices, only_openai=only)
    if format == "files":
        return plaintext.read_file(data, name, reading, source.id)
    return plaintext.read_lines(data, name, reading, notices)


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
