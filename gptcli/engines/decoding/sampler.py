"""From logits to the next token, for a batch whose rows have different settings.

Rows with equal settings are filtered together, on the few candidates that top-k leaves: sorting a
vocabulary of 50,257 for every token would take a large part of the time of the forward pass.

The draw is an exponential race (the Gumbel-max trick in another form): the arrival time of each
candidate is exponential with its probability as rate, and the first to arrive is taken. The uniform
number of a candidate is hashed from its id and a key of the row's random stream. So a text does not
depend on its neighbours in the batch. What they change in the last bits of the logits matters only
where two candidates arrive at the same instant; against cumulated probabilities it would move every
border.

Filters have the meaning and order of transformers' `generation.logits_process`. Not here:
processors that depend on the token history are in `gptcli.engines.decoding.sampler_state`, beam
search is in `gptcli.engines.hf`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gptcli.engines.decoding.sampler_state import SamplerState, TokenRules, compile_rules
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

GOLDEN_GAMMA = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: SplitMix64's step
TOP_P_CANDIDATES = 4096  # searched first by top-p: sorting a vocabulary takes five times as long
TIED_TOKENS = 16  # looked at first by top-k, beside the k likeliest


class ScoredToken(NamedTuple):
    """A token's natural log-probability, and the likeliest tokens at its place, best first."""

    logprob: float
    top_ids: list[int]
    top_logprobs: list[float]


def sample(logits: Tensor, rows: Sequence[SamplerState]) -> list[int]:
    """Choose the next token of each row; `logits` (B, V), float32, are changed in place.

    Rows at temperature 0 take the likeliest token and draw nothing. Every other row draws one key.
    A token of probability 0 is never taken, unless the row has no other: all are banned, or the
    logits are not finite (ask `finite` first). Then the result is some id below V.
    """
    if not rows:
        return []
    with torch.inference_mode():
        for place, row in enumerate(rows):
            if row.has_processors:
                row.process_logits(logits[place])
        return _picked(logits, rows, SamplerState.key)


def sample_ahead(logits: Tensor, rows: Sequence[SamplerState], steps: Sequence[int]) -> list[int]:
    """The token that row i would choose by `logits` (B, V) steps[i] tokens later. Draws nothing.

    Processors that depend on the token history are not applied: that history is not written yet.
    """
    ahead = dict(zip(rows, steps, strict=True))
    with torch.inference_mode():
        return _picked(logits, rows, lambda row: row.key_ahead(ahead[row]))


def _picked(
    logits: Tensor, rows: Sequence[SamplerState], key: Callable[[SamplerState], int]
) -> list[int]:
    """The choice of each row by its own filters and key."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row.filter_settings, []).append(place)
    picks = [
        _pick(logits if len(groups) == 1 else logits[places], [rows[i] for i in places], key)
        for places in groups.values()
    ]
    # The only synchronisation with a GPU, except for top-p without top-k.
    tokens = torch.cat(picks).tolist()
    order = [place for places in groups.values() for place in places]
    return [token for _, token in sorted(zip(order, tokens, strict=True))]


def _pick(
    logits: Tensor, rows: Sequence[SamplerState], key: Callable[[SamplerState], int]
) -> Tensor:
    """One id a row, (B,), for rows with the same settings."""
    probabilities, ids = filtered(logits, rows[0].sampling)
    if ids.device.type == "mps":  # has no float64
        probabilities, ids = probabilities.cpu(), ids.cpu()
    if rows[0].sampling.effective_temperature == 0:
        return ids[:, 0]
    keys = torch.tensor([[key(row)] for row in rows], device=ids.device)
    # log1p keeps small values exact, and small values win the race.
    times = -torch.log1p(-_uniform(keys, ids)) / probabilities
    return ids.gather(1, times.argmin(-1, keepdim=True))[:, 0]


def _uniform(keys: Tensor, ids: Tensor) -> Tensor:
    """A number in (0, 1), float64 (B, K), for each key (B, 1) and id (B, K), both int64.

    The id-th output of the SplitMix64 generator whose state is the key (Steele, Lea and Flood,
    OOPSLA 2014), its upper 52 bits.
    """
    z = keys + (ids + 1) * _signed(GOLDEN_GAMMA)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return (_shifted(z ^ _shifted(z, 31), 12).double() + 0.5) * 2.0**-52


def _shifted(z: Tensor, bits: int) -> Tensor:
    """z >> bits, unsigned."""
    return (z >> bits) & ((1 << 64 - bits) - 1)


def _signed(word: int) -> int:
    """The 64-bit word as int64 of torch; products wrap modulo 2^64."""
    return word - (1 << 64) if word >> 63 else word


def filtered(logits: Tensor, sampling: Filters) -> tuple[Tensor, Tensor]:
    """What `sample` draws from: probabilities (B, K) and token ids (B, K); keeps `logits` (B, V).

    K is 1 at temperature 0, the number of tokens that top-k leaves where it is on (for the row with
    most ties), else V. Candidates are in the order of their probability with top-k, else of their
    ids. One that a filter removed has probability 0. The filters are temperature, top-k, top-p,
    min-p and locally typical sampling (arXiv 2202.00666), in this order, each on what the one
    before left. Each compares the same float32 sums as the processor of transformers, so ties and
    exact borders give the same tokens.
    """
    if sampling.effective_temperature == 0:
        best = logits.max(-1, keepdim=True).indices  # argmax takes twice as long
        return torch.ones_like(best, dtype=logits.dtype), best
    size, top_k = logits.shape[-1], sampling.top_k
    if 0 < top_k < size:
        scores, ids = _top_k(logits, top_k)
    else:
        scores, ids = logits, torch.arange(size, device=logits.device).expand_as(logits)
    # With the highest score at 0 a low temperature cannot overflow.
    scores = (scores - scores.amax(-1, keepdim=True)) / sampling.effective_temperature
    if sampling.top_p < 1:
        scores = scores.masked_fill(_outside_top_p(scores, sampling.top_p), -math.inf)
    if sampling.min_p > 0:
        probabilities = scores.softmax(-1)
        least = sampling.min_p * probabilities.amax(-1, keepdim=True)
        scores = scores.masked_fill(probabilities < least, -math.inf)
    if sampling.typical_p < 1:
        scores = scores.masked_fill(_untypical(scores, sampling.typical_p), -math.inf)
    return scores.softmax(-1), ids


def _top_k(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Scores and ids (B, K) of the tokens that are not below the k-th score; others: -inf.

    All tokens that tie with the k-th stay, as in transformers.
    """
    size = logits.shape[-1]
    count = min(top_k + TIED_TOKENS, size)
    scores, ids = logits.topk(count)
    least = scores[:, top_k - 1 : top_k]
    if count < size and bool((scores[:, -1:] >= least).any()):  # more may tie than were looked at
        count = int((logits >= least).sum(-1).max())
        scores, ids = logits.topk(max(count, top_k))
    return scores.masked_fill(scores < least, -math.inf), ids


def _outside_top_p(scores: Tensor, mass: float) -> Tensor:
    """Which of the candidates (B, K) top-p removes.

    As in transformers, tokens go from the least likely one on, while they hold no more than 1 -
    mass together; which of equally likely ones goes first is not defined. Of a whole vocabulary
    only the likeliest tokens are sorted, unless the border lies behind them.
    """
    probabilities = scores.softmax(-1)
    size = scores.shape[-1]
    for count in (min(TOP_P_CANDIDATES, size), size):
        ascending, order = (part.flip(-1) for part in probabilities.topk(count))
        removed = _cumulated(ascending, probabilities) <= 1 - mass
        removed[:, -1] = False
        # All tokens that tie with the last one of the head must be removed: others may tie too.
        if count == size or bool((removed | (ascending > ascending[:, :1])).all()):
            break
    return torch.ones_like(scores, dtype=torch.bool).scatter_(-1, order, removed)


def _cumulated(ascending: Tensor, probabilities: Tensor) -> Tensor:
    """Sums of the probabilities up to each of the `ascending` ones, which are the largest of all.

    On a CPU torch adds up in float64 and rounds each sum, so that the way there does not show.
    """
    if ascending.shape == probabilities.shape:
        return ascending.cumsum(-1)
    kind = torch.float32 if ascending.device.type == "mps" else torch.float64
    total, head = (part.sum(-1, keepdim=True, dtype=kind) for part in (probabilities, ascending))
    return (ascending.cumsum(-1, dtype=kind) + (total - head)).to(ascending.dtype)


def _untypical(scores: Tensor, mass: float) -> Tensor:
    """Which of the candidates (B, K) lie outside the `mass` whose surprise is nearest the mean."""
    logprobs = scores.log_softmax(-1)
    entropy = -(logprobs * logprobs.exp()).nansum(-1, keepdim=True)
    distance = (-logprobs - entropy).abs()
    nearest, order = distance.sort(-1)
    # Not exp(logprobs): four equal tokens must hold 0.25 each, to the bit.
    covered = scores.gather(-1, order).softmax(-1).cumsum(-1)
    last = (covered < mass).sum(-1, keepdim=True).clamp_(max=scores.shape[-1] - 1)
    return distance > nearest.gather(-1, last)


def logprobs_of(logits: Tensor, tokens: Sequence[int], top: int) -> list[ScoredToken]:
    """Each row's log-probability of its token, with the `top` likeliest tokens.

    `logits` (B, V) are the model's, before temperature, penalties and filters. `sample` changes its
    logits in place, so keep a copy for this.
    """
    with torch.inference_mode():
        logprobs = logits.float().log_softmax(-1)
        chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])
        values, ids = logprobs.topk(min(top, logprobs.shape[-1]))
        columns = chosen[:, 0].tolist(), ids.tolist(), values.tolist()
    return [ScoredToken(*row) for row in zip(*columns, strict=True)]


def finite(logits: Tensor) -> list[bool]:
    """For each row of `logits` (B, V): whether it is free of NaN and infinities."""
    # NaN and infinity always show in the sum, which is ten times as fast as isfinite(). Huge finite
    # values overflow the sum too, hence the second test.
    sums = logits.sum(-1).tolist()
    return [
        math.isfinite(total) or bool(logits[row].isfinite().all()) for row, total in enumerate(sums)
    ]
