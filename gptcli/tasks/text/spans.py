"""Typed parts of a text, from a line like `Anna Karenina (person), Rome (place)`.

A model writes such a line more or less well, and may invent names. Only names that occur in the
text are kept, with the spelling and position they have there. The line is read from the requested
types, so names may contain commas and parentheses. Names inside other names are not found.
"""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gptcli.system.text.scripts import HAN, HANGUL, KANA

_TYPE = re.compile(r"[(（]([^()（）]*)[)）]")
_BETWEEN = re.compile(r"\s*(?:[.,;]?\s+|[，、；。]\s*)")  # between two items
_SEPARATORS = re.compile(r"[,;)，、；）]")  # that may end an item of another type
_EDGES = ' \t\r\n",;“”„«»，、；「」'  # never part of a name
_JOINED = f"{HAN}{KANA}{HANGUL}"  # a name may stand directly beside these


@dataclass(frozen=True)
class Entity:
    """A part of a text: `text[start:end]`, counted in code points."""

    text: str
    type: str
    start: int
    end: int

    def to_dict(self) -> dict[str, object]:
        """The entity as JSON shows it."""
        return {"text": self.text, "type": self.type, "start": self.start, "end": self.end}


def entities(answer: str, text: str, types: Sequence[str]) -> tuple[Entity, ...]:
    """The entities that a line names, in order of their position in the text.

    An item is a name with one of `types` (in any case) in parentheses. Anything else is skipped: an
    unfinished item, another type, "none". A name must occur in the text between word borders, in
    the same case or else in any. It takes the first occurrence that no longer name and no earlier
    mention took. A mention without an occurrence left is dropped.
    """
    found: list[Entity] = []
    mentions = [(_located(name, text), kind) for name, kind in _items(answer, types)]
    for places, kind in sorted(mentions, key=lambda mention: -_length(mention[0])):
        for start, end in places:
            if all(end <= other.start or start >= other.end for other in found):
                found.append(Entity(text[start:end], kind, start, end))
                break
    return tuple(sorted(found, key=lambda entity: entity.start))


def shifted(entities: Iterable[Entity], offset: int) -> tuple[Entity, ...]:
    """The entities of a part of a text that begins at `offset` in the whole text."""
    return tuple(
        replace(entity, start=entity.start + offset, end=entity.end + offset) for entity in entities
    )


def _items(answer: str, types: Sequence[str]) -> list[tuple[str, str]]:
    """Each requested type in the line, with the text between it and the previous one."""
    asked = {kind.strip().casefold(): kind for kind in types}
    items, start = [], 0
    for match in _TYPE.finditer(answer):
        kind = asked.get(match[1].strip().casefold())
        if kind is not None:
            items.append((answer[start : match.start()], kind))
            between = _BETWEEN.match(answer, match.end())
            start = between.end() if between else match.end()
    return items


def _located(name: str, text: str) -> list[tuple[int, int]]:
    """The occurrences of a name in the text; if none, without its beginning up to a separator.

    That beginning can be an item of another type: `Rome (city), Anna` for Anna.
    """
    starts = [0, *(match.end() for match in _SEPARATORS.finditer(name))]
    for start in starts:
        part = name[start:].strip(_EDGES)
        places = _places(part, text) if part else []
        if places:
            return places
    return []


def _places(name: str, text: str) -> list[tuple[int, int]]:
    """All occurrences of a name between word borders, in its own case, or else in any.

    A space in the name matches any white space in the text.
    """
    pattern = r"\s+".join(map(re.escape, name.split()))
    before = rf"(?<![^\W{_JOINED}])" if _spaced(name[0]) else ""
    after = rf"(?![^\W{_JOINED}]|[\u0300-\u036f])" if _spaced(name[-1]) else ""
    for flags in (re.NOFLAG, re.IGNORECASE):
        matches = re.finditer(before + pattern + after, text, flags)
        if places := [match.span() for match in matches]:
            return places
    return []


def _spaced(character: str) -> bool:
    """Whether spaces or signs set a word apart that begins or ends so."""
    return character.isalnum() and not re.match(f"[{_JOINED}]", character)


def _length(places: list[tuple[int, int]]) -> int:
    return places[0][1] - places[0][0] if places else 0
