"""Names on the command line as files to learn from: files, patterns and folders.

Of a folder the texts and tables are taken, at any depth, in the order of their names; hidden files
are left out, and what else is left out is said. In a folder of tables a text beside them is a note
about them, not data. A file that is named itself is taken whatever it is called. Nothing is opened
here. Data is read again when a run goes on, so it cannot be a pipe.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptcli.errors import MissingInput, UsageError
from gptcli.inputs.compressed import SUFFIXES
from gptcli.system.os_errors import reason
from gptcli.system.regular_files import check_regular
from gptcli.system.units import counted

DataFormat = Literal["text", "jsonl", "csv", "tsv", "parquet"]
STDIN = "-"
MAX_KINDS = 5  # of files left out, that are named
_FORMATS: Mapping[str, DataFormat] = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_TAKEN = ", ".join(_FORMATS)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file to learn from, under the name that errors and the plan call it by."""

    name: str
    path: Path
    format: DataFormat


@dataclass(frozen=True)
class DataFiles:
    """All files, in order, and what is to be said of those that are left out."""

    files: tuple[DataFile, ...]
    notices: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of all files on the disk. Raises MissingInput."""
        total = 0
        for file in self.files:
            with errors_of(file.name):
                total += file.path.stat().st_size
        return total


@contextmanager
def errors_of(name: str) -> Iterator[None]:
    """Turn what goes wrong with a file into UsageError (its name) and MissingInput."""
    try:
        yield
    except ValueError:
        raise UsageError("data", "a name holds a NUL character", "Give another.") from None
    except OSError as error:
        raise MissingInput(name, reason(error), "Check the name: ls -l.") from None


def expand(data: Sequence[str], own: Path | None = None) -> DataFiles:
    """The files that the names mean, each once. `own` is a folder of ours, left out of folders.

    Raises UsageError (no name, an empty one, standard input, JSON that is no lines), MissingInput
    (no such file, a pattern or folder without any).
    """
    if not data:
        raise UsageError("DATA", "nothing to learn from is named", "Name a file: tales.txt.")
    kept = None if own is None else os.path.realpath(own)
    left: Counter[str] = Counter()
    found: dict[str, DataFile] = {}
    notices: list[str] = []
    for name in data:
        for file in _files(name, kept, left, notices):
            if found.setdefault(os.path.realpath(file.path), file) is not file:
                notices.append(f"{file.name} is named twice, and read once")
    if left:
        total = sum(left.values())
        most = sorted(left.items(), key=lambda one: (-one[1], one[0]))[:MAX_KINDS]
        kinds = [f"{kind} ({count})" for kind, count in most]
        more = ", ..." if len(left) > MAX_KINDS else ""
        said = f"{counted(total, 'file')} in folders left out, by their names: "
        notices.append(said + ", ".join(kinds) + more)
    return DataFiles(tuple(found.values()), tuple(notices))


def _files(
    name: str, own: str | None, left: Counter[str], notices: list[str]
) -> Sequence[DataFile]:
    if name == "":
        raise UsageError("DATA", "a name is empty", "Name a file or a folder.")
    if name == STDIN:
        why = "it cannot be read again when the run goes on"
        raise UsageError("standard input", why, "Write it into a file, and name that.")
    path = Path(name)
    with errors_of(name):
        missing = not os.path.lexists(path)
        folder = path.is_dir()
    if folder:
        return _of_folder(path, own, left, notices)
    if missing and glob.has_magic(name):
        names = glob.glob(name, recursive=True)  # noqa: PTH207 - as the shell does, from anywhere
        found = sorted(one for one in names if Path(one).is_file())
        if not found:
            raise MissingInput(name, "no file matches", "Look which there are: ls.")
        return [_of_file(Path(one)) for one in found]
    return [_of_file(path)]


def _of_file(path: Path) -> DataFile:
    name = _shown(str(path))
    with errors_of(name):
        check_regular(path)
    suffix = _suffix(path.name)
    if suffix == ".json":
        hint = "Make it JSON lines: jq -c '.[]' FILE.json > FILE.jsonl"
        raise UsageError("DATA", f"{name} is JSON, and not JSON lines", hint)
    return DataFile(name, path, _FORMATS.get(suffix, "text"))


def _of_folder(
    folder: Path, own: str | None, left: Counter[str], notices: list[str]
) -> list[DataFile]:
    taken: list[Path] = []
    for path in _walked(folder, own):
        suffix = _suffix(path.name)
        if suffix in _FORMATS:
            taken.append(path)
        else:
            left[suffix or "without a suffix"] += 1
    if not taken:
        why = f"no file in it ends in {_TAKEN}"
        raise MissingInput(str(folder), why, f"Name the files themselves: '{folder}/**/*.py'")
    taken.sort(key=lambda path: path.relative_to(folder).as_posix())
    files = [_of_file(path) for path in taken]
    tables = [file for file in files if file.format != "text"]
    if tables and len(tables) < len(files):
        texts = counted(len(files) - len(tables), "text")
        notices.append(f"{_shown(str(folder))}: {texts} beside tables left out; name them, too")
    return tables or files


def _walked(folder: Path, own: str | None) -> Iterator[Path]:
    """All files that are not hidden; links to folders are not followed."""

    def fail(error: OSError) -> None:
        raise MissingInput(str(error.filename), reason(error), "Check its permissions: ls -ld.")

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(Path(place, name)) != own
        ]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _suffix(name: str) -> str:
    plain = name.lower()
    for packed in SUFFIXES:
        plain = plain.removesuffix(packed)
    return Path(plain).suffix


def _shown(name: str) -> str:
    """A file's name as text, also where it is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")
