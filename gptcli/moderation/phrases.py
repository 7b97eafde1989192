"""Phrases, and the tree of their letters.

A phrase is words of letters. In the tree a gap between two words is a step of its own, `GAP`. How a
text may spell the letters is in `gptcli.moderation.spelling`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gptcli.errors import BadInput
from gptcli.moderation.spelling import SIGN_OF, Kind, folded

GAP = " "
EXTRA = 64  # characters of a text that a match may have beside its letters
MAX_LETTERS = 200


@dataclass(frozen=True, slots=True)
class Phrase:
    """One phrase of a list; `entry` is its line there.

    `letters`: as the tree has them. `exact`: only the same characters match, whatever their case;
    then `text` is what they are compared with.
    """

    text: str
    letters: str
    list: str
    entry: int
    language: str | None = None
    exact: bool = False


def phrase(
    text: str, list: str, entry: int, language: str | None = None, exact: bool = False
) -> Phrase:
    """A phrase of a text. Raises BadInput for one that has no letters, or too many."""
    letters = _letters(text)
    bare = letters.replace(GAP, "")
    alone = any(SIGN_OF[one].unspaced for one in bare)
    what = f"filter {list}: line {entry}"
    hint = "Give a word or a phrase of 2 letters or more."
    if len(bare) < 2 and not (alone and bare):
        raise BadInput(what, "it has fewer than 2 letters", hint)
    if len(letters) > MAX_LETTERS:
        raise BadInput(what, f"it has more than {MAX_LETTERS} letters", "Shorten it.")
    return Phrase(folded(text) if exact else text, letters, list, entry, language, exact)


def _letters(text: str) -> str:
    """The letters of a phrase, and a gap where it has white space."""
    found: list[str] = []
    for character in text:
        sign = SIGN_OF[character]
        if sign.kind is Kind.SPACE:
            found.append(GAP)
        elif sign.readings and (not sign.inner or sign.readings == ("'",)):
            found.append(sign.readings[0])
    words = (word.strip("'") for word in "".join(found).split(GAP))
    return GAP.join(filter(None, words))


class Node:
    """A place in the tree: what was read up to it, and what may come."""

    __slots__ = ("children", "letter", "letters", "phrases", "unspaced")

    def __init__(self, letter: str, letters: int) -> None:
        self.children: dict[str, Node] = {}
        self.letter, self.letters = letter, letters
        self.unspaced = letter != "" and SIGN_OF[letter].unspaced
        self.phrases: tuple[Phrase, ...] = ()  # that end here


@dataclass(frozen=True)
class PhraseTree:
    """All phrases; `held`: how many characters of a text a match can have, at most."""

    phrases: tuple[Phrase, ...]
    root: Node = field(default_factory=lambda: Node("", 0))
    held: int = 0
    exact: bool = False  # whether any phrase is

    @classmethod
    def of(cls, phrases: Iterable[Phrase]) -> PhraseTree:
        """The tree of some phrases; the first of several with the same letters counts."""
        kept = tuple(phrases)
        longest = max((len(one.letters) for one in kept), default=0)
        exact = any(one.exact for one in kept)
        tree = cls(kept, held=longest + EXTRA if kept else 0, exact=exact)
        for one in kept:
            tree._add(one)
        return tree

    def _add(self, phrase: Phrase) -> None:
        node = self.root
        for letter in phrase.letters:
            if letter not in node.children:
                node.children[letter] = Node(letter, node.letters + (letter != GAP))
            node = node.children[letter]
        if all(one.exact for one in node.phrases):
            node.phrases = (*node.phrases, phrase)
