"""Attribution: gradients of a token's log-odds with respect to the embeddings of the text.

Gradients are torch's: this is the one view of the inside of a model that imports it. The network is
that of a GPU, in float32 where the engine runs. Texts of one length are computed together, several
hundred tokens at a time: a matrix product of few rows takes nearly as long as one of many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gptcli.engines import forking
from gptcli.engines.gpt2.on_torch.network import forward
from gptcli.engines.gpt2.on_torch.weights import Weights
from gptcli.engines.gpt2.tracing import Tracer, sound

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


class Gradients:
    """The network of a tracer's model in torch, float32 and on the engine's device."""

    def __init__(self, tracer: Tracer) -> None:
        forking.watch()
        self._tracer = tracer
        self._config = tracer.network.config
        self._weights = Weights(
            self._config,
            tracer.checked,
            torch.device(tracer.info.device),
            torch.float32,
        )

    def embedded(self, ids: Sequence[int]) -> Tensor:
        """What goes into the first layer, (T, C)."""
        return torch.from_numpy(self._tracer.network.embedded(ids)).to(self._weights.device)

    def of_log_odds(self, x: Tensor, target: int) -> tuple[Tensor, Tensor]:
        """The log-odds (S,) of the target after each of S texts, and their gradients (S, T, C).

        x: their embeddings, (S, T, C).
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            states = forward(self._weights, x.flatten(0, 1), self._attend_to(len(x)))
            logits = self._weights.head(states.view(x.shape)[:, -1]).float()
            # log(p / (1 - p)) without p, which may round to 1.
            others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
            odds = logits[:, target] - others.logsumexp(-1)
            (gradients,) = torch.autograd.grad(odds.sum(), x)  # no text depends on another's
        return odds.detach(), gradients

    def scores(self, scores: Tensor) -> tuple[float, ...]:
        """Scores (T,) as they are. Raises BadModel where one is NaN or infinite."""
        sound(self._tracer, scores.cpu().numpy())
        return tuple(scores.tolist())

    def _attend_to(self, texts: int) -> Callable[[int, Tensor, Tensor], Tensor]:
        """Causal attention of several texts of one length, each to itself; without a cache."""
        heads = self._config.n_head

        def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
            q, k, v = (
                part.reshape(texts, -1, heads, part.shape[-1] // heads).transpose(1, 2)
                for part in (q, *kv.chunk(2, -1))
            )
            scale = self._config.attention_scale(layer)
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
            return out.transpose(1, 2).flatten(2).flatten(0, 1)

        return attend


def gradient_x_input(tracer: Tracer, ids: Sequence[int], target: int) -> TokenAttribution:
    """The gradient of the target's log-odds by each token's embedding, times that embedding.

    Embedding means what goes into the first layer: the token's and the position's, added.
    Source: Simonyan, Vedaldi and Zisserman 2013 (arXiv 1312.6034); Shrikumar et al. 2016
    (arXiv 1605.01713).
    """
    network = Gradients(tracer)
    x = network.embedded(ids)
    values, gradients = network.of_log_odds(x[None], target)
    return TokenAttribution(network.scores((gradients[0] * x).sum(-1)), float(values[0]))


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

    network = Gradients(tracer)
    x = network.embedded(ids)
    start = network.embedded([tracer.filler] * len(ids))
    nodes, weights = (torch.from_numpy(part).to(x) for part in leggauss(steps))  # on [-1, 1]
    total = torch.zeros_like(x)
    steps_at_a_time = max(GRADIENT_TOKENS // len(ids), 1)
    for some, their in zip(
        torch.split(nodes, steps_at_a_time), torch.split(weights, steps_at_a_time), strict=True
    ):
        between = start + (some[:, None, None] + 1) / 2 * (x - start)
        total += (their[:, None, None] / 2 * network.of_log_odds(between, target)[1]).sum(0)
    value, baseline = network.of_log_odds(torch.stack([x, start]), target)[0].tolist()
    return TokenAttribution(network.scores((total * (x - start)).sum(-1)), value, baseline)
