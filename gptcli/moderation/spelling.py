"""What a character of a text may stand for, in one table.

A text is compared letter by letter. Case folding and compatibility forms (NFKD) come first, then
look-alikes: Cyrillic, Greek and Latin letters that are drawn as a Latin one are that one. A digit
or a sign is itself and what it is drawn as: 0 is also o. Marks over letters and characters that
take no room do not count. Signs that words are often broken with (`b.a.d`) are `SOFT`.
"""

# ruff: noqa: RUF001 - look-alikes are what this is about

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import IntEnum

from gptcli.system.text.scripts import is_unspaced

LOOK_ALIKES = {
    **dict(zip("авезкмнортсухіјѕһԁԛԝѵг", "abeekmhoptcyxijshdqwvr", strict=True)),
    **dict(zip("αβεζηικμνορτυχωγ", "abezhikmvoptuxwy", strict=True)),
    **dict(
        zip("ıłøđħŧɑɡɩɪʟʏʀɴʜɢʙᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢꜱꜰ", "ilodhtagiilyrnhgbacdejkmoptuvwzsf", strict=True)
    ),
    "æ": "ae",
    "œ": "oe",
    "ƒ": "f",
    "ʼ": "'",
    "’": "'",
    "‘": "'",
    "＇": "'",
}
"""A letter that is drawn like Latin ones, and what it counts as."""

LEET = {
    "0": "o",
    "1": "il",
    "3": "e",
    "4": "a",
    "5": "s",
    "7": "t",
    "8": "b",
    "9": "g",
}
"""A digit, and the letters that it may stand for; it is also itself."""

SIGNS = {"@": "a", "$": "s", "€": "e", "¢": "c"}
"""A sign that may be a letter anywhere in a word."""

INNER_SIGNS = {"!": "il", "|": "il", "+": "t", "'": "'"}
"""A sign that may be a letter between two others only: after a word it is punctuation."""

SOFT = frozenset("-._*~·•‧∙_/\\‐‑‒–¯=^")
"""A sign that may stand between the letters of a word, or between words."""

_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\u180e")  # drawn as nothing
_MARKS = (
    range(0x0300, 0x0370),
    range(0x0591, 0x05C8),
    range(0x064B, 0x0660),
    range(0x0670, 0x0671),
    range(0x1AB0, 0x1B00),
    range(0x1DC0, 0x1E00),
    range(0x20D0, 0x2100),
    range(0xFE00, 0xFE10),
    range(0xFE20, 0xFE30),
    range(0xE0100, 0xE01F0),
)  # of scripts that are read without them
_CAPITALS = (0x1F150, 0x1F170, 0x1F1E6)  # in circles, squares, flags: NFKD knows no letter of them
_VOICED = "\u3099\u309a\uff9e\uff9f"  # marks of kana
_UNSPACED = (
    range(0x0E00, 0x0F00),
    range(0x1000, 0x10A0),
    range(0x1780, 0x1800),
)  # Thai, Lao, Burmese, Khmer


class Kind(IntEnum):
    """What a character does in a text."""

    LETTER = 0
    IGNORED = 1
    SOFT = 2
    SPACE = 3
    OTHER = 4  # ends a word


@dataclass(frozen=True, slots=True)
class Sign:
    """One character. `readings`: the letters that it may stand for, itself first.

    `unspaced`: words of its script stand without spaces. `clings`: it belongs to the character
    before it. `inner`: its readings count only between letters. `digit`: the readings after the
    first are of a digit, and no word is made of such alone. `period`: it may stand between letters,
    but not between the words of a phrase.
    """

    kind: Kind
    readings: tuple[str, ...] = ()
    unspaced: bool = False
    clings: bool = False
    inner: bool = False
    digit: bool = False
    period: bool = False


def _sign(character: str) -> Sign:
    """Look a character up; see `SIGN_OF`, which keeps it."""
    if character.isspace():
        return Sign(Kind.SPACE)
    letters = _letters(character)
    if letters in LEET:
        return Sign(Kind.LETTER, (letters, *LEET[letters]), digit=True)
    if letters in INNER_SIGNS:
        return Sign(Kind.OTHER, tuple(INNER_SIGNS[letters]), inner=True)
    if letters in SIGNS:
        return Sign(Kind.OTHER, (SIGNS[letters],))
    found = "".join(one for one in letters if one.isalnum() or unicodedata.category(one)[0] == "M")
    if found:
        clings = unicodedata.category(found[0])[0] == "M"
        return Sign(Kind.LETTER, (found,), unspaced=_stands_alone(character), clings=clings)
    if not letters or unicodedata.category(character) == "Cc":
        return Sign(Kind.IGNORED)
    return Sign(Kind.SOFT if letters in SOFT else Kind.OTHER, period=letters == ".")


def _letters(character: str) -> str:
    """What is left of a character: small, without marks, look-alikes told."""
    code = ord(character)
    for first in _CAPITALS:
        if first <= code < first + 26:
            return chr(ord("a") + code - first)
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    kept = (one for one in folded if one not in _BLANK and not _is_mark(one))
    return "".join(LOOK_ALIKES.get(one, one) for one in kept)


def _is_mark(character: str) -> bool:
    code = ord(character)
    return unicodedata.category(character) == "Cf" or any(code in marks for marks in _MARKS)


def _stands_alone(character: str) -> bool:
    return (
        is_unspaced(character)
        or character in _VOICED
        or any(ord(character) in scripts for scripts in _UNSPACED)
    )


class _Signs(dict[str, Sign]):
    """The signs of characters, each looked up once."""

    def __missing__(self, character: str) -> Sign:
        found = self[character] = _sign(character)
        return found


SIGN_OF = _Signs()


def folded(text: str) -> str:
    """A text as an exact phrase is compared: NFKC and without case, but with its marks.

    White space of any kind and length is one space.
    """
    found = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(found.split())
