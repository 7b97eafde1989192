"""A table of a task's TOML file, whose values are checked as they are read.

TOML has more types than a task, and the user must be told which key is wrong. So everything is read
through a `TomlTable`, whose errors are BadTask with file, table, key and rule. Not here: the
meaning of the keys is in `gptcli.tasks.definition.schema`.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from gptcli.errors import BadTask
from gptcli.system.sanitizer import one_line

CORRECT = "Correct the file; gptcli tasks new shows the layout."
MAX_QUOTED_CHARS = 60  # of a key in an error
_T = TypeVar("_T")
_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
    datetime.datetime: "a date",
    datetime.date: "a date",
    datetime.time: "a time",
}


def near(name: str, known: Iterable[str]) -> str:
    """A hint for a wrong name: the nearest known one, else all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, 1)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Known: {', '.join(names)}." if names else CORRECT


def is_line(text: str) -> bool:
    """Whether a text is one line, without control characters."""
    return one_line(text) == text and "\t" not in text


@dataclass(frozen=True)
class TomlTable:
    """A table of the file `source`; `place` is its header, empty for the top of the file."""

    source: str
    place: str
    values: Mapping[str, object]

    def error(self, key: str, rule: str, hint: str = CORRECT) -> BadTask:
        """The error for a key that breaks a rule, to be raised by the caller."""
        where = f"{self.place} {key[:MAX_QUOTED_CHARS]}".lstrip()
        return BadTask(f"{self.source}: {where}", rule, hint)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def expect(self, known: Collection[str]) -> None:
        """Raise BadTask if there is a key that is not `known`."""
        for key in self.values:
            if key not in known:
                raise self.error(key, "there is no such key", near(key, known))

    def take(self, key: str, kind: type[_T]) -> _T:
        """The value of `key`, which must be there and be of this TOML type; raises BadTask."""
        if key not in self.values:
            raise self.error(key, "it is missing")
        value = self.values[key]
        if type(value) is not kind:  # not isinstance: true is no whole number
            raise self.error(key, f"it is {_WORDS[type(value)]}, not {_WORDS[kind]}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text; without a default it must be there and say something. Raises BadTask."""
        if key not in self.values and default is not None:
            return default
        value = self.take(key, str)
        if default is None and not value.strip():
            raise self.error(key, "it is empty")
        return value

    def line(self, key: str) -> str:
        """A text of one line, which must be there. Raises BadTask."""
        value = self.text(key)
        if not is_line(value):
            raise self.error(key, "it must be one line, without control characters")
        return value

    def word(self, key: str, known: Collection[str], default: str | None = None) -> str:
        """One of the `known` words. Raises BadTask."""
        if key not in self.values and default is not None:
            return default
        value = self.take(key, str)
        if value not in known:
            raise self.error(key, f"{value[:40]!r} is not one of {', '.join(known)}")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of texts, none of them empty. Raises BadTask."""
        if key not in self.values and default is not None:
            return default
        found = []
        for item in self._items(key, str):
            if not item:
                raise self.error(key, "a text of the list is empty")
            found.append(item)
        return tuple(found)

    def table(self, key: str) -> TomlTable:
        """The table `key`, empty if it is not there. Raises BadTask."""
        values = self.take(key, dict) if key in self.values else {}
        path = f"{self.place.strip('[]')}.{key}" if self.place else key
        return TomlTable(self.source, f"[{path}]", values)

    def tables(self, key: str) -> list[TomlTable]:
        """The tables of the list `key`, none if it is not there. Raises BadTask."""
        found = []
        for count, values in enumerate(self._items(key, dict) if key in self.values else (), 1):
            place = f"{self.place} [[{key}]] {count}".lstrip()
            found.append(TomlTable(self.source, place, values))
        return found

    def _items(self, key: str, kind: type[_T]) -> list[_T]:
        items = self.take(key, list)
        for item in items:
            if type(item) is not kind:
                raise self.error(key, f"an entry is {_WORDS[type(item)]}, not {_WORDS[kind]}")
        return items
