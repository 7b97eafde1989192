"""The format of a file, from the suffix of its name: one rule for every command that writes.

A suffix that stands for a format decides it. A suffix that stands for no format of the command is
refused, because the file would hold something else than its name says. A name without a suffix
says nothing. `--format` overrides the suffix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from gptcli.errors import UsageError

FileFormat = TypeVar("FileFormat", bound=str)

SUFFIXES: Mapping[str, str] = {
    ".txt": "text",
    ".md": "text",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".html": "html",
    ".htm": "html",
    ".svg": "svg",
    ".png": "png",
    ".npz": "npz",
}
# A number is no suffix: story-t0.7. Neither is what has a space: "1. The wolf".
_SUFFIX = re.compile(r"[^/.]\.(?!\d+$)(\w{1,16})$")


def format_of(
    name: str | None,
    possible: Sequence[FileFormat],
    otherwise: FileFormat,
    *,
    flag: str = "--output",
    override: str = "--format",
) -> FileFormat:
    """The format that the name of a file asks for; `otherwise` where it has no suffix.

    `possible` are the formats of the command. Raises UsageError for a suffix that stands for none
    of them; the hint names those that do, and the option `override` unless it is empty.
    """
    suffix = suffix_of(name)
    if not suffix:
        return otherwise
    for format in possible:
        if format == SUFFIXES.get(suffix):
            return format
    endings = [ending for ending, format in SUFFIXES.items() if format in possible]
    known = SUFFIXES.get(suffix)
    why = f"no {suffix} file can be written here" if known else f"{suffix} stands for no format"
    more = f", or choose by {override}" if override else ""
    raise UsageError(f"{flag} {name}", why, f"End the name in {_listed(endings)}{more}.")


def holds(format: str, flag: str) -> Callable[[str], None]:
    """A check for an option that names a file of one format. Raises UsageError for another's.

    A suffix that stands for no format is allowed.
    """

    def check(name: str) -> None:
        if suffix_of(name) in SUFFIXES:
            format_of(name, (format,), format, flag=flag, override="")

    return check


def suffix_of(name: str | None) -> str:
    """The suffix of a file's name in small letters, with its full stop; empty if there is none."""
    found = _SUFFIX.search(name or "")
    return f".{found[1].lower()}" if found else ""


def _listed(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
