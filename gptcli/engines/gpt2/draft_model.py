"""Guesses from a smaller GPT-2 that has the same tokens.

It keeps its own KV cache, and catches up with what the model wrote before it guesses. It draws each
token with the key that the row will draw with, so where the two models agree on the distribution
they agree on the token. It pays where the model is many times its size.
"""

from __future__ import annotations

from itertools import accumulate, chain
from weakref import WeakKeyDictionary

from gptcli.engines.decoding.sampler import foreseen
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.decoding.sequence import Sequence
from gptcli.engines.gpt2.kv_cache import KVCache
from gptcli.engines.gpt2.network import forward_step
from gptcli.engines.gpt2.scheduler import common
from gptcli.engines.gpt2.weights import Weights

CATCH_UP = 256  # tokens of a prompt that are run before a guess; the rest must wait for the next


class DraftModel:
    """A GPT-2 that guesses for up to `slots` sequences; see
    `gptcli.engines.decoding.speculative.Drafter`.
    """

    def __init__(self, weights: Weights, slots: int, cost: float) -> None:
        self.cost = cost
        self._weights = weights
        self._cache = KVCache(weights.config, slots, weights.device, weights.dtype)
        self._slots: WeakKeyDictionary[Sequence, int] = WeakKeyDictionary()

    def guess(self, rows: list[Sequence], sizes: list[int]) -> list[list[int]]:
        """See `Drafter.guess`."""
        guesses: dict[Sequence, list[int]] = {row: [] for row in rows}
        asked = dict(zip(rows, sizes, strict=True))
        feeds = {row: self._missing(row) for row in rows if self._place(row)}
        while feeds:
            self._weights.pack_next(len(feeds))
            due = self._run(feeds)
            for row, token in due.items():
                guesses[row].append(token)
            feeds = {
                row: [token]
                for row, token in due.items()
                if len(guesses[row]) < asked[row]
                and row.length + len(guesses[row]) < self._cache.length
            }
        return [guesses[row] for row in rows]

    def _place(self, row: Sequence) -> bool:
        """Whether there is a slot for the row; those of rows that are gone are free again."""
        if row not in self._slots:
            free = set(range(self._cache.slots)) - set(self._slots.values())
            if not free or row.length > self._cache.length:
                return False
            self._slots[row] = min(free)
        return row.length <= self._cache.length

    def _missing(self, row: Sequence) -> list[int]:
        """What of the row's tokens has to be run, at least the last; the cache is cut to fit."""
        tokens = [*row.encoded.prompt_ids, *row.tokens]
        held = self._cache.held[self._slots[row]]
        del held[min(common(held, tokens), len(tokens) - 1) :]
        return tokens[len(held) :][:CATCH_UP]

    def _run(self, feeds: dict[Sequence, list[int]]) -> dict[Sequence, int]:
        """Run tokens of each row; its next token, for rows of which nothing is missing then."""
        cache = self._cache
        rows = sorted(feeds, key=lambda row: self._slots[row])
        slots = [self._slots[row] for row in rows]
        segments = [
            Segment(slot, len(cache.held[slot]), len(feeds[row]))
            for row, slot in zip(rows, slots, strict=True)
        ]
        ends = [end - 1 for end in accumulate(segment.length for segment in segments)]
        tokens = list(chain.from_iterable(feeds[row] for row in rows))
        logits = forward_step(self._weights, cache, segments, tokens, ends)
        for row, slot in zip(rows, slots, strict=True):
            cache.held[slot] += feeds[row]
        due = [n for n, row in enumerate(rows) if len(cache.held[slots[n]]) >= row.length]
        if not due:
            return {}
        steps = [len(cache.held[slots[n]]) - rows[n].length for n in due]
        chosen = foreseen(logits[due], [rows[n].row for n in due], steps)
        return {rows[n]: token for n, token in zip(due, chosen, strict=True)}
