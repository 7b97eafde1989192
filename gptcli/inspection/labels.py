"""A token's text as a label: one line, every character visible, of a known width.

In a table or a plot a token must show what it is made of (a space, a line break, half of a
character) and must not reach beyond its place: combining marks and bidirectional controls would
change what stands beside them.
"""

from __future__ import annotations

from collections.abc import Callable

from gptcli.checkpoints.tokenization.parts import Part
from gptcli.inspection.tokens import escaped
from gptcli.inspection.views import TokenView
from gptcli.system.text.characters import cut, filled

SPACE, BREAK, TAB = "\u2423", "\u21b5", "\u21e5"  # open box, return arrow, tab arrow
BLANK_SIGNS = {" ": SPACE, "\n": BREAK, "\t": TAB}
PART = "\u00b7"  # between a character and which part of it is meant
ELLIPSIS = "\u2026"
# Format characters, controls, unassigned ones, surrogates, private ones, separators but the space.
HIDDEN_CATEGORIES = {"Cf", "Cc", "Cn", "Cs", "Co", "Zl", "Zp", "Zs"}
MARK_CATEGORIES = {"Mn", "Me", "Mc"}


def label(token: TokenView) -> str:
    """A token as one line.

    A token that shares a character is shown as that character and its part, as 漢·1/3; one that
    stands for what the vocabulary lacks as what that is, as 龘·[UNK]. Bytes that belong to no known
    character are shown as escapes.
    """
    if token.unknown and token.surface.strip():
        return f"{visible(token.surface.strip())}{PART}{visible(token.text)}"
    if any(part.of > 1 for part in token.parts):
        return "".join(map(_part, token.parts))
    return visible(token.text) if whole(token) else escaped(token.raw)


def _part(part: Part) -> str:
    number = f"{PART}{part.number}/{part.of}" if part.of > 1 else ""
    return visible(part.text) + number


def visible(text: str) -> str:
    """A text as one line: blanks as signs, what has no picture as its code point.

    A combining mark stays with the letter before it; without one it is a code point too.
    """
    import unicodedata  # its tables take a tenth of a second

    shown, after_letter = [], False
    for character in text:
        kind = unicodedata.category(character)
        if character in BLANK_SIGNS:
            shown.append(BLANK_SIGNS[character])
        elif kind in HIDDEN_CATEGORIES or (kind in MARK_CATEGORIES and not after_letter):
            shown.append(_code(character))
        else:
            shown.append(character)
        after_letter = kind[0] == "L" or (after_letter and kind in MARK_CATEGORIES)
    return "".join(shown)


def title(text: str) -> str:
    """As `visible`, with spaces as they are: for a name in a sentence."""
    return " ".join(map(visible, text.split(" ")))


def fitted(text: str, columns: int) -> str:
    """A `visible` text cut or filled to exactly so many columns."""
    return filled(cut(text, columns, ELLIPSIS), columns)


def _code(character: str) -> str:
    code = ord(character)
    form: Callable[[int], str] = "\\x{:02x}".format if code < 0x100 else "\\u{:04x}".format
    return form(code)


def whole(token: TokenView) -> bool:
    """Whether the token's text is all of it: no part of a character."""
    if "\ufffd" not in token.text:
        return True
    try:
        return token.raw.decode("utf-8") == token.text  # the text holds this very character
    except UnicodeDecodeError:
        return False
