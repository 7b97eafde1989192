"""Attribution: gradients of a token's log-odds with respect to the embeddings of the text.

Texts of one length are computed together, several hundred tokens at a time: a matrix product of few
rows takes nearly as long as one of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptcli.engines.gpt2.on_torch.network import forward
from gptcli.engines.gpt2.tracing import Tracer, attending, embeddings, sound

GRADIENT_TOKENS = 512  # computed at a time


@dataclass(frozen=True)
class TokenAttribution:
    """Scores (T,) of the tokens for one target.

    value: the target's log-odds after the text; baseline: after the baseline, None for gradient x
    input, which has none.
    """

    scores: tuple[float, ...]
    value: float
    baseline: float | None = None


def gradient_x_input(tracer: Tracer, ids: Sequence[int], target: int) -> TokenAttribution:
    """The gradient of the target's log-odds by each token's embedding, times that embedding.

    Embedding means what goes into the first layer: the token's and the position's, added.
    Source: Simonyan, Vedaldi and Zisserman 2013 (arXiv 1312.6034); Shrikumar et al. 2016
    (arXiv 1605.01713).
    """
    x = embeddings(tracer, ids)
    values, gradients = _log_odds_gradients(tracer, x[None], target)
    return TokenAttribution(_scores(tracer, (gradients[0] * x).sum(-1)), float(values[0]))


def integrated_gradients(
    tracer: Tracer, ids: Sequence[int], target: int, steps: int
) -> TokenAttribution:
    """The gradient of the target's log-odds along the straight line from a baseline to the text.

    The scores sum to the log-odds less those of the baseline, up to the error of the integral,
    which `steps` points of Gauss and Legendre approximate. The baseline is the end-of-text token in
    every place, for zeros, where a layer norm has no direction, are no neutral text.
    Source: Sundararajan, Taly and Yan 2017, equation 1 (arXiv 1703.01365).
    """
    from numpy.polynomial.legendre import leggauss

    x = embeddings(tracer, ids)
    start = embeddings(tracer, [tracer.filler] * len(ids))
    nodes, weights = (torch.from_numpy(part).to(x) for part in leggauss(steps))  # on [-1, 1]
    total = torch.zeros_like(x)
    steps_at_a_time = max(GRADIENT_TOKENS // len(ids), 1)
    for some, their in zip(
        torch.split(nodes, steps_at_a_time), torch.split(weights, steps_at_a_time), strict=True
    ):
        between = start + (some[:, None, None] + 1) / 2 * (x - start)
        total += (their[:, None, None] / 2 * _log_odds_gradients(tracer, between, target)[1]).sum(0)
    value, baseline = _log_odds_gradients(tracer, torch.stack([x, start]), target)[0].tolist()
    return TokenAttribution(_scores(tracer, (total * (x - start)).sum(-1)), value, baseline)


def _log_odds_gradients(tracer: Tracer, x: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """The log-odds (S,) of the target after each of S texts, and their gradients (S, T, C).

    x: their embeddings, (S, T, C).
    """
    length = x.shape[1]
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        states = forward(tracer.weights, x.flatten(0, 1), attending(tracer, length))
        logits = tracer.weights.head(states.view(x.shape)[:, -1]).float()
        # log(p / (1 - p)) without p, which may round to 1.
        others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
        odds = logits[:, target] - others.logsumexp(-1)
        (gradients,) = torch.autograd.grad(odds.sum(), x)  # no text depends on another's
    return odds.detach(), gradients


def _scores(tracer: Tracer, scores: Tensor) -> tuple[float, ...]:
    return tuple(sound(tracer, scores).tolist())
