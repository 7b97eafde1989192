"""Finds phrases in a text that comes piece by piece, and says up to where it is clear.

Each place where a phrase may begin starts a path through the tree of phrases; paths that spell no
phrase end at once. So the time is at most the length of the text times that of the longest phrase,
whatever the text is. A path is dropped, too, when a text has more than `EXTRA` characters beside
the phrase's letters: a text is held back by no more than `PhraseTree.held` characters.

What a path allows, between two letters of a phrase:
- marks and characters without width;
- a repeated letter, if the text has it three times or more (`baaad`, but not `god` for `good`);
- up to three soft signs (`b-a.d`);
- one white space or more if every letter stands alone (`b a d`), in phrases of three or more.
Between two words: any white space and soft signs but periods. Around a phrase: no letter or digit,
but where the script has no spaces between words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gptcli.moderation.phrases import EXTRA, GAP, Node, Phrase, PhraseTree
from gptcli.moderation.spelling import SIGN_OF, Kind, Sign, folded

REPEATED = 3  # times of a letter, from which on more of them mean nothing
MAX_SIGNS = 3  # soft signs between two letters
MIN_SPELLED = 3  # letters of a phrase that may be spelled with spaces, in scripts that have some


class PhraseMatch(NamedTuple):
    """A phrase in a text: `text[start:end]`. A negative start is in what came before.

    `known`: how much of the text was read when it was found.
    """

    start: int
    end: int
    phrase: Phrase
    known: int = 0


class _Path(NamedTuple):
    """A phrase that may be under way."""

    node: Node
    start: int
    end: int  # after the last letter and its marks
    run: int = 1  # times that the last letter stands in a row
    stayed: bool = False  # whether one of them was passed over
    piece: int = 1  # letters since the last separator
    single: bool = True  # whether every piece before this one was one letter
    spelled: bool = False  # whether white space was passed over
    separators: int = 0  # since the last letter
    extra: int = 0
    real: bool = False  # whether not all are digits that stand for letters
    firm: bool = True  # whether the last letter can end a phrase

    @property
    def complete(self) -> bool:
        """Whether a phrase ends here, if the text has a border."""
        return bool(
            self.node.phrases
            and not self.separators
            and self.real
            and self.firm
            and (not self.stayed or self.run >= REPEATED)
            and (not self.spelled or self._spells())
        )

    def _spells(self) -> bool:
        return self.piece == 1 and (self.node.unspaced or self.node.letters >= MIN_SPELLED)

    @property
    def key(self) -> tuple[object, ...]:
        """What paths have in common that will go the same way."""
        run = min(self.run, REPEATED)
        alone = self.single and self.piece == 1
        return id(self.node), run, self.stayed, alone, self.spelled, self.separators, self.real


class Scanner:
    """Reads one text. `before` is what stands before it: a phrase may begin there."""

    def __init__(self, tree: PhraseTree, before: str = "") -> None:
        self._root, self._paths = tree.root, list[_Path]()
        self._at_border = True
        self._exact = tree.exact
        self._kept, self._kept_from = "", 0  # the last characters, for exact phrases
        self._held = tree.held
        self.found: list[PhraseMatch] = []  # in the order of their ends
        before = before[-tree.held :] if tree.held else ""
        self._place = -len(before)
        for _ in self.feed(before):
            pass
        self.found.clear()

    @property
    def clear(self) -> int:
        """The place in the text before which no phrase can begin that is not found yet."""
        return max(min((path.start for path in self._paths), default=self._place), 0)

    def feed(self, text: str) -> list[PhraseMatch]:
        """Read on; gives what was found now."""
        known = len(self.found)
        if self._exact:
            self._kept = self._kept[-self._held :] + text
            self._kept_from = self._place + len(text) - len(self._kept)
        for character in text:
            sign = SIGN_OF[character]
            if sign.kind is Kind.LETTER:
                if self._paths or self._at_border or sign.unspaced:
                    self._letter(sign)
                self._at_border = sign.unspaced
            elif sign.kind is Kind.IGNORED:
                if self._paths:
                    self._ignored()
            else:
                if self._paths or sign.readings:
                    self._separator(sign)
                self._at_border = True
            self._place += 1
        return self.found[known:]

    def finish(self) -> list[PhraseMatch]:
        """The text ends here; gives what was found by that."""
        known = len(self.found)
        for path in self._paths:
            self._take(path)
        self._paths = []
        return self.found[known:]

    def _take(self, path: _Path) -> None:
        """Note what ends with a path."""
        if path.complete and path.end > 0:
            for phrase in path.node.phrases:
                if not phrase.exact or self._is_exact(phrase, path):
                    self.found.append(PhraseMatch(path.start, path.end, phrase, self._place))
                    return

    def _is_exact(self, phrase: Phrase, path: _Path) -> bool:
        first = self._kept_from
        return folded(self._kept[path.start - first : path.end - first]) == phrase.text

    def _letter(self, sign: Sign) -> None:
        if not sign.clings:
            for path in self._paths:
                if sign.unspaced or path.node.unspaced:
                    self._take(path)
        begins = not sign.clings and (self._at_border or sign.unspaced)
        self._paths = _distinct(self._steps(sign, begins))

    def _steps(self, sign: Sign, begins: bool) -> Iterator[_Path]:
        """The paths after a letter."""
        here, after = self._place, self._place + 1
        for number, reading in enumerate(sign.readings):
            real = not (sign.digit and number)
            paths = self._paths
            if begins and not sign.inner:
                paths = [*paths, _Path(self._root, here, here, run=0, piece=0)]
            for letter in reading:
                paths = [new for path in paths for new in _read(path, letter)]
            for path in paths:
                yield path._replace(end=after, real=path.real or real, firm=not sign.inner)

    def _ignored(self) -> None:
        self._paths = [
            path._replace(
                end=path.end if path.separators else self._place + 1, extra=path.extra + 1
            )
            for path in self._paths
            if path.extra < EXTRA
        ]

    def _separator(self, sign: Sign) -> None:
        for path in self._paths:
            self._take(path)
        read = list(self._steps(sign, self._at_border)) if sign.readings else []
        if sign.kind is not Kind.OTHER:
            read += [new for path in self._paths for new in _passed(path, sign)]
        self._paths = _distinct(read)


def _distinct(paths: Iterator[_Path] | list[_Path]) -> list[_Path]:
    """Of paths that will go the same way the one that began first."""
    kept: dict[tuple[object, ...], _Path] = {}
    for path in paths:
        key = path.key
        if key not in kept or path.start < kept[key].start:
            kept[key] = path
    return list(kept.values())


def _read(path: _Path, letter: str) -> Iterator[_Path]:
    """Where a path leads by a letter."""
    piece = 1 if path.separators else path.piece + 1
    if path.spelled and piece > 1:
        return
    same = letter == path.node.letter
    child = path.node.children.get(letter)
    if child is not None and (same or not path.stayed or path.run >= REPEATED):
        yield path._replace(
            node=child,
            run=path.run + 1 if same else 1,
            stayed=path.stayed and same,
            piece=piece,
            separators=0,
        )
    if same and path.extra < EXTRA:
        yield path._replace(
            run=path.run + 1, stayed=True, piece=piece, separators=0, extra=path.extra + 1
        )


def _passed(path: _Path, sign: Sign) -> Iterator[_Path]:
    """Where a path leads by a separator."""
    soft = sign.kind is Kind.SOFT
    if path.extra >= EXTRA:
        return
    single = path.single and path.piece == 1
    on = path._replace(single=single, separators=path.separators + 1, extra=path.extra + 1)
    if path.node.letter == GAP:  # more of it
        if not sign.period:
            yield on
        return
    first = not path.separators and not sign.period
    gap = path.node.children.get(GAP) if first else None
    if gap is not None and path.firm and (not path.stayed or path.run >= REPEATED):
        yield on._replace(node=gap, run=0, stayed=False)
    if path.spelled and not single:
        return
    if soft and path.separators < MAX_SIGNS:
        yield on
    elif not soft and single:
        yield on._replace(spelled=True)
