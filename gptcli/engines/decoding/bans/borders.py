"""Text with the borders of its words marked, so that a word at its borders is a plain substring.

A mark stands where a word begins and where it ends: `a cat!` is `|a| |cat|!`. So `|cat|` is in the
text exactly where `cat` is a word of it, and not in `category`. Text is compared without case, and
white space of any length is one space.

Chinese, Japanese, Thai, Lao, Khmer and Burmese have no borders between words: their characters get
no marks, so a word of them is found anywhere. Korean words end in particles: a word that ends in
Hangul needs no border behind it.
"""

from __future__ import annotations

import re

from gptcli.system.text.scripts import HANGUL, is_unspaced

BORDER = "\0"  # the text's own NUL becomes another control character
WORD, SPACE, OTHER = "word", "space", "other"
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")  # beside Chinese and Japanese
_ENDS_OPEN = re.compile(f"[{HANGUL}]")


class _Characters(dict[str, tuple[str, str]]):
    """The kind of each character, and what it is compared as; filled as characters come up."""

    def __missing__(self, character: str) -> tuple[str, str]:
        self[character] = found = _kind_of(character), _folded(character)
        return found


def _kind_of(character: str) -> str:
    if character.isspace():
        return SPACE
    if is_unspaced(character) or _UNSPACED.match(character):
        return OTHER
    return WORD if character.isalnum() or _is_mark(character) else OTHER


def _is_mark(character: str) -> bool:
    """Whether it stands on the character before it."""
    if character.isascii():
        return False
    import unicodedata  # loads a library of its own: not for English

    return unicodedata.category(character)[0] == "M"


def _folded(character: str) -> str:
    if character.isspace():
        return " "
    return "\1" if character == BORDER else character.casefold()


_CHARACTERS = _Characters()


def is_word(character: str) -> bool:
    """Whether a character is a part of a word that has borders."""
    return _CHARACTERS[character][0] == WORD


def marked(text: str, before: str) -> tuple[str, str]:
    """What a text adds to the marked text, and the kind of its last character.

    `before` is the kind of the character before it. The mark behind a last word is not there yet.
    """
    parts, kind = list[str](), before
    for character in text:
        now, folded = _CHARACTERS[character]
        if now == kind == SPACE:
            continue
        if (now == WORD) != (kind == WORD):
            parts.append(BORDER)
        parts.append(folded)
        kind = now
    return "".join(parts), kind


def closed(text: str, before: str) -> str:
    """As `marked`, of a text that may end there: with the mark behind its last word."""
    added, kind = marked(text, before)
    return added + BORDER if kind == WORD else added


def alone(text: str) -> str:
    """A text as it is in marked text, without a mark before it."""
    return closed(text, WORD if text and is_word(text[0]) else OTHER)


def form_of(word: str) -> str:
    """A word as it is in marked text, with the marks at its borders."""
    return open_form_of(word) if _ENDS_OPEN.match(word[-1]) else closed(word, OTHER)


def open_form_of(word: str) -> str:
    """A word as it is in marked text where anything may follow it."""
    return marked(word, OTHER)[0]
