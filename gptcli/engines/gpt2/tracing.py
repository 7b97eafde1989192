"""The inside of a GPT-2 while it reads one text: attention, hidden states, the next token.

The network is `gptcli.engines.gpt2.on_torch.network.forward`. Only the attention function differs:
it keeps its weights. A tracer maps float32 weights of its own, because those of the engine may be
quantised, or in a layout without gradients. To map a file twice costs nothing.
Not here: gradients are in `gptcli.engines.gpt2.attribution`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.tokenizer import Tokenizer
from gptcli.engines.decoding.sampler import filtered
from gptcli.engines.gpt2.engine import GPT2Engine
from gptcli.engines.gpt2.on_torch.kv_cache import split_heads
from gptcli.engines.gpt2.on_torch.network import Attend, embedded, forward
from gptcli.engines.gpt2.on_torch.weights import Weights
from gptcli.errors import BadModel, UsageError
from gptcli.options import Filters
from gptcli.protocol import Engine, ModelInfo

LOGIT_ROWS = 64  # positions whose logits are computed at a time: 13 MB for GPT-2


@dataclass(frozen=True, eq=False)
class Tracer:
    """A model in float32, nothing packed, with its tokenizer."""

    info: ModelInfo
    tokenizer: Tokenizer
    weights: Weights

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        return self.weights.config.n_layer

    @property
    def heads(self) -> int:
        """How many heads a layer has."""
        return self.weights.config.n_head

    @property
    def filler(self) -> int:
        """The token that begins a text; 0 where the model has none."""
        begin = self.tokenizer.roles.begin
        return 0 if begin is None else begin


@dataclass(frozen=True)
class LensReadout:
    """The logit lens as numpy arrays; index 0 is the embeddings, index k + 1 is layer k.

    ids, logprobs: (L + 1, T, top), the likeliest tokens and their natural log-probabilities.
    ranks: (L + 1, T), of the token that the last layer finds likeliest.
    states: (L + 1, T, C), as transformers' `output_hidden_states`.
    """

    ids: Any
    logprobs: Any
    ranks: Any
    states: Any


@dataclass(frozen=True)
class Following:
    """The likeliest next tokens as (id, probability, probability after the filters), best first.

    remaining: how many of the vocabulary the filters leave; entropies in nats, before and after.
    temperatures: for each temperature T asked for (T, log sum_j exp(logprob_j / T), entropy).
    """

    rows: tuple[tuple[int, float, float], ...]
    remaining: int
    entropy: float
    kept_entropy: float
    temperatures: tuple[tuple[float, float, float], ...] = ()


def tracer(engine: Engine) -> Tracer:
    """The inside of an engine's model. Raises UsageError for any but the built-in engine."""
    if not isinstance(engine, GPT2Engine):
        raise UsageError(
            engine.info.name,
            f"only the inside of a GPT-2 that runs here can be shown, not of {_kind(engine.info)}",
            "Choose a GPT-2, such as -m gpt2; gptcli inspect TEXT works with any model.",
        )
    assert engine.info.folder is not None
    checked = inspect(engine.info.folder)
    assert checked.gpt2 is not None
    weights = Weights(checked.gpt2, checked, torch.device(engine.info.device), torch.float32)
    return Tracer(engine.info, engine.tokenizer, weights)


@torch.no_grad()
def attention(
    tracer: Tracer, ids: Sequence[int], layers: Sequence[int], heads: Sequence[int]
) -> Any:
    """Attention weights of the layers and heads asked for: numpy float32 (layers, heads, T, T).

    Row i holds how much token i looks at each token, as transformers' `attentions`. Raises BadModel
    where the numbers are not finite.
    """
    chosen = torch.tensor(list(heads), device=tracer.weights.device)
    kept: dict[int, Tensor] = {}

    def keep(layer: int, weights: Tensor) -> None:
        if layer in layers:
            kept[layer] = weights[chosen].cpu()

    forward(tracer.weights, embeddings(tracer, ids), _recording(tracer, keep))
    return sound(tracer, torch.stack([kept[layer] for layer in layers])).numpy()


@torch.no_grad()
def lens(tracer: Tracer, ids: Sequence[int], top: int) -> LensReadout:
    """The logit lens: the output head applied to the hidden states of every layer.

    Each state passes the final layer norm first; the last one has passed it already. Raises
    BadModel where the numbers are not finite.
    Source: nostalgebraist, "interpreting GPT: the logit lens", 2020.
    """
    kept: list[Tensor] = []
    forward(tracer.weights, embeddings(tracer, ids), attending(tracer, len(ids)), kept)
    states = sound(tracer, torch.stack(kept))
    final = torch.cat([part.argmax(-1) for part in _lens_logprobs(tracer, kept[-1], len(kept) - 1)])
    tops, ranks = [], []
    for layer, state in enumerate(kept):
        parts = zip(
            _lens_logprobs(tracer, state, layer), torch.split(final, LOGIT_ROWS), strict=True
        )
        for logprobs, best in parts:
            tops.append(logprobs.topk(min(top, logprobs.shape[-1])))
            ranks.append((logprobs > logprobs.gather(1, best[:, None])).sum(-1) + 1)
    shape = (len(kept), len(ids))
    values, found = (torch.cat(part).view(*shape, -1) for part in zip(*tops, strict=True))
    ranked = torch.cat(ranks).view(shape)
    return LensReadout(*(part.cpu().numpy() for part in (found, values, ranked, states)))


@torch.no_grad()
def following(
    tracer: Tracer,
    ids: Sequence[int],
    filters: Filters,
    count: int,
    temperatures: Sequence[float] = (),
) -> Following:
    """The distribution of the token after `ids`, what the filters leave, and other temperatures.

    Raises BadModel where the logits are not finite.
    """
    x = forward(tracer.weights, embeddings(tracer, ids), attending(tracer, len(ids)))
    logits = sound(tracer, tracer.weights.head(x[-1:]).float())
    probabilities = logits[0].softmax(-1)
    values, likeliest = probabilities.topk(min(count, len(probabilities)))
    filtered_values, filtered_ids = (part[0] for part in filtered(logits, filters))
    kept = torch.zeros_like(probabilities).scatter_(0, filtered_ids, filtered_values)
    rows = zip(likeliest.tolist(), values.tolist(), kept[likeliest].tolist(), strict=True)
    logprobs = logits[0].log_softmax(-1)
    return Following(
        tuple(rows),
        int((kept > 0).sum()),
        _entropy(probabilities),
        _entropy(kept),
        tuple(_at_temperature(logprobs, temperature) for temperature in temperatures),
    )


@torch.no_grad()
def outcome(tracer: Tracer, ids: Sequence[int], target: int | None) -> tuple[int, float]:
    """The token that may follow, the likeliest without a `target`, and its log-probability."""
    x = forward(tracer.weights, embeddings(tracer, ids), attending(tracer, len(ids)))
    logprobs = sound(tracer, tracer.weights.head(x[-1:]).float())[0].log_softmax(-1)
    id = int(logprobs.argmax()) if target is None else target
    return id, float(logprobs[id])


def _lens_logprobs(tracer: Tracer, state: Tensor, layer: int) -> Iterator[Tensor]:
    """Log-probabilities (N, vocab) from the states (T, C) of a layer; N is `LOGIT_ROWS` at most."""
    norm, epsilon = tracer.weights.ln_f, tracer.weights.config.layer_norm_epsilon
    for part in torch.split(state, LOGIT_ROWS):
        if layer < tracer.layers:
            part = F.layer_norm(part, part.shape[-1:], norm.weight, norm.bias, epsilon)
        yield tracer.weights.head(part).float().log_softmax(-1)


def _at_temperature(logprobs: Tensor, temperature: float) -> tuple[float, float, float]:
    """The temperature, log sum_j exp(logprob_j / T), and the entropy in nats."""
    scaled = logprobs / temperature
    return temperature, float(scaled.logsumexp(-1)), _entropy(scaled.softmax(-1))


def _entropy(probabilities: Tensor) -> float:
    """In nats; what has probability 0 adds nothing."""
    return float(torch.special.entr(probabilities).sum())


def embeddings(tracer: Tracer, ids: Sequence[int]) -> Tensor:
    """What goes into the first layer, (T, C)."""
    device = tracer.weights.device
    places = torch.arange(len(ids), device=device)
    return embedded(tracer.weights, torch.tensor(list(ids), device=device), places)


def attending(tracer: Tracer, length: int) -> Attend:
    """Causal attention of texts of `length` tokens, one after the other, each to itself.

    Without a cache, so that gradients can be taken.
    """
    config = tracer.weights.config

    def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
        q, k, v = (
            split_heads(part.reshape(-1, length, q.shape[-1]), config.n_head)
            for part in (q, *kv.chunk(2, -1))
        )
        scale = config.attention_scale(layer)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        return out.transpose(1, 2).flatten(2).flatten(0, 1)

    return attend


def _recording(tracer: Tracer, keep: Callable[[int, Tensor], None]) -> Attend:
    """As `attending` of one text, step by step; `keep` gets each layer's weights, (H, T, T)."""
    config = tracer.weights.config

    def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
        keys, values = kv.chunk(2, -1)
        q, k, v = (split_heads(part[None], config.n_head)[0] for part in (q, keys, values))
        scores = q @ k.transpose(-1, -2) * config.attention_scale(layer)
        future = torch.ones(len(kv), len(kv), dtype=torch.bool, device=kv.device).triu(1)
        weights = scores.masked_fill(future, -torch.inf).softmax(-1)
        keep(layer, weights)
        return (weights @ v).transpose(0, 1).flatten(1)

    return attend


def sound(tracer: Tracer, numbers: Tensor) -> Tensor:
    """The numbers as they are. Raises BadModel where one is NaN or infinite."""
    if not bool(numbers.isfinite().all()):
        why = "the model gave numbers that are not finite"
        raise BadModel(tracer.info.name, why, "Download or convert the checkpoint again")
    return numbers


def _kind(info: ModelInfo) -> str:
    return f"a {info.architecture}" if info.architecture != "gpt2" else "one that runs elsewhere"
