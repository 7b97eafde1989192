"""Which columns of a table are the texts, which is the id, and how the others are carried.

A wrong column is a mistake on the command line, not in a row, and so it is found once, before any
row is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gptcli.errors import UsageError
from gptcli.inputs.records import Note

MAX_NAMED_COLUMNS = 20  # that an error lists
ID = "id"


@dataclass(frozen=True)
class TextColumn:
    """A text that is wanted of each row: by the name given, else the first of the defaults."""

    given: str | None = None  # a name, or a number from 1
    defaults: tuple[str, ...] = ("prompt", "text")
    flag: str = "--column"
    what: str = "the prompt"

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it may have."""
        return self.defaults if self.given is None else (self.given,)


@dataclass(frozen=True)
class TableColumns:
    """The header, and the places from 0 of the texts and of the id; others by unique names."""

    header: tuple[str, ...]
    texts: tuple[int, ...]
    id: int | None

    @cached_property  # each row asks for it
    def others(self) -> Mapping[int, str]:
        """The name of each other column: a second `note` is `note_2`, one without is `column_3`."""
        found: dict[int, str] = {}
        counts: Counter[str] = Counter()
        for at, title in enumerate(self.header):
            name = title or f"column_{at + 1}"
            counts[name] += 1
            if at not in self.texts and at != self.id:
                found[at] = name if counts[name] == 1 else f"{name}_{counts[name]}"
        return found


def chosen(
    header: Sequence[str], name: str, wanted: Sequence[TextColumn], id_column: str | None
) -> TableColumns:
    """The columns of a table with this header.

    `name` is the input's, for the errors. Raises UsageError: no such column, or two of that name.
    """
    texts = tuple(_text(header, column, name, alone=len(wanted) == 1) for column in wanted)
    if id_column is not None:
        return TableColumns(tuple(header), texts, _found(header, id_column, "--id-column", name))
    id = _like(header, ID)
    found = None if id is None else _found(header, id, "--id-column", name)
    return TableColumns(tuple(header), texts, None if found in texts else found)


class CarriedNames:
    """The names under which other columns go into the output, whose own are `reserved`.

    A name that the output has itself becomes `input_NAME`, which is said once.
    """

    def __init__(self, reserved: Iterable[str], note: Note) -> None:
        self._reserved = frozenset(reserved)
        self._note = note
        self._said: set[str] = set()

    def carried(self, others: Mapping[str, object]) -> dict[str, object]:
        """The columns under the names they have in the output."""
        if not self._reserved & others.keys():
            return dict(others)
        return {self._name(name, others): value for name, value in others.items()}

    def _name(self, name: str, others: Mapping[str, object]) -> str:
        found = name
        while found in self._reserved or (found != name and found in others):
            found = f"input_{found}"
        if found != name and name not in self._said:
            self._said.add(name)
            self._note(f"column {name}: written as {found}, as the output has its own {name}")
        return found


def _text(header: Sequence[str], column: TextColumn, name: str, *, alone: bool) -> int:
    if column.given is not None:
        return _found(header, column.given, column.flag, name)
    for default in column.defaults:
        title = _like(header, default)
        if title is not None:
            return _found(header, title, column.flag, name)
    if alone and len(header) == 1:
        return 0
    why = f"{name} has no column {' or '.join(column.defaults)}"
    raise UsageError(column.flag, why, f"Name one: {_listed(header)}.")


def _like(header: Sequence[str], name: str) -> str | None:
    """The title that is this name, else one that differs in case alone."""
    if name in header:
        return name
    return next((title for title in header if title.casefold() == name), None)


def _found(header: Sequence[str], column: str, flag: str, name: str) -> int:
    """The place of a column given by its name, or else by its number from 1."""
    count = Counter(header)[column]
    if count == 1:
        return list(header).index(column)
    if count > 1:
        why = f"{name} has {count} columns {column!r}"
        raise UsageError(flag, why, "Give its number, or rename all but one.")
    number = column if column.isascii() and column.isdigit() and len(column) < 10 else "0"
    if 0 < int(number) <= len(header):
        return int(number) - 1
    raise UsageError(flag, f"{name} has no column {column!r}", f"Name one: {_listed(header)}.")


def _listed(header: Sequence[str]) -> str:
    more = ", ..." if len(header) > MAX_NAMED_COLUMNS else ""
    return ", ".join(column[:60] for column in header[:MAX_NAMED_COLUMNS]) + more
