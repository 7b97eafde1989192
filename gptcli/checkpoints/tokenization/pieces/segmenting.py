"""Cut a normalized text into pieces exactly as the sentencepiece package does.

Each algorithm gives pieces as (end, id), one behind the other. The likeliest cut of a unigram model
is found with the roundings of the package since 0.2.2: sums of scores have 32 bits, so that of
equal cuts the same one is taken, also far into a long text. (Before, they were compared in 64.)
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from gptcli.checkpoints.tokenization.pieces.model import (
    BPE,
    IN_TEXTS,
    NORMAL,
    UNIGRAM,
    UNUSED,
    USER_DEFINED,
    WORD,
    PieceModel,
)
from gptcli.checkpoints.tokenization.pieces.normalizing import Symbols
from gptcli.checkpoints.tokenization.text.marks import SPACE

Cut = list[tuple[int, int]]  # where each piece ends, and its id
Segmenter = Callable[[str], Cut]
_SMALLEST = 2.0**-126  # the smallest normal number of 32 bits: FLT_MIN
_PENALTY = 10.0  # of an unknown character, below the lowest score


def segmenter(model: PieceModel) -> Segmenter:
    """The function that cuts a text into a model's pieces."""
    if model.algorithm == UNIGRAM:
        return _Unigram(model)
    symbols = Symbols(model.texts[id] for id in model.of_kind(USER_DEFINED))
    if model.algorithm == BPE:
        return _Merges(model, symbols)
    ids = {text: id for id, text in enumerate(model.texts)}
    step = _word if model.algorithm == WORD else symbols.at
    return _Steps(ids, model.unknown, step)


def _single(number: float) -> float:
    return array("f", (number,))[0]


class _Unigram:
    """The cut whose pieces' scores have the largest sum."""

    def __init__(self, model: PieceModel) -> None:
        self._unknown = model.unknown
        normal = [model.scores[id] for id in model.of_kind(NORMAL)] or [0.0]
        self._unknown_score = _single(min(normal) - _PENALTY)
        largest = max(_SMALLEST, *normal)
        self._ids: dict[str, int] = {}
        self._scores: dict[str, float] = {}
        lengths: dict[str, set[int]] = {}  # of the pieces that begin with two characters
        for id in model.of_kind(NORMAL, USER_DEFINED):
            text = model.texts[id]
            self._ids[text], self._scores[text] = id, model.scores[id]
            if model.kinds[id] == USER_DEFINED:  # nearly always taken
                self._scores[text] = _single(len(text.encode()) * largest) - 0.1
            if len(text) > 1:
                lengths.setdefault(text[:2], set()).add(len(text))
        self._lengths = {begin: tuple(sorted(found)) for begin, found in lengths.items()}

    def __call__(self, text: str) -> Cut:
        starts = self._starts(text)
        found: Cut = []
        end = len(text)
        while end:
            start = starts[end]
            found.append((end, self._ids.get(text[start:end], self._unknown)))
            end = start
        return found[::-1]

    def _starts(self, text: str) -> list[int]:
        """Where the last piece of the best cut of each beginning of the text starts."""
        scores, all_lengths, unknown = self._scores, self._lengths, self._unknown_score
        starts = [-1] * (len(text) + 1)
        best = array("f", bytes(4 * len(starts)))  # rounds what it is given
        rounded = array("f", (0.0,))
        for start, character in enumerate(text):
            so_far, end = best[start], start + 1
            score = scores.get(character)
            if score is None:
                score = unknown
            rounded[0] = score + so_far
            total = rounded[0]
            if starts[end] < 0 or total > best[end]:
                best[end], starts[end] = total, start
            for length in all_lengths.get(text[start : start + 2], ()):
                end = start + length
                score = scores.get(text[start:end])
                if score is not None:
                    rounded[0] = score + so_far
                    total = rounded[0]
                    if end < len(starts) and (starts[end] < 0 or total > best[end]):
                        best[end], starts[end] = total, start
        return starts


class _Merges:
    """Characters merged pair by pair, the pair of the highest score first (BPE)."""

    def __init__(self, model: PieceModel, symbols: Symbols) -> None:
        self.symbols, self._unknown = symbols, model.unknown
        self._all = {text: id for id, text in enumerate(model.texts)}
        self.scores = {model.texts[id]: model.scores[id] for id in model.of_kind(*IN_TEXTS)}
        self.unused = frozenset(model.texts[id] for id in model.of_kind(UNUSED))

    def __call__(self, text: str) -> Cut:
        merging = _Merging(self, text)
        merging.run()
        found: Cut = []
        open_pieces = [(start, end) for start, end in enumerate(merging.ends) if end > 0][::-1]
        while open_pieces:
            start, end = open_pieces.pop()
            piece = text[start:end]
            half = merging.halves.get(piece)
            if half is None:
                found.append((end, self._all.get(piece, self._unknown)))
            else:
                open_pieces += [(start + half, end), (start, start + half)]
        return found


class _Merging:
    """One text while its pieces are merged. Pieces are known by where they start."""

    def __init__(self, merges: _Merges, text: str) -> None:
        self._merges, self._text = merges, text
        self.ends = [-1] * len(text)  # -1 inside a piece
        self.halves: dict[str, int] = {}  # unused pieces, and where they fall apart again
        self._before = [-1] * len(text)
        self._frozen = bytearray(len(text))
        place, last = 0, -1
        while place < len(text):
            length = merges.symbols.at(text, place)
            self._frozen[place] = length > 0
            self.ends[place], self._before[place] = place + (length or 1), last
            place, last = self.ends[place], place

    def run(self) -> None:
        """Merge until nothing can be merged."""
        ends, before = self.ends, self._before
        agenda = [pair for place, left in enumerate(before) for pair in self._pair(left, place)]
        heapify(agenda)
        while agenda:
            _, left, middle, end = heappop(agenda)
            if ends[left] != middle or ends[middle] != end:
                continue  # one of the two has been merged with another since
            ends[left], ends[middle] = end, -1
            if end < len(before):
                before[end] = left
            for pair in (*self._pair(before[left], left), *self._pair(left, end)):
                heappush(agenda, pair)

    def _pair(self, left: int, middle: int) -> list[tuple[float, int, int, int]]:
        """Two neighbours, if they can be merged; the first of all is the one to merge."""
        merges = self._merges
        if left < 0 or middle == len(self._text) or self._frozen[left] or self._frozen[middle]:
            return []
        end = self.ends[middle]
        piece = self._text[left:end]
        if piece not in merges.scores:
            return []
        if piece in merges.unused:
            self.halves[piece] = middle - left
        return [(-merges.scores[piece], left, middle, end)]


class _Steps:
    """Pieces that are found one by one: words, or characters and symbols."""

    def __init__(
        self, ids: dict[str, int], unknown: int, length: Callable[[str, int], int]
    ) -> None:
        self._ids, self._unknown, self._length = ids, unknown, length

    def __call__(self, text: str) -> Cut:
        found: Cut = []
        place = 0
        while place < len(text):
            end = place + (self._length(text, place) or 1)
            found.append((end, self._ids.get(text[place:end], self._unknown)))
            place = end
        return found


def _word(text: str, place: int) -> int:
    """How many characters stand up to the next word, which begins with its space."""
    end = text.find(SPACE, place + 1)
    return (len(text) if end < 0 else end) - place
