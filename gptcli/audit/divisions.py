"""How a set is divided for its report: the whole, its categories, then each further division."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from gptcli.audit.sets.pairs import SentencePair

T = TypeVar("T")
ALL = "all"


@dataclass(frozen=True)
class Division(Generic[T]):
    """Some pairs of a set: those of one `category`, in the division named `by`."""

    by: str  # "all", "category", or the name of a division
    category: str
    items: tuple[T, ...]


def parts(items: Iterable[T], pair_of: Callable[[T], SentencePair]) -> Iterator[Division[T]]:
    """All parts of a set. A division into one part, or none, is left out."""
    found = list(items)
    yield Division(ALL, ALL, tuple(found))
    divisions = {"category": [pair_of(item).category for item in found]}
    for item in found:
        for division in pair_of(item).groups:
            divisions.setdefault(division, [pair_of(it).groups.get(division, "") for it in found])
    for by, names in divisions.items():
        if len(set(names)) > 1 or (by == "category" and names[0]):
            for category in dict.fromkeys(name for name in names if name):
                chosen = (it for it, name in zip(found, names, strict=True) if name == category)
                yield Division(by, category, tuple(chosen))
