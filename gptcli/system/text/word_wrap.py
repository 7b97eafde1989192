"""Wrap text between words at the edge of a terminal, also text that has no spaces.

Streamed text appears at once, as it comes. When a word that has begun does not fit, its beginning
is erased and the word moves to the next line. The last column stays empty, because terminals differ
in where the cursor is after it.

Chinese, Japanese and Korean lines may end between any two characters, but not before a closing mark
or a small kana, nor after an opening one. Source: Unicode Standard Annex 14, strict line breaking,
as far as it needs no tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gptcli.system.text.characters import ColumnCounter, joined, plain, width

MIN_COLUMNS = 20  # of a terminal whose lines are wrapped
LONGEST_WORD = 4000  # characters of a word that is moved to the next line
_NEVER_FIRST = frozenset(
    "!%),.:;?]}\u00b0\u2010\u2013\u2014\u2025\u2026\u2030\u2032\u2033\u2103"
    "\u3001\u3002\u3005\u301c\u303b\u309b\u309c\u309d\u309e\u30a0\u30fb\u30fc\u30fd\u30fe"
    "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ"
    "\uff01\uff05\uff0c\uff0e\uff1a\uff1b\uff1f\uff5e\uff61\uff64\uff65\uff67\uff68\uff69\uff6a"
    "\uff6b\uff6c\uff6d\uff6e\uff6f\uff70\uff9e\uff9f\uffe0"
)
_NEVER_LAST = frozenset("([{$#@\u00a3\u00a5\u20ac\u2116\uff04\uffe1\uffe5")
_QUOTES = frozenset("\"'")
_BLANK = re.compile(r"[ \t\n\v\f\r]+")


@dataclass
class WordWrap:
    """The place of the cursor in a text that is streamed to a terminal.

    `columns` gives the terminal's width, which may change.
    """

    columns: Callable[[], int]
    column: int = 0  # of the cursor
    word: str = ""  # what stands before the cursor and cannot be parted from what comes
    broken: bool = False  # whether the word is longer than a line
    _before: str = ""
    _counted: ColumnCounter = field(default_factory=ColumnCounter)

    def wrapped(self, text: str) -> str:
        """What to write for `text`: line breaks in place of spaces, and erased beginnings."""
        room = self.columns() - 1
        if room < MIN_COLUMNS:
            self.seen(text)
            return text
        return "".join(self._placed(character, room) for character in text)

    def seen(self, text: str) -> None:
        """Note a text that is written as it is."""
        line = text.rpartition("\n")[2]
        self.column = (0 if "\n" in text else self.column) + width(line)
        self.word, self.broken, self._before = "", False, ""

    def _placed(self, character: str, room: int) -> str:
        before, self._before = self._before, character
        size = self._counted.added(character)
        if character == "\n":
            self.column, self.word, self.broken = 0, "", False
            return "\n"
        if character.isspace():
            self.word, self.broken = "", False
            if self.column + size > room:  # the next word begins a line
                return self._next_line("")
            self.column += size
            return character
        if breakable(before, character):
            self.word, self.broken = "", False
        if self.column + size > room and not joined(before, character):
            return self._moved(character, size)
        self.column += size
        self.word += character
        if len(self.word) > LONGEST_WORD:  # letters without a width, one over the other
            self.word, self.broken = "", True
        return character

    def _moved(self, character: str, size: int) -> str:
        """Begin a line with the word that does not fit; a word longer than a line is broken."""
        beginning = width(self.word)
        if self.broken or (self.word and beginning >= self.column):
            self.word, self.broken = "", True
            start = self._next_line("")
            self.column = size
            return start + character
        word = self.word
        erased = f"\x1b[{beginning}D\x1b[K" if beginning else ""
        start = self._next_line(word)
        self.column += size
        self.word = word + character
        return f"{erased}{start}{character}"

    def _next_line(self, word: str) -> str:
        self.column = width(word)
        return f"\n{word}"


def breakable(before: str, character: str) -> bool:
    """Whether a line may end between two characters, neither of them a blank."""
    if not (_ends_lines(before) or _ends_lines(character)):
        return False
    if joined(before, character) or character in _NEVER_FIRST or before in _NEVER_LAST:
        return False
    if character in _QUOTES or before in _QUOTES or before == "\u200d":
        return False
    return _kind(character) not in ("Pe", "Pf") and _kind(before) not in ("Ps", "Pi")


def lines(text: str, columns: int, first: int | None = None) -> Iterator[str]:
    """A text as lines of at most so many columns; the first one may have fewer or more.

    White space of ASCII between words is one blank.
    """
    line, room = "", columns if first is None else first
    for word in filter(None, _BLANK.split(text)):
        gap = " " if line else ""
        for piece in _pieces(word, columns):
            if line and width(line + gap + piece) > room:
                yield line
                line, gap, room = "", "", columns
            line += gap + piece
            gap = ""
    if line:
        yield line


def _pieces(word: str, columns: int) -> Iterator[str]:
    """The parts of a word between which a line may end; what is too long is cut anywhere."""
    piece = ""
    for character in word:
        before = piece[-1:]
        full = width(piece + character) > columns and not joined(before, character)
        if before and (full or breakable(before, character)):
            yield piece
            piece = ""
        piece += character
    if piece:
        yield piece


def _ends_lines(character: str) -> bool:
    """Whether it is of a script whose lines may end after any character, or an emoji."""
    if not character or plain(character):
        return False
    import unicodedata

    return unicodedata.east_asian_width(character) in "WF" or 0xFF61 <= ord(character) < 0xFFA0


def _kind(character: str) -> str:
    import unicodedata

    return unicodedata.category(character) if character else ""
