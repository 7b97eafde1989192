"""The inside of a GPT-2 while it reads one text: attention, hidden states, the next token.

The numbers are those of `gptcli.engines.gpt2.reference`, which reads the checkpoint in float32: the
weights of the engine may be quantised, or packed. To map a file twice costs nothing. torch is not
imported.
Not here: gradients are in `gptcli.engines.gpt2.attribution`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptcli.checkpoints.adapters.opened import inspect_adapted
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding.sampler import filtered
from gptcli.engines.gpt2.reference import Array, ReferenceNetwork, softmax
from gptcli.errors import BadModel, UsageError
from gptcli.options import Filters
from gptcli.protocol import Engine, ModelInfo

LOGIT_ROWS = 64  # positions whose logits are computed at a time: 13 MB for GPT-2


@dataclass(frozen=True, eq=False)
class Tracer:
    """A model in float32 with its tokenizer."""

    info: ModelInfo
    tokenizer: Tokenizer
    checked: CheckedCheckpoint
    network: ReferenceNetwork

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        return self.network.config.n_layer

    @property
    def heads(self) -> int:
        """How many heads a layer has."""
        return self.network.config.n_head

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
    """The inside of an engine's model. Raises UsageError unless that is a GPT-2 on this disk.

    The checkpoint is checked again: raises MissingInput, BadModel as
    `gptcli.checkpoints.preflight.inspect`.
    """
    info = engine.info
    checked = info.folder and inspect_adapted(info.folder, info.adapted.adapters, info.name)[0]
    if not checked or checked.gpt2 is None:
        raise UsageError(
            engine.info.name,
            f"only the inside of a GPT-2 that runs here can be shown, not of {_kind(engine.info)}",
            "Choose a GPT-2, such as -m gpt2; gptcli inspect TEXT works with any model.",
        )
    network = ReferenceNetwork(checked.gpt2, checked)
    return Tracer(engine.info, engine.tokenizer, checked, network)


def attention(
    tracer: Tracer, ids: Sequence[int], layers: Sequence[int], heads: Sequence[int]
) -> Array:
    """Attention weights of the layers and heads asked for: (layers, heads, T, T).

    Row i holds how much token i looks at each token, as transformers' `attentions`. Raises BadModel
    where the numbers are not finite.
    """
    chosen_layers, chosen_heads = np.asarray(layers), np.asarray(heads)
    found = np.empty((len(layers), len(heads), len(ids), len(ids)), np.float32)

    def keep(layer: int, head: int, weights: Array) -> None:
        found[np.ix_(chosen_layers == layer, chosen_heads == head)] = weights

    tracer.network.final(ids, keep)
    sound(tracer, found)
    return found


def lens(tracer: Tracer, ids: Sequence[int], top: int) -> LensReadout:
    """The logit lens: the output head applied to the hidden states of every layer.

    Each state passes the final layer norm first; the last one has passed it already. Raises
    BadModel where the numbers are not finite.
    Source: nostalgebraist, "interpreting GPT: the logit lens", 2020.
    """
    config = tracer.network.config
    states = np.empty((config.n_layer + 1, len(ids), config.n_embd), np.float32)
    for depth, state in enumerate(tracer.network.states(ids)):
        states[depth] = state
    sound(tracer, states)
    final = np.concatenate([part.argmax(-1) for part in _lens_logits(tracer, states, -1)])
    shape = (*states.shape[:2], min(top, config.vocab_size))
    found = np.empty(shape, np.int64)
    logprobs = np.empty(shape, np.float32)
    ranks = np.empty(shape[:2], np.int64)
    for depth in range(len(states)):
        for number, logits in enumerate(_lens_logits(tracer, states, depth)):
            here = slice(number * LOGIT_ROWS, number * LOGIT_ROWS + len(logits))
            best = np.take_along_axis(logits, final[here, None], 1)
            ranks[depth, here] = (logits > best).sum(-1) + 1
            found[depth, here] = likeliest = _top(logits, top)
            values = np.take_along_axis(logits, likeliest, 1)
            logprobs[depth, here] = values - _log_partition(logits)
    return LensReadout(found, logprobs, ranks, states)


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
    logits = _next_logits(tracer, ids)
    probabilities = softmax(logits[0])
    [likeliest] = _top(logits, count)
    kept = _kept(logits, filters)
    rows = zip(
        likeliest.tolist(),
        probabilities[likeliest].tolist(),
        kept[likeliest].tolist(),
        strict=True,
    )
    [logprobs] = logits - _log_partition(logits)
    return Following(
        tuple(rows),
        int((kept > 0).sum()),
        _entropy(probabilities),
        _entropy(kept),
        tuple(_at_temperature(logprobs, temperature) for temperature in temperatures),
    )


def outcome(tracer: Tracer, ids: Sequence[int], target: int | None) -> tuple[int, float]:
    """The token that may follow, the likeliest without a `target`, and its log-probability."""
    logits = _next_logits(tracer, ids)
    [logprobs] = logits - _log_partition(logits)
    id = int(logprobs.argmax()) if target is None else target
    return id, float(logprobs[id])


def sound(tracer: Tracer, numbers: NDArray[Any]) -> None:
    """Raises BadModel where one of the numbers is NaN or infinite."""
    if not all(np.isfinite(part).all() for part in numbers):  # part by part: they may fill a GiB
        why = "the model gave numbers that are not finite"
        raise BadModel(tracer.info.name, why, "Download or convert the checkpoint again")


def _next_logits(tracer: Tracer, ids: Sequence[int]) -> Array:
    """The logits of the token after `ids`, (1, vocab). Raises BadModel."""
    logits = tracer.network.logits(tracer.network.final(ids)[-1:])
    sound(tracer, logits)
    return logits


def _lens_logits(tracer: Tracer, states: Array, depth: int) -> Iterator[Array]:
    """Logits (N, vocab) from the states of a depth, of -1 for the last; N is `LOGIT_ROWS` at most.

    states: (L + 1, T, C).
    """
    network, last = tracer.network, depth in (-1, len(states) - 1)
    for begin in range(0, states.shape[1], LOGIT_ROWS):
        part = states[depth, begin : begin + LOGIT_ROWS]
        yield network.logits(part if last else network.normed(part))


def _kept(logits: Array, filters: Filters) -> Array:
    """What the filters make of the next token's probabilities, (vocab,); 0 where they drop it."""
    values, ids = filtered(logits[0], filters)
    kept = np.zeros(logits.shape[-1], np.float32)
    kept[ids] = values
    return kept


def _top(logits: Array, count: int) -> NDArray[np.int64]:
    """The ids of the `count` highest logits of each row, best first; of equals the lowest id."""
    size = logits.shape[-1]
    count = min(count, size)
    found = np.argpartition(logits, size - count, axis=-1)[:, size - count :]
    found.sort(-1)
    order = np.argsort(-np.take_along_axis(logits, found, -1), axis=-1, kind="stable")
    return np.take_along_axis(found, order, -1)


def _log_partition(scores: Array) -> Array:
    """log sum exp of each row, (N, 1)."""
    best = scores.max(-1, keepdims=True)
    found: Array = best + np.log(np.exp(scores - best).sum(-1, keepdims=True))
    return found


def _at_temperature(logprobs: Array, temperature: float) -> tuple[float, float, float]:
    """The temperature, log sum_j exp(logprob_j / T), and the entropy in nats."""
    scaled = logprobs / temperature
    return temperature, float(_log_partition(scaled)[0]), _entropy(softmax(scaled))


def _entropy(probabilities: Array) -> float:
    """In nats; what has probability 0 adds nothing."""
    some = probabilities[probabilities > 0]
    return float(-(some * np.log(some)).sum())


def _kind(info: ModelInfo) -> str:
    return f"a {info.architecture}" if info.architecture != "gpt2" else "one that runs elsewhere"
