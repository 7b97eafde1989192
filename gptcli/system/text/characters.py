"""The characters that a reader sees, and how many columns of a terminal they take.

One function for every table, bar and line: `width`. A wide character (East Asian width W or F)
takes two columns, a combining mark none; an emoji of several code points takes two as a whole.
Characters of ambiguous width take one, as in terminals without an East Asian legacy mode.
Sources: Unicode Standard Annexes 11 (East Asian Width) and 29 (Text Segmentation), as far as these
need no tables beyond those of Python.
"""

from __future__ import annotations

from collections.abc import Iterator

JOINER, EMOJI_STYLE = "\u200d", "\ufe0f"
_SKINS = range(0x1F3FB, 0x1F400)
_FLAGS = range(0x1F1E6, 0x1F200)
_VOWELS = range(0x1160, 0x1200), range(0xD7B0, 0xD800)  # of Hangul, and final consonants
_STYLED = "#*0123456789\u203c\u2049"  # besides symbols: those that an emoji style makes wide
# Format characters that terminals show: the soft hyphen, and signs that stand over a number.
_SEEN = (
    "\u00ad\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
_LINES = frozenset(map(chr, range(0x2500, 0x25A0)))  # from which boxes and bars are drawn
_EMOJI = "\U0001f464"  # stands for what a joiner has made one


def width(text: str) -> int:
    """How many columns a text takes."""
    return len(text) if text.isascii() else sum(map(ColumnCounter().added, text))


def cut(text: str, most: int, sign: str = "\u2026") -> str:
    """A text of at most so many columns; `sign` is in place of what is left out."""
    if width(text) <= most:
        return text
    room, counted = most - width(sign), ColumnCounter()
    for place, character in enumerate(text):
        room -= counted.added(character)
        if room < 0:
            return text[:place] + sign if place or most >= width(sign) else ""
    return text


def filled(text: str, columns: int, sign: str = " ") -> str:
    """A text with so many columns at least: `sign`, which takes one, fills them."""
    return text + sign * (columns - width(text))


class ColumnCounter:
    """Counts columns of a text that comes character by character."""

    def __init__(self) -> None:
        self._before = ""

    def added(self, character: str) -> int:
        """How many columns this character adds to those before it."""
        before, self._before = self._before, character
        if plain(character):
            return 1
        if before == JOINER and joined(before, character):
            self._before = _EMOJI
            return 0
        return _columns(before, character)


def _columns(before: str, character: str) -> int:
    import unicodedata  # its tables take a tenth of a second, which most texts do not need

    if character == EMOJI_STYLE:
        return int(_styled(before))
    kind = unicodedata.category(character)
    if kind in ("Mn", "Me", "Cf"):
        return int(character in _SEEN)
    wide = unicodedata.east_asian_width(character) in "WF"
    if kind == "Mc":
        return int(not wide)
    if kind == "Cn":  # Python calls all of these wide
        return 2 if ord(character) >> 16 in (2, 3) else 1
    if _is_vowel(character) or (before and joined(before, character)):
        return 0
    return 2 if wide else 1


def plain(character: str) -> bool:
    """Whether a character takes one column and stands for itself, known without tables."""
    return character < "\u0300" or "\u2010" <= character < "\u2028" or character in _LINES


def joined(before: str, character: str) -> bool:
    """Whether a character belongs to the one before it: a mark, a part of an emoji or a syllable.

    The halves of a flag do not count: see `characters`.
    """
    if not before or plain(character):
        return False
    import unicodedata

    kind = unicodedata.category(character)
    if kind in ("Mn", "Me", "Mc") or character in (JOINER, "\u200c"):
        return True
    if before == JOINER:
        return kind[0] == "S"
    if ord(character) in _SKINS:
        return unicodedata.category(before) == "So" or before == EMOJI_STYLE
    return _is_vowel(character) and _is_hangul(before)


def characters(text: str) -> Iterator[tuple[int, int]]:
    """Where each character that a reader sees is in a text; the end is exclusive.

    It has its marks; an emoji of several code points, a flag, a syllable of Hangul is one.
    """
    start = flags = 0
    for place in range(1, len(text)):
        before, character = text[place - 1], text[place]
        flags = flags + 1 if ord(before) in _FLAGS else 0
        pair = flags % 2 == 1 and ord(character) in _FLAGS
        if not pair and not joined(before, character) and (before, character) != ("\r", "\n"):
            yield start, place
            start = place
    if text:
        yield start, len(text)


def _styled(before: str) -> bool:
    """Whether an emoji style makes a character wide that is narrow without it."""
    import unicodedata

    if not before or unicodedata.east_asian_width(before) in "WF":
        return False
    return before in _STYLED or unicodedata.category(before) in ("So", "Sm")


def _is_vowel(character: str) -> bool:
    return any(ord(character) in vowels for vowels in _VOWELS)


def _is_hangul(character: str) -> bool:
    code = ord(character)
    return 0x1100 <= code < 0x1200 or 0xAC00 <= code < 0xD800 or 0xA960 <= code < 0xA980
