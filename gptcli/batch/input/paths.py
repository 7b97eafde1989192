"""Names on the command line as inputs: files, folders, patterns and standard input.

A pattern matches as in the shell, so that quoting it changes nothing. A folder means its text
files, one prompt each. Both skip names that start with a dot. A missing file and an unknown suffix
are found here, before anything is read. Not here: formats that the first bytes tell are in
`gptcli.batch.input.sources`.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gptcli.batch.options import BatchInput, InputFormat
from gptcli.errors import MissingInput, UsageError
from gptcli.inputs.compressed import SUFFIXES
from gptcli.system.os_errors import reason
from gptcli.system.regular_files import check_regular

STDIN = "-"
TEXT_SUFFIXES = (".txt", ".md")  # what is read of a folder
FORMATS: dict[str, InputFormat] = {
    ".txt": "lines",
    ".prompts": "lines",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclass(frozen=True)
class InputFile:
    """One file, or standard input where `path` is None."""

    name: str  # as given, in valid Unicode
    path: Path | None
    format: InputFormat  # auto: its first bytes will say
    id: str | None = None  # of an input that is one prompt

    @property
    def regular(self) -> bool:
        """Whether it can be opened twice: not a pipe, such as the shell's `<(command)`."""
        return self.path is not None and self.path.is_file()


def expand(inputs: Sequence[str], reading: BatchInput) -> tuple[InputFile, ...]:
    """The inputs as files, in order; without any, standard input.

    Raises MissingInput (no such file, a pattern or folder without any) and UsageError (an empty
    name, standard input twice, a name that says nothing of the format).
    """
    names = list(inputs) or [STDIN]
    if names.count(STDIN) > 1:
        raise UsageError("standard input", "it is asked for twice", "Give - once.")
    several = len(names) > 1
    return tuple(source for name in names for source in _sources(name, reading, several))


@contextmanager
def errors_of(name: str) -> Iterator[None]:
    """Turn what goes wrong with a file into UsageError (its name) and MissingInput."""
    try:
        yield
    except ValueError:
        raise UsageError("input", "its name holds a NUL character", "Give another.") from None
    except OSError as error:
        raise MissingInput(name, reason(error), "Check the name: ls -l.") from None


def _sources(name: str, reading: BatchInput, several: bool) -> Iterable[InputFile]:
    if name == "":
        raise UsageError("input", "the name is empty", "Name a file, or - for standard input.")
    if name == STDIN:
        return [_standard_input(reading)]
    path = Path(name)
    with errors_of(name):
        missing = not os.path.lexists(path)
        folder = path.is_dir()
    if folder:
        return _of_folder(path, reading, several)
    if missing and glob.has_magic(name):
        names = glob.glob(name, recursive=True)  # noqa: PTH207 - as the shell does, from anywhere
        found = sorted(found for found in names if Path(found).is_file())
        if not found:
            raise MissingInput(name, "no file matches", "Look which there are: ls.")
        return [_of_file(path, reading) for path in found]
    with errors_of(name):
        path.stat()
    return [_of_file(name, reading)]


def _standard_input(reading: BatchInput) -> InputFile:
    if reading.input_format == "parquet":
        raise UsageError("standard input", "it cannot be Parquet", "Name the file instead.")
    return InputFile("standard input", None, _format("", reading))


def _of_file(name: str, reading: BatchInput) -> InputFile:
    path = Path(name)
    plain = path.name.lower()
    for suffix in SUFFIXES:
        plain = plain.removesuffix(suffix)
    # A pipe's name, such as /dev/fd/63, says nothing of what comes out of it.
    suffix = Path(plain).suffix if path.is_file() else ""
    return InputFile(_shown(name), path, _format(suffix, reading), _shown(name))


def _of_folder(folder: Path, reading: BatchInput, several: bool) -> list[InputFile]:
    if reading.null or reading.input_format not in ("auto", "files"):
        what = "--null" if reading.null else reading.input_format
        why = f"{folder} is a folder, read one prompt a file, which does not go with {what}"
        raise UsageError("input", why, f"Name its files: {folder}/*")
    found = sorted(_texts(folder), key=lambda path: path.relative_to(folder).as_posix())
    if not found:
        why = f"no file in it ends in {' or '.join(TEXT_SUFFIXES)}"
        raise MissingInput(str(folder), why, "Name the files themselves.")
    for path in found:  # a pipe would wait for its writer
        with errors_of(_shown(str(path))):
            check_regular(path)
    return [
        InputFile(
            _shown(str(path)),
            path,
            "files",
            _shown((path if several else path.relative_to(folder)).as_posix()),
        )
        for path in found
    ]


def _texts(folder: Path) -> Iterator[Path]:
    """The folder's text files, at any depth; links to folders are not followed."""

    def fail(error: OSError) -> None:
        raise MissingInput(str(error.filename), reason(error), "Check its permissions: ls -ld.")

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(TEXT_SUFFIXES) and not name.startswith("."):
                yield Path(place, name)


def _format(suffix: str, reading: BatchInput) -> InputFormat:
    if reading.null:
        return "lines"
    if reading.input_format != "auto" or suffix == "":
        return reading.input_format
    if suffix in FORMATS:
        return FORMATS[suffix]
    hint = "Say what it is, as in --input-format lines."
    if suffix == ".json":
        hint = "Make it JSON lines: jq -c '.[]' FILE.json > FILE.jsonl"
    raise UsageError("input", f"nothing is known of files that end in {suffix}", hint)


def _shown(name: str) -> str:
    """A file's name as text, also where it is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")
