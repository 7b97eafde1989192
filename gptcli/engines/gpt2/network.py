"""What the engine knows of a network: steps of tokens over a cache, and NumPy logits out of them.

Two networks fit: that of `gptcli.engines.gpt2.on_cpu`, with kernels in C, and that of
`gptcli.engines.gpt2.on_torch`. Which one is opened is decided in `gptcli.engines.placement`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.engines.decoding.segment import Segment

Logits = NDArray[np.float32]
"""Scores of the next token, (N, vocab) or (vocab,)."""


class Cache(Protocol):
    """Keys and values of `slots` sequences of up to `length` tokens.

    `cached_tokens`: the tokens whose keys and values each slot begins with; they stay after the
    sequence is released.
    """

    slots: int
    length: int
    cached_tokens: list[list[int]]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of slot `source` to slot `target`."""
        ...

    def clear(self, slot: int) -> None:
        """Empty a slot, whose values may not be finite."""
        ...

    def zero(self, slot: int, start: int, length: int) -> None:
        """Erase `length` tokens of a slot from `start` on, such as a rejected draft."""
        ...


class GPT2Network(Protocol):
    """A GPT-2 whose weights are in memory."""

    @property
    def config(self) -> GPT2Config:
        """Its architecture."""
        ...

    def new_cache(self, slots: int) -> Cache:
        """An empty cache for `slots` sequences, for this network alone."""
        ...

    # A network takes the caches that it makes, so the cache has no one type here.
    def forward_step(
        self,
        cache: Any,
        segments: Sequence[Segment],
        tokens: Sequence[int],
        wanted: Sequence[int] | None = None,
    ) -> Logits:
        """The forward pass of one step: the segments' tokens, (N,) in order, to logits (W, vocab).

        The logits are of the tokens at indices `wanted` (W,) of N, or of all: an array of float32
        in the machine's memory, which the caller may change. Each segment attends only to its own
        slot: the cached tokens before `start`, and itself. Segments may share a slot and a start:
        each sees only what is before, and the last one stays in the cache.
        """
        ...
