"""From logits to the next token, for a batch whose rows have settings of their own.

Rows with equal settings are filtered together, on the few candidates that top-k leaves: sorting a
vocabulary of 50,257 for every token would cost as much as a large part of the forward pass. The
draw is one number from the row's own stream against the cumulated probabilities, so that a text
does not depend on its neighbours in the batch (but for what they change in the logits' last bits).

Filters have the meaning and the order of transformers' `generation.logits_process`. What depends on
a row's past is in `gptcli.engines.rows`; when to end a text is left to the engine, beam search to
transformers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gptcli.engines.rows import Row, Rules, compile_rules
from gptcli.options import Sampling

__all__ = ["Row", "Rules", "Scored", "compile_rules", "filtered", "finite", "logprobs_of", "sample"]

HEAD = 4096  # where top-p looks first; to sort a whole vocabulary takes five times as long
SPARE = 16  # how many tokens that tie with the k-th stay in top-k


class Scored(NamedTuple):
    """A token's natural log-probability, and the likeliest tokens at its place, best first."""

    logprob: float
    top_ids: list[int]
    top_logprobs: list[float]


def sample(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """Choose the next token of each row; `logits` (B, V), float32, are changed in place.

    Rows at temperature 0 take the likeliest token and draw nothing; every other row draws one
    number u, and takes the first candidate at which the cumulated probability exceeds u. A token of
    probability 0 is never taken, unless the row has no other (all are banned, or the logits are not
    finite; ask `finite` first): then the answer is some id below V.
    """
    if not rows:
        return []
    with torch.inference_mode():
        for place, row in enumerate(rows):
            if row.shaped:
                row.shape(logits[place])
        groups: dict[tuple[float, ...], list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(row.settings, []).append(place)
        picks = [
            _pick(logits if len(groups) == 1 else logits[places], [rows[i] for i in places])
            for places in groups.values()
        ]
        # The only wait for a device, but for top-p without top-k.
        tokens = torch.cat(picks).tolist()
    order = [place for places in groups.values() for place in places]
    return [token for _, token in sorted(zip(order, tokens, strict=True))]


def _pick(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """One id per row (B,), for rows with the same settings."""
    probabilities, ids = filtered(logits, rows[0].sampling)
    if ids.device.type == "mps":  # has no float64
        probabilities, ids = probabilities.cpu(), ids.cpu()
    if rows[0].sampling.heat == 0:
        return ids[:, 0]
    draws = torch.tensor([[row.uniform()] for row in rows], dtype=torch.float64, device=ids.device)
    mass = probabilities.double().cumsum(-1)
    total = mass[:, -1:]
    # Below the total even after rounding, so that some candidate always exceeds it.
    target = torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(mass, target, right=True).clamp_(max=mass.shape[-1] - 1)
    return ids.gather(1, place)[:, 0]


def filtered(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """What `sample` draws from: probabilities (B, K) and token ids (B, K), `logits` (B, V) kept.

    K is 1 at temperature 0, little more than top_k where that is on, else V. A candidate that was
    filtered out has probability 0; a token that is no candidate has none. Candidates are in the
    order of their ids. The filters are temperature, top-k, top-p, min-p and locally typical
    sampling (arXiv 2202.00666), in this order, each on what the one before left. Tokens that tie
    with the k-th stay, as in transformers, up to `SPARE` of them.
    """
    if sampling.heat == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.ones_like(best, dtype=logits.dtype), best
    size, top_k = logits.shape[-1], sampling.top_k
    if 0 < top_k < size:
        best, places = logits.topk(min(top_k + SPARE, size))
        best = best.masked_fill(best < best[:, top_k - 1 : top_k], -math.inf)
        # Sorted by id, since in an order by probability a rounding error in two nearly equal
        # logits would swap them, and with them the text.
        ids, order = places.sort(-1)
        scores = best.gather(-1, order)
    else:
        scores, ids = logits, torch.arange(size, device=logits.device).expand_as(logits)
    # With the best at 0 a low temperature cannot overflow.
    scores = (scores - scores.amax(-1, keepdim=True)) / sampling.heat
    if sampling.top_p < 1:
        scores = scores.masked_fill(_unlikely(scores, sampling.top_p), -math.inf)
    if sampling.min_p > 0:
        scores = scores.masked_fill(scores < math.log(sampling.min_p), -math.inf)
    if sampling.typical_p < 1:
        scores = scores.masked_fill(_untypical(scores, sampling.typical_p), -math.inf)
    return scores.softmax(-1), ids


def _unlikely(scores: Tensor, mass: float) -> Tensor:
    """Which of the candidates (B, K) lie outside the likeliest few that hold `mass`."""
    probabilities = scores.softmax(-1)
    size = scores.shape[-1]
    for count in (min(HEAD, size), size):
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


def logprobs_of(logits: Tensor, tokens: Sequence[int], top: int) -> list[Scored]:
    """Each row's log-probability of its token, with the `top` likeliest tokens.

    `logits` (B, V) are the model's own: since `sample` changes them in place, keep a copy of them
    for this. Under the model means before temperature, penalties and filters.
    """
    with torch.inference_mode():
        logprobs = logits.float().log_softmax(-1)
        chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])
        values, ids = logprobs.topk(min(top, logprobs.shape[-1]))
        columns = chosen[:, 0].tolist(), ids.tolist(), values.tolist()
    return [Scored(*row) for row in zip(*columns, strict=True)]


def finite(logits: Tensor) -> list[bool]:
    """For each row of `logits` (B, V): whether it is free of NaN and infinities."""
    # A NaN or an infinity always shows in the sum, and adding is ten times as fast as looking;
    # so can finite numbers that are huge, hence the second look.
    sums = logits.sum(-1).tolist()
    return [
        math.isfinite(total) or bool(logits[row].isfinite().all()) for row, total in enumerate(sums)
    ]
