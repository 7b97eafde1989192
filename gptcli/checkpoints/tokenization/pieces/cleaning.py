"""What tokenizer classes do to a text before sentencepiece sees it, with each character's source.

The texts are those of transformers' classes. Places are exact, but for characters that belong to
one another there: they share the place of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

Cleaner = Callable[["Placed"], "Placed"]


@dataclass(frozen=True)
class Placed:
    """A text, and for each of its characters which part of the original it stands for."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def part(self, start: int, end: int) -> Placed:
        """A part of the text."""
        return Placed(self.text[start:end], self.starts[start:end], self.ends[start:end])


def placed(text: str) -> Placed:
    """A text that stands for itself."""
    return Placed(text, tuple(range(len(text))), tuple(range(1, len(text) + 1)))


def lowered(given: Placed) -> Placed:
    """Lower case, character by character."""
    return _each(given, str.lower)


def albert(remove_space: bool, keep_accents: bool, lower: bool) -> Cleaner:
    """ALBERT's and XLNet's cleaning: spaces, quotes, accents, case."""
    from unicodedata import combining, normalize

    def without_accents(character: str) -> str:
        return "".join(one for one in normalize("NFKD", character) if not combining(one))

    def clean(given: Placed) -> Placed:
        if remove_space:
            given = _spaced(given)
        for quotes in ("``", "''"):
            given = _replaced(given, quotes, '"')
        if not keep_accents:
            given = _each(given, without_accents)
        if lower:
            small = given.text.lower()  # of a whole word, a last sigma is another one
            given = lowered(given)
            if len(small) == len(given.text):
                given = Placed(small, given.starts, given.ends)
        return given

    return clean


_UNPRINTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u200b]")
_SPACES = frozenset(" \x84\u2002\u2003\u2005\u2008\u2009\u200a\u202f\u3000\ufffc")


def gpt_sw3(given: Placed) -> Placed:
    """GPT-SW3's cleaning: no control characters, one kind of space, composed characters (NFC)."""

    def clean(character: str) -> str:
        if _UNPRINTED.match(character):
            return ""
        return " " if character in _SPACES else character

    return _composed(_each(given, clean))


def _composed(given: Placed) -> Placed:
    """NFC; what is composed of several characters has the place of all of them."""
    from unicodedata import normalize

    whole = normalize("NFC", given.text)
    if whole == given.text:
        return given
    parts = list(_clusters(given.text))
    texts = [normalize("NFC", given.text[start:end]) for start, end in parts]
    if "".join(texts) != whole:  # they belong together in some other way
        parts, texts = [(0, len(given.text))], [whole]
    return _joined(
        (text, given.starts[start], given.ends[end - 1])
        for text, (start, end) in zip(texts, parts, strict=True)
    )


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Characters with the marks and jamo behind them that can be composed with them."""
    from unicodedata import combining

    start = 0
    for place, character in enumerate(text):
        joins = combining(character) or "\u1160" <= character <= "\u11ff"
        if place and not joins:
            yield start, place
            start = place
    if text:
        yield start, len(text)


def _each(given: Placed, change: Callable[[str], str]) -> Placed:
    changed = [change(character) for character in given.text]
    if all(map(str.__eq__, changed, given.text)):
        return given
    return _joined(zip(changed, given.starts, given.ends, strict=True))


def _spaced(given: Placed) -> Placed:
    """Words with one space between them, as `" ".join(text.split())` has them."""
    words: list[tuple[str, int, int]] = []
    places = zip(given.text, given.starts, given.ends, strict=True)
    for is_space, group in groupby(places, key=lambda one: one[0].isspace()):
        found = list(group)
        words += [(" ", found[0][1], found[-1][2])] if is_space else found
    while words and words[-1][0] == " ":
        words.pop()
    return _joined(words[1:] if words and words[0][0] == " " else words)


def _replaced(given: Placed, old: str, new: str) -> Placed:
    if old not in given.text:
        return given
    parts: list[tuple[str, int, int]] = []
    place = 0
    while place < len(given.text):
        found = given.text.startswith(old, place)
        end = place + (len(old) if found else 1)
        text = new if found else given.text[place]
        parts.append((text, given.starts[place], given.ends[end - 1]))
        place = end
    return _joined(parts)


def _joined(parts: Iterable[tuple[str, int, int]]) -> Placed:
    spread = [(one, start, end) for text, start, end in parts for one in text]
    if not spread:
        return Placed("", (), ())
    characters, starts, ends = zip(*spread, strict=True)
    return Placed("".join(characters), starts, ends)
