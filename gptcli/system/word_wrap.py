"""Wrap streamed text between words at the edge of a terminal.

Text appears at once, as it comes. When a word that has begun does not fit, its beginning is erased
and the word moves to the next line. The last column stays empty, because terminals differ in where
the cursor is after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MIN_COLUMNS = 20  # of a terminal whose lines are wrapped
LONGEST_WORD = 4000  # characters of a word that is moved to the next line


@dataclass
class WordWrap:
    """The place of the cursor in a text that is streamed to a terminal.

    `columns` gives the terminal's width, which may change.
    """

    columns: Callable[[], int]
    column: int = 0  # of the cursor
    word: str = ""  # the word before the cursor, as far as it is written
    broken: bool = False  # whether the word is longer than a line

    def wrapped(self, text: str) -> str:
        """What to write for `text`: line breaks in place of spaces, and erased beginnings."""
        width = self.columns() - 1
        if width < MIN_COLUMNS:
            self.seen(text)
            return text
        return "".join(self._placed(character, width) for character in text)

    def seen(self, text: str) -> None:
        """Note a text that is written as it is."""
        line = text.rpartition("\n")[2]
        self.column = (0 if "\n" in text else self.column) + sum(map(character_width, line))
        self.word, self.broken = "", False

    def _placed(self, character: str, width: int) -> str:
        if character == "\n":
            self.column, self.word, self.broken = 0, "", False
            return "\n"
        size = character_width(character)
        if character.isspace():
            self.word, self.broken = "", False
            if self.column + size > width:  # the next word begins a line
                return self._next_line("")
            self.column += size
            return character
        if self.column + size > width:
            return self._moved(character, size)
        self.column += size
        self.word = "" if size > 1 else self.word + character  # a line may end after a wide one
        if len(self.word) > LONGEST_WORD:  # letters without a width, one over the other
            self.word, self.broken = "", True
        return character

    def _moved(self, character: str, size: int) -> str:
        """Begin a line with the word that does not fit; a word longer than a line is broken."""
        beginning = sum(map(character_width, self.word))
        if self.broken or beginning >= self.column:
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
        self.column = sum(map(character_width, word))
        return f"\n{word}"


def character_width(character: str) -> int:
    """How many columns a character takes: 2 for a wide one, 0 for one that joins the last."""
    if character.isascii():
        return 1
    import unicodedata  # its tables take a tenth of a second, which most texts do not need

    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
