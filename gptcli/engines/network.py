"""GPT-2's forward pass over a preallocated KV cache.

Tokens of all sequences stand in one row dimension N without padding: the matrix products see only
real tokens, whether a step is one token of each of 16 sequences or a few prompts at once. Attention
alone knows which token belongs to which sequence; it is passed in as a function, so the network is
written once for prefill and decode. Radford et al. 2019; tensor names are those of Hugging Face.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from gptcli.architecture import GPT2Config
from gptcli.engines.weights import Norm, Weights

Attend = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, q (N, C), kv (N, 2C)) -> (N, C)"""

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


@dataclass(frozen=True)
class Segment:
    """`length` new tokens of the sequence in `slot`, after `start` tokens already in the cache."""

    slot: int
    start: int
    length: int


class Cache:
    """Keys and values of up to `slots` sequences of up to n_positions tokens.

    kv: (layers, slots, T, 2C), a token's key and value side by side; zero where nothing was
    written: what lies behind a shorter row's end is masked, but 0 x NaN would not be. `held`: the
    tokens whose keys and values each slot begins with; they stay when a sequence has left.
    """

    def __init__(
        self, config: GPT2Config, slots: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (config.n_layer, slots, config.n_positions, 2 * config.n_embd)
        self.kv = _zeros(shape, device, dtype)
        self.slots, self.length = slots, config.n_positions
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.heads = config.n_head
        self.scales = [config.attention_scale(layer) for layer in range(config.n_layer)]

    def copy(self, source: int, target: int, length: int) -> None:
        """Let slot `target` begin with the first `length` tokens of slot `source`."""
        self.kv[:, target, :length] = self.kv[:, source, :length]
        self.held[target] = self.held[source][:length]

    def clear(self, slot: int) -> None:
        """Forget a slot whose numbers are not finite."""
        self.kv[:, slot] = 0
        self.held[slot] = []

    def put(self, layer: int, segment: Segment, kv: Tensor) -> None:
        """Store kv (T, 2C) of one layer for a segment."""
        end = segment.start + segment.length
        self.kv[layer, segment.slot, segment.start : end] = kv

    def write(self, layer: int, where: Tensor, kv: Tensor) -> None:
        """Store kv (N, 2C) of one layer at the flat places `where` = slot * T + position, (N,)."""
        self.kv[layer].flatten(0, 1).index_copy_(0, where, kv)

    def read(self, layer: int, first: int, last: int, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of slots first to last - 1, (B, H, length, D) each, as views."""
        k, v = self.kv[layer, first:last, :length].chunk(2, dim=-1)
        return split_heads(k, self.heads), split_heads(v, self.heads)


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """torch.zeros; on a CPU memory is taken page by page, where it is written to."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            # A huge page would take 2 MB for the first token of every slot and layer.
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, C) -> (B, H, T, C / H), a view."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


@torch.inference_mode()
def forward(weights: Weights, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
    """The final hidden states, (N, C), of tokens (N,) at positions (N,)."""
    epsilon = weights.config.layer_norm_epsilon
    activation = ACTIVATIONS[weights.config.activation_function]
    width = weights.config.n_embd

    def normed(x: Tensor, norm: Norm) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, epsilon)

    x = F.embedding(tokens, weights.wte).to(weights.dtype) + F.embedding(positions, weights.wpe)
    for layer, block in enumerate(weights.blocks):
        qkv = block.attn(normed(x, block.ln_1))
        q, kv = qkv.tensor_split((width,), dim=-1)
        x = x + block.attn_out(attend(layer, q, kv))
        x = x + block.proj(activation(block.fc(normed(x, block.ln_2))))
    return normed(x, weights.ln_f)


@torch.inference_mode()
def prefill(
    weights: Weights,
    cache: Cache,
    segments: Sequence[Segment],
    tokens: Sequence[int],
    every: bool = False,
) -> Tensor:
    """Run the segments' tokens, (N,) in their order, and return each one's last logits, (S, vocab).

    Each segment attends to its own slot alone: what the cache holds before `start`, and itself.
    Segments may share a slot and a start: each is alone with what is before, and the last stays in
    the cache. With `every`, the logits of all tokens come back, (N, vocab).
    """
    device = weights.device
    positions = torch.cat([torch.arange(s.start, s.start + s.length) for s in segments]).to(device)
    ends = list(accumulate(segment.length for segment in segments))
    masks = [_continuing(segment, device) for segment in segments]

    def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
        out = torch.empty_like(q)
        for segment, end, mask in zip(segments, ends, masks, strict=True):
            own = slice(end - segment.length, end)
            cache.put(layer, segment, kv[own])
            out[own] = _attend_segment(cache, layer, segment, q[own], mask)
        return out

    x = forward(weights, torch.tensor(tokens, device=device), positions, attend)
    if not every:
        x = x[torch.tensor(ends, device=device) - 1]
    return weights.head(x).float()


def _continuing(segment: Segment, device: torch.device) -> Tensor | None:
    """(T, start + T), true where a token may look; None where that needs no saying."""
    if segment.start == 0 or segment.length == 1:
        return None
    shape = (segment.length, segment.start + segment.length)
    return torch.ones(shape, dtype=torch.bool, device=device).tril(segment.start)


def _attend_segment(
    cache: Cache, layer: int, segment: Segment, q: Tensor, mask: Tensor | None
) -> Tensor:
    """Causal attention of one segment's queries, (T, C) -> (T, C)."""
    slot, total = segment.slot, segment.start + segment.length
    k, v = cache.read(layer, slot, slot + 1, total)
    out = F.scaled_dot_product_attention(
        split_heads(q[None], cache.heads),
        k,
        v,
        attn_mask=mask,
        is_causal=segment.start == 0,
        scale=cache.scales[layer],
    )
    return out[0].transpose(0, 1).flatten(1)


@torch.inference_mode()
def decode(weights: Weights, cache: Cache, tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """Run one token of each slot 0..B-1, after the lengths[i] in its cache; logits (B, vocab)."""
    device, rows = weights.device, len(tokens)
    positions = torch.tensor(lengths, device=device)
    where = torch.arange(rows, device=device) * cache.length + positions
    groups = _groups(lengths)
    masks = [_mask(lengths[first:last], positions[first:last]) for first, last in groups]

    def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
        cache.write(layer, where, kv)
        parts = []
        for (first, last), mask in zip(groups, masks, strict=True):
            keys, values = cache.read(layer, first, last, max(lengths[first:last]) + 1)
            part = F.scaled_dot_product_attention(
                split_heads(q[first:last, None], cache.heads),
                keys,
                values,
                attn_mask=mask,
                scale=cache.scales[layer],
            )
            parts.append(part.transpose(1, 2).flatten(1))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    x = forward(weights, torch.tensor(tokens, device=device), positions, attend)
    return weights.head(x).float()


def _groups(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Split slots 0..B-1 into runs (first, last) whose attention is computed in one call.

    One call for all reads every slot as far as the longest; a call for each costs its dispatch,
    about as long as reading 64 tokens. The cheaper of the two is taken.
    """
    rows = len(lengths)
    together = rows * max(lengths)
    if rows == 1 or together <= sum(lengths) + 64 * rows:
        return [(0, rows)]
    return [(row, row + 1) for row in range(rows)]


def _mask(lengths: Sequence[int], positions: Tensor) -> Tensor | None:
    """(B, 1, 1, longest + 1), true where a slot holds a token; None if all are equally long."""
    longest = max(lengths)
    if min(lengths) == longest:
        return None
    places = torch.arange(longest + 1, device=positions.device)
    return (places <= positions[:, None])[:, None, None]
