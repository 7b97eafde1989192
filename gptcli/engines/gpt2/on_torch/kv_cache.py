"""The KV cache: keys and values of every sequence, in one block of memory.

It is allocated once and never grows, so a step allocates nothing. A sequence lives in a slot. Not
here: which sequence has which slot is in `gptcli.engines.gpt2.scheduler`.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from gptcli.checkpoints.architecture import GPT2Config


class KVCache:
    """Keys and values of up to `slots` sequences of up to n_positions tokens; see
    `gptcli.engines.gpt2.network.Cache`.

    kv: (layers, slots, 2, H, T, D), keys and values. What a head reads is contiguous, because
    memory pages are looked up one by one. It is zero where nothing was stored: values beyond the
    end of a shorter row are masked, but 0 x NaN is NaN.
    """

    def __init__(
        self, config: GPT2Config, slots: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        size = config.n_embd // config.n_head
        shape = (config.n_layer, slots, 2, config.n_head, config.n_positions, size)
        self.kv = _zeros(shape, device, dtype)
        self._flat = [kv.view(-1, size) for kv in self.kv]
        self._keys, self._values = self.kv.unbind(2)  # (layers, slots, H, T, D) each
        self.slots, self.length = slots, config.n_positions
        self.cached_tokens: list[list[int]] = [[] for _ in range(slots)]
        self.heads = config.n_head
        self.scales = [config.attention_scale(layer) for layer in range(config.n_layer)]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of slot `source` to slot `target`."""
        self.cached_tokens[target] = []  # an interruption must not leave old tokens with new values
        self.kv[:, target, ..., :length, :] = self.kv[:, source, ..., :length, :]
        self.cached_tokens[target] = self.cached_tokens[source][:length]

    def clear(self, slot: int) -> None:
        """Zero a slot, whose values may not be finite."""
        self.kv[:, slot] = 0
        self.cached_tokens[slot] = []

    def zero(self, slot: int, start: int, length: int) -> None:
        """Zero `length` tokens of a slot from `start` on, such as a rejected draft."""
        self.kv[:, slot, ..., start : start + length, :] = 0

    def views(self, slot: int, start: int, end: int) -> tuple[Tensor, ...]:
        """Views of each layer on the tokens `start` to `end` - 1 of a slot, for `store`."""
        return self.kv[:, slot, ..., start:end, :].unbind()

    def store(self, view: Tensor, kv: Tensor) -> None:
        """Store kv (T, 2C), keys and values side by side, in a layer's `view` (2, H, T, D)."""
        view.copy_(kv.view(len(kv), 2, self.heads, -1).permute(1, 2, 0, 3))

    def indices_of_each(self, tokens: Sequence[tuple[int, int]]) -> Tensor:
        """Indices of all heads of tokens at (slot, position), for `store_one_each`."""
        firsts = [slot * 2 * self.heads * self.length + position for slot, position in tokens]
        steps = torch.arange(2 * self.heads) * self.length
        return (torch.tensor(firsts)[:, None] + steps).flatten().to(self.kv.device)

    def store_one_each(self, layer: int, indices: Tensor, kv: Tensor) -> None:
        """Store kv (B, 2C), keys and values of B tokens side by side, in one layer."""
        self._flat[layer].index_copy_(0, indices, kv.reshape(len(indices), -1))

    def read(
        self, first: int, last: int, length: int
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Keys and values of each layer, slots first to last - 1: views (B, H, length, D)."""
        index = slice(None), slice(first, last), slice(None), slice(length)
        return self._keys[index].unbind(), self._values[index].unbind()


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, C) -> (B, H, T, C / H), a view."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """torch.zeros; on a CPU memory is taken page by page, when it is written."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    # Private: by default a forked child and its parent would write into the same cache.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize, **private)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            # A huge page would take 2 MB for the first token of every slot and layer.
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
