"""Speculative decoding: guess the next tokens cheaply, check them all in one step.

A step reads every weight whether it runs one token or five, so tokens that were guessed right cost
little. What is kept of a guess is what would have been written without it: at each place the row
samples as ever, with its own key, from the model's own logits; the guess only has to equal it. For
greedy decoding that is the usual rule; for sampling it accepts a fixed guess x with the model's own
probability p(x), as rejection sampling does (Leviathan et al. 2023, arXiv 2211.17192; Chen et al.
2023, arXiv 2302.01318), and in addition leaves every text what its seed makes it (drafter-invariant
coupling: Daliri et al. 2024, arXiv 2408.07978).

Guesses come from the text itself (prompt lookup: Saxena 2023) or from a smaller model
(`gptcli.engines.gpt2.draft_model`). How many to make is decided by what came true so far.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary

from gptcli.engines.decoding.sequence import Sequence

GRAMS = 3, 2  # tokens that must have stood together before; the longest that did is followed
LONGEST = 12  # tokens guessed at once
FADE = 0.95  # how much of its experience a row keeps from step to step
# What a step costs beside its tokens, in tokens: reading the weights. Two-core CPU, 124M, 16 bits:
# one row takes 9.5 ms, each further one 1.2 ms. A GPU has more arithmetic to spare.
FIXED = {"cpu": 7.0}
FIXED_ELSEWHERE = 100.0


class Drafter(Protocol):
    """Something that guesses the next tokens of sequences."""

    cost: float
    """What a guessed token costs, as a share of a step of the model."""

    def guess(self, rows: list[Sequence], sizes: list[int]) -> list[list[int]]:
        """At most sizes[i] tokens for each row; none where nothing comes to mind."""
        ...


class NgramDrafter:
    """Guesses what followed the last time that the text ended as it does now."""

    cost = 0.0

    def __init__(self) -> None:
        self._indices: WeakKeyDictionary[Sequence, _Index] = WeakKeyDictionary()

    def guess(self, rows: list[Sequence], sizes: list[int]) -> list[list[int]]:
        """See `Drafter.guess`."""
        return [
            self._indices.setdefault(row, _Index()).follow(row, size)
            for row, size in zip(rows, sizes, strict=True)
        ]


class _Index:
    """Where each n-gram of one sequence was followed by something, the last time it stood there."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}

    def follow(self, row: Sequence, size: int) -> list[int]:
        """The `size` tokens that followed, read on into themselves where the text ends."""
        self._read(row)
        tokens = self._tokens
        for length in GRAMS:
            place = self._places.get(tuple(tokens[-length:]))
            if place is not None:
                period = len(tokens) - place
                return [tokens[place + step % period] for step in range(size)]
        return []

    def _read(self, row: Sequence) -> None:
        """Take up what was written since the last time."""
        prompt = row.encoded.prompt_ids
        known = len(self._tokens)
        new = prompt[known:] + tuple(row.tokens[max(known - len(prompt), 0) :])
        for token in new:
            place = len(self._tokens)
            for length in GRAMS:
                if length <= place:
                    self._places[tuple(self._tokens[place - length :])] = place
            self._tokens.append(token)


class DraftLength:
    """How many tokens to guess for each row, learnt from what came true."""

    def __init__(self, drafter: Drafter, device: str) -> None:
        self._drafter = drafter
        self._fixed = FIXED.get(device, FIXED_ELSEWHERE)
        self._records: WeakKeyDictionary[Sequence, _Record] = WeakKeyDictionary()

    def drafts(self, rows: list[Sequence], context: int) -> dict[Sequence, list[int]]:
        """The guesses for each row, where there are any; `context`: tokens a row can have."""
        sizes = {row: self._size(row, len(rows), context) for row in rows}
        asked = [row for row in rows if sizes[row] > 0]
        guesses = self._drafter.guess(asked, [sizes[row] for row in asked]) if asked else []
        return {row: guess for row, guess in zip(asked, guesses, strict=True) if guess}

    def _size(self, row: Sequence, rows: int, context: int) -> int:
        """How many tokens to guess for one of `rows` rows, by what its guesses were worth."""
        record = self._records.setdefault(row, _Record())
        record.fade()
        limit = min(LONGEST, row.encoded.room - len(row.tokens) - 1, context - row.length)
        return best_size(record.accepting, rows, limit, self._fixed, self._drafter.cost)

    def learn(self, row: Sequence, guessed: int, right: int) -> None:
        """Record that the first `right` of so many guessed tokens came true."""
        self._records[row].add(guessed, right)


class _Record:
    """How often one row's guesses came true; what is long ago counts less."""

    def __init__(self) -> None:
        self._right = self._tried = 0.0

    @property
    def accepting(self) -> float:
        """The chance that the next guessed token comes true; one half where nothing is known."""
        return (self._right + 1) / (self._tried + 2)

    def fade(self) -> None:
        self._right *= FADE
        self._tried *= FADE

    def add(self, guessed: int, right: int) -> None:
        self._right += right
        self._tried += min(guessed, right + 1)  # those behind the first wrong one were not tried


def best_size(chance: float, rows: int, limit: int, fixed: float, cost: float) -> int:
    """How many tokens to guess for one of `rows` rows so that most tokens come in a second.

    `chance`: that a guessed token comes true, each like the one before; `fixed` and `cost`: see
    FIXED and `Drafter.cost`. With k guesses a step writes (1 - chance**(k+1)) / (1 - chance) tokens
    of the row (Leviathan et al. 2023, equation 1) and takes fixed + rows + k (1 + cost * fixed).
    """
    best, best_rate, expected = 0, rows / (fixed + rows), 1.0
    for size in range(1, limit + 1):
        expected += chance**size
        rate = (rows - 1 + expected) / (fixed + rows + size * (1 + cost * fixed))
        if rate <= best_rate:
            break
        best, best_rate = size, rate
    return best
