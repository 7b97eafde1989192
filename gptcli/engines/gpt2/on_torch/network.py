"""GPT-2's forward pass in torch, over a preallocated KV cache.

The tokens of all sequences stand in one dimension N without padding. So the matrix products see
only real tokens, whether a step is one token of each of 16 sequences, a part of a long prompt, a
draft to verify, or all of them. Only attention knows which token belongs to which sequence. It is
passed in as a function, so the network is written once. Radford et al. 2019; tensor names are those
of Hugging Face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.gpt2.network import Logits
from gptcli.engines.gpt2.on_torch.kv_cache import KVCache, split_heads
from gptcli.engines.gpt2.on_torch.weights import Norm, Weights

Attend = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, q (N, C), kv (N, 2C)) -> (N, C)"""

# Cost of one more call of attention, as a number of keys that could be read in that time.
ATTENTION_CALL_KEYS = 64

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_fast": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def embedded(weights: Weights, tokens: Tensor, positions: Tensor) -> Tensor:
    """Input of the first layer, (N, C), for tokens (N,) at positions (N,)."""
    wte, wpe = F.embedding(tokens, weights.wte), F.embedding(positions, weights.wpe)
    return wte.to(weights.dtype) + wpe


def forward(
    weights: Weights, x: Tensor, attend: Attend, states: list[Tensor] | None = None
) -> Tensor:
    """The final hidden states, (N, C), for embeddings x (N, C).

    `states` collects the input of each layer and the final output, as transformers'
    `output_hidden_states`. Nothing is changed in place, so that gradients can be taken.
    """
    epsilon = weights.config.layer_norm_epsilon
    activation = ACTIVATIONS[weights.config.activation_function]
    width = weights.config.n_embd

    def normed(x: Tensor, norm: Norm) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, epsilon)

    for number, layer in enumerate(weights.layers):
        if states is not None:
            states.append(x)
        qkv = layer.attn(normed(x, layer.ln_1))
        x = x + layer.attn_out(attend(number, qkv[:, :width], qkv[:, width:]))
        x = x + layer.proj(activation(layer.fc(normed(x, layer.ln_2))))
    x = normed(x, weights.ln_f)
    if states is not None:
        states.append(x)
    return x


class TorchNetwork:
    """A GPT-2 in torch; see `gptcli.engines.gpt2.network.GPT2Network`."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    @property
    def config(self) -> GPT2Config:
        """See `GPT2Network.config`."""
        return self.weights.config

    def new_cache(self, slots: int) -> KVCache:
        """See `GPT2Network.new_cache`."""
        return KVCache(self.config, slots, self.weights.device, self.weights.dtype)

    @torch.inference_mode()
    def forward_step(
        self,
        cache: KVCache,
        segments: Sequence[Segment],
        tokens: Sequence[int],
        wanted: Sequence[int] | None = None,
    ) -> Logits:
        """See `GPT2Network.forward_step`."""
        rows = range(len(tokens)) if wanted is None else wanted
        if not tokens:
            return np.empty((0, self.config.vocab_size), np.float32)
        x = self._states(cache, segments, tokens)
        if not rows:
            return np.empty((0, self.config.vocab_size), np.float32)
        if len(rows) < len(tokens):
            x = x[torch.tensor(rows, device=x.device)]
        logits: Logits = self.weights.head(x).float().cpu().numpy()
        return logits

    def _states(self, cache: KVCache, segments: Sequence[Segment], tokens: Sequence[int]) -> Tensor:
        """The final hidden states of the tokens, (N, C)."""
        weights, device = self.weights, self.weights.device
        places = chain.from_iterable(range(segment.start, segment.end) for segment in segments)
        positions = torch.tensor(list(places), device=device)
        x = embedded(weights, torch.tensor(tokens, device=device), positions)
        groups = [_AttentionGroup(cache, weights, few, first) for first, few in _grouped(segments)]

        def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
            if len(groups) == 1:
                return groups[0].attend(layer, q, kv)
            return torch.cat([group.attend(layer, q[group.own], kv[group.own]) for group in groups])

        return forward(weights, x, attend)


class _AttentionGroup:
    """Segments whose attention is one call: one of any length, or several of one token.

    Several are in adjacent slots. What does not depend on the layer is computed once.
    """

    def __init__(
        self, cache: KVCache, weights: Weights, segments: Sequence[Segment], first: int
    ) -> None:
        head, count = segments[0], len(segments)
        self._cache, self._count = cache, count
        length = max(segment.end for segment in segments)
        self._keys, self._values = cache.read(head.slot, head.slot + count, length)
        self.own = slice(first, first + sum(segment.length for segment in segments))
        self._causal = count == 1 and head.start == 0
        self._mask = None if self._causal else _mask(segments, weights.dtype, weights.device)
        if count == 1:
            self._views = cache.views(head.slot, head.start, head.end)
        else:
            tokens = [(segment.slot, segment.start) for segment in segments]
            self._indices = cache.indices_of_each(tokens)

    def attend(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        """Causal attention of the group's queries, (N, C) -> (N, C); kv (N, 2C) is stored."""
        cache = self._cache
        if self._count == 1:
            cache.store(self._views[layer], kv)
        else:
            cache.store_one_each(layer, self._indices, kv)
        out = F.scaled_dot_product_attention(
            split_heads(q.view(self._count, -1, q.shape[-1]), cache.heads),
            self._keys[layer],
            self._values[layer],
            attn_mask=self._mask,
            is_causal=self._causal,
            scale=cache.scales[layer],
        )
        return out.transpose(1, 2).reshape(q.shape)


def _grouped(segments: Sequence[Segment]) -> Iterator[tuple[int, list[Segment]]]:
    """The groups of a step, each with the index of its first token."""
    place = 0
    for run in _runs(segments):
        for few in _split(run):
            yield place, few
            place += sum(segment.length for segment in few)


def _runs(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Runs of segments of one token in adjacent slots; every other segment alone."""
    run: list[Segment] = []
    for segment in segments:
        last = run[-1] if run else segment
        adjacent = segment.length == last.length == 1 and segment.slot == last.slot + 1
        if run and not adjacent:
            yield run
            run = []
        run.append(segment)
    if run:
        yield run


def _split(run: list[Segment]) -> list[list[Segment]]:
    """One call of attention for a run, or one a segment, whichever is cheaper.

    One call for all reads every slot up to the longest; a call for each costs its dispatch.
    """
    ends = [segment.end for segment in run]
    if len(ends) * max(ends) <= sum(ends) + ATTENTION_CALL_KEYS * len(ends):
        return [run]
    return [[segment] for segment in run]


def _mask(segments: Sequence[Segment], dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Additive attention mask: 0 where a token may attend, else -inf; None where it always may.

    (T, start + T) for one segment, (B, 1, 1, longest end) for B of one token.
    """
    ends = torch.tensor([s.start + 1 + place for s in segments for place in range(s.length)])
    longest = int(ends[-1]) if len(segments) == 1 else int(ends.max())
    if bool((ends == longest).all()):
        return None
    mask = torch.zeros(len(ends), longest, dtype=dtype)
    mask.masked_fill_(torch.arange(longest) >= ends[:, None], -torch.inf)
    if len(segments) > 1:
        mask = mask[:, None, None]
    return mask.to(device)
