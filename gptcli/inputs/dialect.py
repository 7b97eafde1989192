"""How a table of text is written: its separator, and what quotation marks in it mean.

The separator is that of `--delimiter`, of Excel's first line `sep=;`, or else the one that the
header is written with. A quotation mark begins a quoted field (RFC 4180) but where `--quoting none`
says that it is text. In tables of tabs, which are often written without quoting, one that does not
close as RFC 4180 wants is text, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from gptcli.options.common import TableInput

Marks = Literal["strict", "lenient", "none"]

SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas"}
_FLAGS = {"\t": "tab", "|": "bar", ",": "comma", ";": "semicolon"}
_EXCEL = re.compile(rb'"?sep=(.|\\t|tab)"?\r?', re.IGNORECASE)
_QUOTED = re.compile(rb'"[^"]*"')


@dataclass(frozen=True)
class Dialect:
    """A table's separator and the meaning of its quotation marks.

    `guessed`: the header says the separator, and the file's name says another one.
    """

    delimiter: str
    marks: Marks = "strict"
    guessed: bool = False

    @property
    def shown(self) -> str:
        """The separator in words."""
        return SEPARATORS.get(self.delimiter, repr(self.delimiter))


def declared_separator(line: bytes) -> str | None:
    """The separator that Excel's line `sep=;` declares, if the line is one."""
    found = _EXCEL.fullmatch(line)
    if found is None:
        return None
    return "\t" if len(found[1]) > 1 else found[1].decode("latin-1")


def header_notice(line: bytes, name: str) -> str | None:
    """What to say of lines whose first one looks like the header of a table; None where none does.

    It looks so with two titles or more, all of them single words, and one the name of a text.
    """
    for separator, shown in SEPARATORS.items():
        titles = line.decode("utf-8", "replace").removeprefix("\ufeff").strip().split(separator)
        words = [title.strip(' "').casefold() for title in titles]
        if len(words) > 1 and all(map(str.isidentifier, words)) and {"prompt", "text"} & {*words}:
            flag = _FLAGS[separator]
            return (
                f"{name}: its first line looks like the header of a table with {shown}, and is"
                f" taken as text; --delimiter {flag} reads a table"
            )
    return None


def dialect_of(
    header: bytes, declared: str | None, usual: str, table: TableInput, names: Collection[str]
) -> Dialect:
    """The dialect of a table with this line as its header.

    `usual` is the separator that the file's name says; `names` are titles that are looked for: a
    separator with which one of them stands in the header is the right one.
    """
    delimiter = table.separator or declared
    found = delimiter or _separator(header, usual, table, names)
    marks: Marks = "lenient" if found == "\t" else "strict"
    if table.quoting is not None:
        marks = "none" if table.quoting == "none" else "strict"
    return Dialect(found, marks, guessed=delimiter is None and found != usual)


def _separator(header: bytes, usual: str, table: TableInput, names: Collection[str]) -> str:
    bare = header if table.quoting == "none" else _QUOTED.sub(b"x", header)
    counts = {one: bare.count(one.encode()) for one in (usual, *SEPARATORS)}
    known = {one: _known(header.split(one.encode()), names) if counts[one] else 0 for one in counts}
    if any(known.values()):
        return max(known, key=lambda one: known[one])
    return usual if counts[usual] else max(counts, key=lambda one: counts[one])


def _known(titles: Collection[bytes], names: Collection[str]) -> int:
    """How many titles are names that are looked for."""
    return sum(title.strip(b'" \r').decode("utf-8", "replace") in names for title in titles)
