"""The KV cache: keys and values of every sequence, in one block of memory.

It is allocated once and never grows, so that a step allocates nothing; a sequence lives in a slot
of it. Which sequence that is, is `gptcli.engines.gpt2.scheduler`' business.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from gptcli.checkpoints.architecture import GPT2Config


class KVCache:
    """Keys and values of up to `slots` sequences of up to n_positions tokens.

    kv: (layers, slots, 2, H, T, D), keys and values; what a head reads lies together, for pages
    of memory are looked up one by one. It is zero where nothing was written: what lies behind a
    shorter row's end is masked, but 0 x NaN would not be. `held`: the tokens whose keys and values
    each slot begins with; they stay when a sequence has left.
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
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.heads = config.n_head
        self.scales = [config.attention_scale(layer) for layer in range(config.n_layer)]

    def copy(self, source: int, target: int, length: int) -> None:
        """Let slot `target` begin with the first `length` tokens of slot `source`."""
        self.held[target] = []  # an interruption must not leave old tokens with new numbers
        self.kv[:, target, ..., :length, :] = self.kv[:, source, ..., :length, :]
        self.held[target] = self.held[source][:length]

    def clear(self, slot: int) -> None:
        """Forget a slot whose numbers are not finite."""
        self.kv[:, slot] = 0
        self.held[slot] = []

    def blank(self, slot: int, start: int, length: int) -> None:
        """Zero `length` tokens of a slot from `start` on, which turned out not to belong there."""
        self.kv[:, slot, ..., start : start + length, :] = 0

    def places(self, slot: int, start: int, end: int) -> tuple[Tensor, ...]:
        """Where each layer keeps the tokens from `start` to `end` - 1 of a slot, for `put`."""
        return self.kv[:, slot, ..., start:end, :].unbind()

    def put(self, places: Tensor, kv: Tensor) -> None:
        """Store kv (T, 2C), keys and values side by side, at a layer's `places` (2, H, T, D)."""
        places.copy_(kv.view(len(kv), 2, self.heads, -1).permute(1, 2, 0, 3))

    def places_of_each(self, tokens: Sequence[tuple[int, int]]) -> Tensor:
        """Where the heads of tokens at (slot, position) are kept, for `put_one_each`."""
        firsts = [slot * 2 * self.heads * self.length + position for slot, position in tokens]
        steps = torch.arange(2 * self.heads) * self.length
        return (torch.tensor(firsts)[:, None] + steps).flatten().to(self.kv.device)

    def put_one_each(self, layer: int, places: Tensor, kv: Tensor) -> None:
        """Store kv (B, 2C), keys and values of B tokens side by side, in one layer."""
        self._flat[layer].index_copy_(0, places, kv.reshape(len(places), -1))

    def read(
        self, first: int, last: int, length: int
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Each layer's keys and values of slots first to last - 1, (B, H, length, D), views."""
        place = slice(None), slice(first, last), slice(None), slice(length)
        return self._keys[place].unbind(), self._values[place].unbind()


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, C) -> (B, H, T, C / H), a view."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


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
