"""From logits to the next token, for a batch whose rows have different settings.

Each row is filtered alone, on the few candidates that a filter leaves: sorting a vocabulary of
50,257 for every token would take a large part of the time of the forward pass.

The draw is an exponential race (the Gumbel-max trick in another form): the arrival time of each
candidate is exponential with its probability as rate, and the first to arrive is taken. The uniform
number of a candidate is hashed from its id and a key of the row's random stream. So a text does not
depend on its neighbours in the batch. What they change in the last bits of the logits matters only
where two candidates arrive at the same instant; against cumulated probabilities it would move every
border.

Filters have the meaning and order of transformers' `generation.logits_process`. Not here: what runs
over a whole vocabulary is in `gptcli.engines.decoding.vocabulary_ops`, processors that depend on
the token history are in `gptcli.engines.decoding.sampler_state`, beam search is in
`gptcli.engines.hf`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from gptcli.engines.decoding import vocabulary_ops as ops
from gptcli.engines.decoding.sampler_state import SamplerState, TokenRules, compile_rules
from gptcli.engines.decoding.vocabulary_ops import Floats, Ids, LogSumExp, silent
from gptcli.options import Filters

__all__ = [
    "SamplerState",
    "ScoredToken",
    "TokenRules",
    "compile_rules",
    "filtered",
    "finite",
    "logprobs_of",
    "sample",
    "sample_ahead",
]


class ScoredToken(NamedTuple):
    """A token's natural log-probability, and the likeliest tokens at its place, best first."""

    logprob: float
    top_ids: list[int]
    top_logprobs: list[float]


class _Candidates(NamedTuple):
    """What filters leave of a row: logits over the temperature, the highest of all tokens at 0."""

    scores: Floats  # (K,)
    ids: Ids | None = None  # (K,), ascending; None: all, from 0 on

    def keep(self, places: Ids) -> _Candidates:
        """Those at some places, ascending."""
        ids = places if self.ids is None else self.ids[places]
        return _Candidates(self.scores[places], ids)


@silent
def sample(logits: Floats, rows: Sequence[SamplerState]) -> list[int]:
    """Choose the next token of each row; `logits` (B, V), float32, are changed in place.

    Rows at temperature 0 take the likeliest token and draw nothing. Every other row draws one key.
    A token of probability 0 is never taken, unless the row has no other: all are banned, or the
    logits are not finite (ask `finite` first). Then the result is some id below V.
    """
    for own, row in zip(logits, rows, strict=True):
        if row.has_processors:
            row.process_logits(own)
    return [_pick(own, row, row.key) for own, row in zip(logits, rows, strict=True)]


@silent
def sample_ahead(logits: Floats, rows: Sequence[SamplerState], steps: Sequence[int]) -> list[int]:
    """The token that row i would choose by `logits` (B, V) steps[i] tokens later. Draws nothing.

    Processors that depend on the token history are not applied: that history is not written yet.
    """
    return [
        _pick(own, row, partial(row.key_ahead, ahead))
        for own, row, ahead in zip(logits, rows, steps, strict=True)
    ]


def _pick(logits: Floats, row: SamplerState, key: Callable[[], int]) -> int:
    """The choice of a row by its own filters and key."""
    left = _left(logits, row.sampling)
    if row.sampling.effective_temperature == 0 and left.ids is not None:
        return int(left.ids[0])
    weights, _ = ops.exponentials(left.scores)
    place = ops.race(key(), left.ids, weights)
    return place if left.ids is None else int(left.ids[place])


@silent
def filtered(row: Floats, sampling: Filters) -> tuple[Floats, Ids]:
    """What `sample` draws from: probabilities (K,) and token ids (K,), of a row of logits (V,).

    K is 1 at temperature 0. What a filter removed is left out. The filters are temperature, top-k,
    top-p, min-p and locally typical sampling (arXiv 2202.00666), in this order, each on what the
    one before left. Each compares the same float32 sums as the processor of transformers, so ties
    and exact borders give the same tokens.
    """
    left = _left(row, sampling)
    ids = np.arange(len(row)) if left.ids is None else left.ids
    return ops.softmax(left.scores), ids


def _left(row: Floats, sampling: Filters) -> _Candidates:
    """What the filters leave; the likeliest token alone at temperature 0."""
    best = row.argmax()
    if sampling.effective_temperature == 0 or not math.isfinite(row[best]):
        return _Candidates(np.zeros(1, np.float32), np.array([best]))
    if 0 < sampling.top_k < len(row):
        # All tokens that tie with the k-th stay, as in transformers.
        ids = ops.at_least(row, ops.kth_largest(row, sampling.top_k))
        left = _Candidates(row[ids], ids)
    else:
        left = _Candidates(row)
    # With the highest score at 0 a low temperature cannot overflow.
    scores = left.scores - row[best]
    scores /= np.float32(sampling.effective_temperature)
    left = left._replace(scores=scores)
    if sampling.top_p < 1:
        left = left.keep(_in_top_p(left.scores, sampling.top_p))
    if sampling.min_p > 0:
        probabilities = ops.softmax(left.scores)
        least = np.float32(sampling.min_p) * probabilities.max()
        left = left.keep(ops.at_least(probabilities, least))
    if sampling.typical_p < 1:
        left = left.keep(_typical(left, len(row), sampling.typical_p))
    return left


def _in_top_p(scores: Floats, mass: float) -> Ids:
    """The places of the candidates (K,) that top-p leaves.

    As in transformers, tokens go from the least likely one on, while they hold no more than 1 -
    mass together; which of equally likely ones goes first is not defined.
    """
    probabilities = ops.softmax(scores)
    places: Ids = np.arange(len(scores))
    rest = 0.0
    if len(scores) > ops.SMALL:  # all that have less than an equal share of 1 - mass go
        places = np.flatnonzero(probabilities > 0.999 * (1 - mass) / len(scores))
        rest = float(probabilities.sum(dtype=np.float64))
        probabilities = probabilities[places]
        rest -= float(probabilities.sum(dtype=np.float64))
    ascending = np.sort(probabilities)
    removed = int(np.count_nonzero(_cumulated(ascending, rest) <= np.float32(1 - mass)))
    removed = min(removed, len(ascending) - 1)
    least = ascending[removed]
    likelier = len(ascending) - int(ascending.searchsorted(least, side="right"))
    ties = np.flatnonzero(probabilities == least)[: len(ascending) - removed - likelier]
    kept = probabilities > least
    kept[ties] = True
    left: Ids = places[kept]
    return left


def _cumulated(values: Floats, start: float = 0.0) -> Floats:
    """Sums of the values up to each; added up in float64 and rounded, as torch does on a CPU."""
    sums = np.cumsum(values, dtype=np.float64)
    return (sums + start).astype(np.float32)


def _typical(left: _Candidates, size: int, mass: float) -> Ids:
    """Which of the candidates are in the `mass` whose surprise is nearest the mean.

    In a short row they stand where they stand in the row of `size` tokens: sums of float32 depend
    on the order, and transformers sums over all tokens.
    """
    scores, ids = left
    if ids is not None and size <= ops.SMALL:
        scores = np.full(size, -np.inf, np.float32)
        scores[ids] = left.scores
    logprobs = ops.log_softmax(scores)
    surprises = logprobs * ops.exp(logprobs)
    surprises[logprobs == -np.inf] = 0  # of a banned token
    entropy = -ops.sum_in_lanes(surprises)
    distance = np.abs(-logprobs - entropy)
    order = np.argsort(distance)
    # Not exp(logprobs): four equal tokens must hold 0.25 each, to the bit.
    covered = _cumulated(ops.softmax(scores[order]))
    last = min(int(np.count_nonzero(covered < np.float32(mass))), len(scores) - 1)
    near = distance <= distance[order[last]]
    return np.flatnonzero(near if len(near) == len(left.scores) else near[ids])


@silent
def logprobs_of(logits: Floats, tokens: Sequence[int], top: int) -> list[ScoredToken]:
    """Each row's log-probability of its token, with the `top` likeliest tokens.

    `logits` (B, V) are the model's, before temperature, penalties and filters. `sample` changes its
    logits in place, so keep a copy for this.
    """
    rows = zip(logits, tokens, ops.log_sum_exps(logits), strict=True)
    return [_scored(row, token, whole, top) for row, token, whole in rows]


def _scored(row: Floats, token: int, whole: LogSumExp, top: int) -> ScoredToken:
    ids = ops.largest(row, top).tolist()
    return ScoredToken(whole.logprob(row[token]), ids, [whole.logprob(row[id]) for id in ids])


def finite(logits: Floats) -> list[bool]:
    """For each row of `logits` (B, V): whether it is free of NaN and infinities."""
    return [ops.finite(row) for row in logits]
