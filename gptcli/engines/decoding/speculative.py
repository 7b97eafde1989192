"""Speculative decoding: draft tokens cheaply, verify them in one step.

A step reads every weight, whether it runs one token or five, so a drafted token that is right costs
little. The output is unchanged: at each position the sequence samples as always, with its own key,
from the model's logits, and a draft token is accepted only if it equals the sample. For greedy
decoding that is the usual rule. For sampling it accepts a fixed draft x with the model's own
probability p(x), as rejection sampling does (Leviathan et al. 2023, arXiv 2211.17192; Chen et al.
2023, arXiv 2302.01318), and the text for a seed stays the same (drafter-invariant coupling: Daliri
et al. 2024, arXiv 2408.07978).

Drafts come from the text itself (prompt lookup: Saxena 2023) or from a smaller model
(`gptcli.engines.gpt2.draft_model`). The acceptance rate so far decides the length of a draft.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary

from gptcli.engines.decoding.sequence import Sequence

NGRAM_SIZES = 3, 2  # tokens; the longest n-gram that occurred before is followed
MAX_DRAFT_TOKENS = 12
DECAY = 0.95  # of the counts of a sequence, each step
# Fixed cost of a step (reading the weights), in units of the cost of one more token. Two-core CPU,
# 124M, float16: one row takes 9.5 ms, each further row 1.2 ms. A GPU is memory-bound for longer.
STEP_OVERHEAD = {"cpu": 7.0}
STEP_OVERHEAD_ELSEWHERE = 100.0


class Drafter(Protocol):
    """Proposes the next tokens of sequences."""

    cost: float
    """Cost of a drafted token, as a share of a step of the model."""

    def propose(self, sequences: list[Sequence], sizes: list[int]) -> list[list[int]]:
        """A draft for each sequence: at most sizes[i] tokens, maybe none."""
        ...


class NgramDrafter:
    """Proposes what followed the last occurrence of the n-gram that ends the text."""

    cost = 0.0

    def __init__(self) -> None:
        self._indices: WeakKeyDictionary[Sequence, _NgramIndex] = WeakKeyDictionary()

    def propose(self, sequences: list[Sequence], sizes: list[int]) -> list[list[int]]:
        """See `Drafter.propose`."""
        return [
            self._indices.setdefault(sequence, _NgramIndex()).follow(sequence, size)
            for sequence, size in zip(sequences, sizes, strict=True)
        ]


class _NgramIndex:
    """Position after the last occurrence of each n-gram of one sequence."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}

    def follow(self, sequence: Sequence, size: int) -> list[int]:
        """The `size` tokens that followed; at the end of the text the period repeats."""
        self._read(sequence)
        tokens = self._tokens
        for length in NGRAM_SIZES:
            place = self._places.get(tuple(tokens[-length:]))
            if place is not None:
                period = len(tokens) - place
                return [tokens[place + step % period] for step in range(size)]
        return []

    def _read(self, sequence: Sequence) -> None:
        """Index the tokens that are new since the last call."""
        prompt = sequence.encoded.prompt_ids
        known = len(self._tokens)
        new = prompt[known:] + tuple(sequence.tokens[max(known - len(prompt), 0) :])
        for token in new:
            place = len(self._tokens)
            for length in NGRAM_SIZES:
                if length <= place:
                    self._places[tuple(self._tokens[place - length :])] = place
            self._tokens.append(token)


class DraftLength:
    """Chooses the length of each draft by the acceptance rate so far."""

    def __init__(self, drafter: Drafter, device: str) -> None:
        self._drafter = drafter
        self._step_overhead = STEP_OVERHEAD.get(device, STEP_OVERHEAD_ELSEWHERE)
        self._acceptance: WeakKeyDictionary[Sequence, _AcceptanceRate] = WeakKeyDictionary()

    def drafts(self, sequences: list[Sequence], context: int) -> dict[Sequence, list[int]]:
        """The drafts of sequences that have one. `context`: tokens that a sequence can have."""
        sizes = {seq: self._draft_length(seq, len(sequences), context) for seq in sequences}
        asked = [seq for seq in sequences if sizes[seq] > 0]
        drafts = self._drafter.propose(asked, [sizes[seq] for seq in asked]) if asked else []
        return {seq: draft for seq, draft in zip(asked, drafts, strict=True) if draft}

    def _draft_length(self, sequence: Sequence, rows: int, context: int) -> int:
        """The draft length for one of `rows` sequences in the step."""
        rate = self._acceptance.setdefault(sequence, _AcceptanceRate())
        rate.decay()
        limit = min(
            MAX_DRAFT_TOKENS,
            sequence.encoded.new_token_limit - len(sequence.tokens) - 1,
            context - sequence.length,
        )
        return best_draft_length(
            rate.probability, rows, limit, self._step_overhead, self._drafter.cost
        )

    def record(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """Record that the first `accepted` of `drafted` draft tokens were accepted."""
        self._acceptance[sequence].add(drafted, accepted)


class _AcceptanceRate:
    """Acceptance rate of the drafts of one sequence, with exponential decay."""

    def __init__(self) -> None:
        self._accepted = self._tried = 0.0

    @property
    def probability(self) -> float:
        """Probability that the next draft token is accepted; one half without experience."""
        return (self._accepted + 1) / (self._tried + 2)

    def decay(self) -> None:
        self._accepted *= DECAY
        self._tried *= DECAY

    def add(self, drafted: int, accepted: int) -> None:
        self._accepted += accepted
        self._tried += min(drafted, accepted + 1)  # later ones were not verified


def best_draft_length(
    probability: float, rows: int, limit: int, overhead: float, cost: float
) -> int:
    """The draft length that gives most tokens per second, for one of `rows` sequences.

    `probability` p: that a draft token is accepted, independent of the others. `overhead` and
    `cost`: see STEP_OVERHEAD and `Drafter.cost`. With k draft tokens a step gives
    (1 - p**(k+1)) / (1 - p) tokens of the sequence (Leviathan et al. 2023, equation 1) and costs
    overhead + rows + k (1 + cost * overhead).
    """
    best, best_rate, expected = 0, rows / (overhead + rows), 1.0
    for size in range(1, limit + 1):
        expected += probability**size
        rate = (rows - 1 + expected) / (overhead + rows + size * (1 + cost * overhead))
        if rate <= best_rate:
            break
        best, best_rate = size, rate
    return best
