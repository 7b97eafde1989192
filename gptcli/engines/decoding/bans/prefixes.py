"""Which tokens begin with a text, or have it inside: sorted once, then found by bisection.

The texts are marked, see `borders`. A token may be the last of the text, so its own text ends with
a border where it ends in a word.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from gptcli.engines.decoding.bans.borders import BORDER, SPACE, WORD, is_word

_AFTER = "\U0010ffff"  # sorts behind every text
# Before and behind a token's id; in no marked text, where both would be a space.
_GAP, _END = "\n", "\r"


class TokenIndex:
    """Marked texts of tokens, to be asked for those that would complete a banned form."""

    def __init__(self, texts: Iterable[tuple[str, int]]) -> None:
        own = [f"{text}{_GAP}{id}" for text, id in texts if text]
        self._own = _sorted(own)
        self._inner = _sorted(
            [
                part
                for text in own
                if text.find(BORDER, 2 if text[0] == " " else 1, text.rfind(BORDER)) > 0
                for part in _words_inside(text)
            ]
        )
        self._joined = _Joined(self._own)

    def containing(self, form: str) -> Iterator[int]:
        """The tokens that have a whole form inside, behind their beginning."""
        if form[0] != BORDER:
            yield from self._joined.containing(form)
            return
        yield from _with_prefix(self._own, f" {form}")
        yield from _with_prefix(self._inner, form)

    def completing(self, rest: str, kind: str) -> Iterator[int]:
        """The tokens that begin with the rest of a form, after a character of some kind.

        A rest that is only the border behind a word is none: the word is there already.
        """
        if rest[0] == BORDER:
            rest = rest[1:]
            if not rest or is_word(rest[0]) == (kind == WORD):
                return
            own = rest
            spaced = f" {BORDER}{rest}"
        else:
            own, spaced = rest, f" {rest}"
        yield from _with_prefix(self._own, own)
        if kind == SPACE:
            yield from _with_prefix(self._own, spaced)


class _Joined:
    """All texts in one, for forms that begin at any place."""

    def __init__(self, own: list[str]) -> None:
        self._own = own
        self._wholes: dict[bool, str] = {}

    def containing(self, form: str) -> Iterator[int]:
        whole = self._whole(form.isascii())
        at = whole.find(form)
        while at >= 0:
            end = whole.index(_END, at)
            yield int(whole[whole.index(_GAP, at) + 1 : end])
            at = whole.find(form, end)

    def _whole(self, ascii: bool) -> str:
        """The texts; of a vocabulary few are not of ASCII."""
        if ascii not in self._wholes:
            few = (text for text in self._own if ascii or not text.isascii())
            self._wholes[ascii] = "".join(f"{text}{_END}" for text in few)
        return self._wholes[ascii]


def _words_inside(text: str) -> Iterator[str]:
    """The ends of a text that begin with a word, but not at its beginning or behind one space."""
    at = text.find(BORDER, 2 if text[0] == " " else 1)
    while at >= 0:
        if is_word(text[at + 1]):
            yield text[at:]
        at = text.find(BORDER, at + 1)


def _sorted(texts: list[str]) -> list[str]:
    """In order; quickly, as Python compares texts of ASCII among themselves."""
    plain = sorted(text for text in texts if text.isascii())
    return sorted(plain + sorted(text for text in texts if not text.isascii()))


def _with_prefix(texts: list[str], prefix: str) -> Iterator[int]:
    low = bisect_left(texts, prefix)
    for text in texts[low : bisect_left(texts, prefix + _AFTER, low)]:
        yield int(text[text.rindex(_GAP) + 1 :])
