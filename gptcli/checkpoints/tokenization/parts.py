"""Which characters of a text each token stands for, and which part of one where several share it.

A character can spread over tokens: as bytes in GPT-2, as letters of a syllable where a normalizer
takes Korean apart. It is known from the tokens' places in the text alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Part:
    """Characters of a text; or one character of which a token is part `number` of `of`."""

    text: str
    number: int = 1
    of: int = 1


def parts_of(
    text: str, places: Sequence[tuple[int, int]], texts: Sequence[str]
) -> list[tuple[Part, ...]]:
    """The parts of each token, from its place in the text and its own text.

    A token that is blank, such as the mark of a space in front of a text, shares no character.
    """
    shared: Counter[int] = Counter()
    for (start, end), own in zip(places, texts, strict=True):
        shared.update(range(start, end) if not own or own.strip() else ())
    seen: Counter[int] = Counter()
    return [
        tuple(_parts(text, range(*place), shared, seen)) if not own or own.strip() else ()
        for place, own in zip(places, texts, strict=True)
    ]


def numbers_of(parts: Sequence[Part]) -> str | None:
    """Which part of its character a token is, as 1/3 or 2/2+1/3; None for a whole one."""
    numbers = [f"{part.number}/{part.of}" for part in parts if part.of > 1]
    return "+".join(numbers) or None


def _parts(text: str, places: range, shared: Counter[int], seen: Counter[int]) -> Iterator[Part]:
    for whole, few in groupby(places, lambda place: shared[place] == 1):
        if whole:
            yield Part("".join(text[place] for place in few))
            continue
        for place in few:
            seen[place] += 1
            yield Part(text[place], seen[place], shared[place])
