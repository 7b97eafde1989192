"""Drafts from a smaller GPT-2 with the same tokens.

It has its own KV cache and catches up with the text before it drafts. It samples each token with
the key that the sequence will use, so where the two models agree on the distribution they agree on
the token. It pays off where the model is many times larger.
"""

from __future__ import annotations

from itertools import accumulate, chain
from weakref import WeakKeyDictionary

from gptcli.engines.decoding.sampler import sample_ahead
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.decoding.sequence import Sequence
from gptcli.engines.gpt2.network import GPT2Network
from gptcli.engines.gpt2.scheduler import common_prefix

MAX_PROMPT_TOKENS = 256  # of a prompt, run before one draft; the rest waits for the next draft


class DraftModel:
    """A GPT-2 that drafts for up to `slots` sequences; see
    `gptcli.engines.decoding.speculative.Drafter`.
    """

    def __init__(self, network: GPT2Network, slots: int, cost: float) -> None:
        self.cost = cost
        self._network, self._cache = network, network.new_cache(slots)
        self._slots: WeakKeyDictionary[Sequence, int] = WeakKeyDictionary()

    def propose(self, sequences: list[Sequence], sizes: list[int]) -> list[list[int]]:
        """See `Drafter.propose`."""
        drafts: dict[Sequence, list[int]] = {sequence: [] for sequence in sequences}
        asked = dict(zip(sequences, sizes, strict=True))
        inputs = {
            sequence: self._not_cached(sequence)
            for sequence in sequences
            if self._has_slot(sequence)
        }
        while inputs:
            due = self._run(inputs)
            for sequence, token in due.items():
                drafts[sequence].append(token)
            inputs = {
                sequence: [token]
                for sequence, token in due.items()
                if len(drafts[sequence]) < asked[sequence]
                and sequence.length + len(drafts[sequence]) < self._cache.length
            }
        return [drafts[sequence] for sequence in sequences]

    def _has_slot(self, sequence: Sequence) -> bool:
        """Give the sequence a slot; slots of finished sequences are free. False if none is left."""
        if sequence not in self._slots:
            free = set(range(self._cache.slots)) - set(self._slots.values())
            if not free or sequence.length > self._cache.length:
                return False
            self._slots[sequence] = min(free)
        return sequence.length <= self._cache.length

    def _not_cached(self, sequence: Sequence) -> list[int]:
        """Tokens of the sequence to run, at least the last one. Cuts the cache to what agrees."""
        tokens = [*sequence.encoded.prompt_ids, *sequence.tokens]
        cached = self._cache.cached_tokens[self._slots[sequence]]
        del cached[min(common_prefix(cached, tokens), len(tokens) - 1) :]
        return tokens[len(cached) :][:MAX_PROMPT_TOKENS]

    def _run(self, inputs: dict[Sequence, list[int]]) -> dict[Sequence, int]:
        """Run tokens of each sequence. Returns the next token of those that have caught up."""
        cache = self._cache
        sequences = sorted(inputs, key=lambda sequence: self._slots[sequence])
        slots = [self._slots[sequence] for sequence in sequences]
        segments = [
            Segment(slot, len(cache.cached_tokens[slot]), len(inputs[sequence]))
            for sequence, slot in zip(sequences, slots, strict=True)
        ]
        ends = [end - 1 for end in accumulate(segment.length for segment in segments)]
        tokens = list(chain.from_iterable(inputs[sequence] for sequence in sequences))
        logits = self._network.forward_step(cache, segments, tokens, ends)
        for sequence, slot in zip(sequences, slots, strict=True):
            cache.cached_tokens[slot] += inputs[sequence]
        due = [
            n
            for n, sequence in enumerate(sequences)
            if len(cache.cached_tokens[slots[n]]) >= sequence.length
        ]
        if not due:
            return {}
        steps = [len(cache.cached_tokens[slots[n]]) - sequences[n].length for n in due]
        chosen = sample_ahead(logits[due], [sequences[n].sampler for n in due], steps)
        return {sequences[n]: token for n, token in zip(due, chosen, strict=True)}
