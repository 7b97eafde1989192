"""All phrases in a text that is there as a whole, at the speed of Python's own loops in C.

Most words of a text begin no phrase. So a text is cut into blocks, each block into its different
chunks between white space, and each chunk is looked at once: whether it can hold the longest word
of any phrase, in any spelling. Around those that can, and where letters stand one by one, a
`Scanner` reads what is really there. The answer is that of a `Scanner` over the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

from gptcli.moderation.phrases import GAP, MAX_LETTERS, PhraseTree
from gptcli.moderation.scanner import PhraseMatch, Scanner
from gptcli.moderation.spelling import INNER_SIGNS, LEET, SIGN_OF, SIGNS, Kind, Sign

BLOCK = 1 << 16  # characters
MAX_KNOWN = 500_000  # chunks that are kept
FEW = 64  # chunks that are looked for one by one
MAX_PIECES = 5  # of a chunk that is looked at closely
_ONE = rf"(?:[^\W_]|[{re.escape(''.join((*SIGNS, *INNER_SIGNS)))}])"
_SPELLED = re.compile(rf"(?<![^\W_]){_ONE}[\W_]+{_ONE}[\W_]+{_ONE}(?![^\W_])")
"""Three letters that stand alone, or more than that."""
_SIGN = re.compile(r"[^\W_]!+[^\W_]|[^\W\d_]\$|\$[^\W\d_]|[$!][$!]")
_REPEATED = re.compile(r"(.)\1+")
_LETTERS = {digit: letters[0] for digit, letters in LEET.items()} | {"l": "i"}


_ALONE = ""  # a phrase of one word has nothing beside it
BESIDE = 160  # characters around an anchor in which the next word is looked for
_CHUNK = re.compile(rf"\S*{_ONE}\S*")
_WHOLE = re.compile(r"\S+")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class _Around:
    """How many words of a phrase stand before its longest one, and after it, at most."""

    before: int
    after: int

    def most(self, other: _Around) -> _Around:
        """Enough for both."""
        return _Around(max(self.before, other.before), max(self.after, other.after))


_NOTHING = _Around(0, 0)
_EVERYTHING = _Around(MAX_LETTERS, MAX_LETTERS)


class Matcher:
    """Finds the phrases of a tree in whole texts. It keeps what it learned of chunks."""

    def __init__(self, tree: PhraseTree) -> None:
        self.tree = tree
        self._table = _Coarse()
        self._anchors: dict[str, _Around] = {}
        self._most = _Around(0, 0)
        self._any_unspaced = False
        self._near: dict[str, set[str]] = {}  # of an anchor: words of its phrases beside it
        for one in tree.phrases:
            self._add(one.letters)
        self._words: dict[str, set[str] | None] = {}  # what chunks can be, beside an anchor
        self._clear: set[str] = set()  # chunks that can hold no anchor
        # The others: what may be around them, and what they hold if that is nothing.
        self._suspects: dict[str, tuple[_Around, list[PhraseMatch]]] = {}

    def _add(self, letters: str) -> None:
        self._any_unspaced |= any(SIGN_OF[letter].unspaced for letter in letters)
        words = letters.replace("'", GAP).split(GAP)
        place = words.index(max(words, key=len))
        key, around = self._key(words[place]), _Around(place, len(words) - place - 1)
        self._anchors[key] = around.most(self._anchors.get(key, around))
        self._most = self._most.most(around)
        beside = words[place - 1] if place else words[1] if len(words) > 1 else _ALONE
        self._near.setdefault(key, set()).add(self._key(beside))

    def find(self, text: str) -> list[PhraseMatch]:
        """The phrases of a text from left to right, without those inside another one."""
        if not self.tree.phrases:
            return []
        found: list[PhraseMatch] = []
        for start, end in _joined(self._places(text, found)):
            found += self._read(text, start, end)
        return outermost(found)

    def _read(self, text: str, start: int = 0, end: int | None = None) -> list[PhraseMatch]:
        scanner = Scanner(self.tree)
        scanner.feed(text[start:end])
        scanner.finish()
        return [
            PhraseMatch(one.start + start, one.end + start, one.phrase) for one in scanner.found
        ]

    def _places(self, text: str, found: list[PhraseMatch]) -> Iterator[tuple[int, int]]:
        """Where something may be, with what it may have around it, in their order.

        What chunks hold by themselves is put to `found`.
        """
        start, held = 0, self.tree.held
        while start < len(text):
            end = _space_after(text, start + BLOCK)
            block = text[start:end]
            places = []
            for match in _SPELLED.finditer(block):
                first, last = match.start() + start, match.end() + start
                places.append((_space_before(text, first - held), _space_after(text, last + held)))
            for at, chunk in _all(self._suspects_of(block), block):
                around, inside = self._suspects[chunk]
                first, last = start + at, start + at + len(chunk)
                if around == _NOTHING:
                    found += [
                        PhraseMatch(one.start + first, one.end + first, one.phrase)
                        for one in inside
                    ]
                    continue
                if self._is_alone(chunk, text, first, last):
                    continue
                first = _words_before(text, first, around.before, held)
                places.append((first, _words_after(text, last, around.after, held)))
            yield from sorted(places)
            start = end

    def _is_alone(self, chunk: str, text: str, first: int, last: int) -> bool:
        """Whether an anchor at this place has no word beside it that a phrase of it has."""
        near = self._near.get(self._key(chunk))
        if near is None or _ALONE in near or not chunk.isalpha() or self._any_unspaced:
            return False
        before, after = text[max(first - BESIDE, 0) : first], text[last : last + BESIDE]
        for word in (*before.split()[-1:], *after.split()[:1]):
            if word not in self._words:
                self._words[word] = self._words_in(word)
            found = self._words[word]
            if len(word) > BESIDE // 2 or found is None or not found.isdisjoint(near):
                return False
        return True

    def _words_in(self, chunk: str) -> set[str] | None:
        """The words that a chunk can be; None if that is not looked at."""
        coarse = chunk.translate(self._table)
        if "!" in coarse or "$" in coarse:
            return None
        found: set[str] = set()
        for word in coarse.split(GAP):
            keys = self._keys(word)
            if keys is None:
                return None
            found.update(keys)
        return found or None

    def _suspects_of(self, block: str) -> set[str]:
        """The chunks of a block that may hold an anchor."""
        if len(self._clear) + len(self._suspects) > MAX_KNOWN:
            self._clear.clear()
            self._suspects.clear()
            self._words.clear()
        chunks = set(block.split()) - self._clear
        for chunk in chunks - self._suspects.keys():
            around = self._around(chunk)
            inside = self._read(chunk) if around == _NOTHING else []
            if around is None or (around == _NOTHING and not inside):
                self._clear.add(chunk)
            else:
                self._suspects[chunk] = around, inside
        return chunks & self._suspects.keys()

    def _around(self, chunk: str) -> _Around | None:
        """How far a phrase goes on beside a chunk; None if the chunk holds no anchor."""
        coarse = chunk.translate(self._table)
        if not self._any_unspaced and coarse.isalpha():
            return self._anchors.get(self._collapsed(coarse))
        if self._any_unspaced and any(SIGN_OF[one].unspaced for one in chunk):
            return _EVERYTHING
        if ("!" in coarse or "$" in coarse) and _SIGN.search(coarse):
            return self._most
        words = coarse.replace("!", GAP).replace("$", GAP).split(GAP)
        found = [around for word in words if word for around in self._of_word(word)]
        return reduce(_Around.most, found) if found else None

    def _of_word(self, word: str) -> Iterator[_Around]:
        """The same of the pieces of a word that stand together."""
        keys = self._keys(word)
        if keys is None:
            yield self._most
            return
        yield from (self._anchors[key] for key in keys if key in self._anchors)

    def _keys(self, word: str) -> list[str] | None:
        """The keys of all pieces of a word that stand together; None if they are too many."""
        pieces = [piece for piece in word.split(".") if piece]
        if len(pieces) > MAX_PIECES:
            return None
        return [
            self._collapsed("".join(pieces[first:last]))
            for first in range(len(pieces))
            for last in range(first + 1, len(pieces) + 1)
        ]

    def _key(self, word: str) -> str:
        return self._collapsed(word.translate(self._table))

    @staticmethod
    def _collapsed(word: str) -> str:
        return _REPEATED.sub(r"\1", word)


class _Coarse(dict[int, str]):
    """For `str.translate`: a letter for all that may be spelled alike, `.` for a soft sign."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _coarse(SIGN_OF[chr(code)])
        return found


def _coarse(sign: Sign) -> str:
    if sign.kind is Kind.LETTER:
        return "".join(_LETTERS.get(letter, letter) for letter in sign.readings[0])
    if sign.kind is Kind.IGNORED:
        return ""
    if sign.kind is Kind.SOFT:
        return "."
    if sign.readings and sign.readings != ("'",):
        return "!" if sign.inner else "$"
    return GAP


def _all(chunks: set[str], block: str) -> Iterator[tuple[int, str]]:
    """Every place of some chunks in a block, between white space."""
    if len(chunks) > FEW:
        for found in _WHOLE.finditer(block):
            if found[0] in chunks:
                yield found.start(), found[0]
        return
    for chunk in chunks:
        at = block.find(chunk)
        while at >= 0:
            end = at + len(chunk)
            if (not at or block[at - 1].isspace()) and (end == len(block) or block[end].isspace()):
                yield at, chunk
            at = block.find(chunk, end)


def _joined(places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The places, those that touch as one."""
    begun = ended = -1
    for start, end in places:
        if start <= ended:
            begun, ended = min(begun, start), max(ended, end)
            continue
        if ended >= 0:
            yield begun, ended
        begun, ended = start, end
    if ended >= 0:
        yield begun, ended


def _space_after(text: str, place: int) -> int:
    """The first white space from a place on, or the end."""
    if place >= len(text):
        return len(text)
    found = _SPACE.search(text, place)
    return found.start() if found else len(text)


def _space_before(text: str, place: int) -> int:
    """The last white space before a place, or the beginning."""
    while place > 0 and not text[place].isspace():
        place -= 1
    return max(place, 0)


def _words_before(text: str, place: int, words: int, held: int) -> int:
    """Where as many words begin before a place; no more than `held` characters count."""
    if not words:
        return place
    first = max(place - held, 0)
    starts = [found.start() for found in _CHUNK.finditer(text, first, place)]
    return _space_before(text, starts[-words] if len(starts) >= words else first)


def _words_after(text: str, place: int, words: int, held: int) -> int:
    """Where as many words end after a place."""
    if not words:
        return place
    ends = [found.end() for found in _CHUNK.finditer(text, place, place + held)]
    return _space_after(text, ends[words - 1] if len(ends) >= words else place + held)


def outermost(found: Iterable[PhraseMatch]) -> list[PhraseMatch]:
    """What is not inside another one, from left to right."""
    kept: list[PhraseMatch] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if not kept or one.end > kept[-1].end:
            kept.append(one)
    return kept
