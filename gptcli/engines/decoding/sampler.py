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
SPARE = 16  # how many tokens that tie with the k-th stay in top-k


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
    """What `sample` draws from: probabilities (B, K) and token ids (B, K), `logits` (B, V) kept.

    K is 1 at temperature 0, little more than top_k where that is on, else V. A candidate that was
    filtered out has probability 0; a token that is no candidate has none. Candidates are in the
    order of their probability with top_k, else of their ids. The filters are temperature, top-k,
    top-p, min-p and locally typical sampling (arXiv 2202.00666), in this order, each on what the
    one before left. Tokens that tie with the k-th stay, as in transformers, up to `SPARE` of them.
    """
    if sampling.effective_temperature == 0:
        best = logits.max(-1, keepdim=True).indices  # argmax takes twice as long
        return torch.ones_like(best, dtype=logits.dtype), best
    size, top_k = logits.shape[-1], sampling.top_k
    if 0 < top_k < size:
        scores, ids = logits.topk(min(top_k + SPARE, size))
        scores = scores.masked_fill(scores < scores[:, top_k - 1 : top_k], -math.inf)
    else:
        scores, ids = logits, torch.arange(size, device=logits.device).expand_as(logits)
    # With the highest score at 0 a low temperature cannot overflow.
    scores = (scores - scores.amax(-1, keepdim=True)) / sampling.effective_temperature
    if sampling.top_p < 1:
        scores = scores.masked_fill(_unlikely(scores, sampling.top_p), -math.inf)
    if sampling.min_p > 0:
        scores = scores.masked_fill(scores < math.log(sampling.min_p), -math.inf)
    if sampling.typical_p < 1:
        scores = scores.masked_fill(_untypical(scores, sampling.typical_p), -math.inf)
    return scores.softmax(-1), ids


def _unlikely(scores: Tensor, mass: float) -> Tensor:
    """Which of the candidates (B, K) lie outside the likeliest ones that hold `mass`."""
    probabilities = scores.softmax(-1)
    size = scores.shape[-1]
    for count in (min(TOP_P_CANDIDATES, size), size):
        likeliest, order = probabilities.topk(count)
        keep = likeliest.cumsum(-1) - likeliest < mass  # what all likelier ones hold
        if count == size or not keep[:, -1].any():
            break
    return torch.ones_like(scores, dtype=torch.bool).scatter_(-1, order, ~keep)


def _untypical(scores: Tensor, mass: float) -> Tensor:
    """Which of the candidates (B, K) lie outside the `mass` whose surprise is nearest the mean."""
    logprobs = scores.log_softmax(-1)
    probabilities = logprobs.exp()
    entropy = -(logprobs * probabilities).nansum(-1, keepdim=True)
    distance = (-logprobs - entropy).abs()
    nearest, order = distance.sort(-1)
    covered = probabilities.gather(-1, order).cumsum(-1)
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
