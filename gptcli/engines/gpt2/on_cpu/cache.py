"""The KV cache: keys and values of every sequence, in the layout that the kernels read.

It is allocated once and never grows, so a step allocates nothing. A sequence lives in a slot.
Not here: which sequence has which slot is in `gptcli.engines.gpt2.scheduler`.
"""

from __future__ import annotations

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.engines.gpt2.on_cpu.memory import address, cache_floats
from gptcli.native.structures import KEYS, CacheStruct


class CPUCache:
    """Keys and values of up to `slots` sequences of up to `length` tokens; see
    `gptcli.engines.gpt2.network.Cache`.

    keys: (layers, slots, H, blocks, D, `KEYS`), the keys of a block side by side, so that a vector
    of scores needs no sum across its lanes. values: (layers, slots, H, blocks x `KEYS`, D rounded
    up to `KEYS`).
    """

    def __init__(self, config: GPT2Config, slots: int) -> None:
        size = config.n_embd // config.n_head
        blocks = -(-config.n_positions // KEYS)
        shape = config.n_layer, slots, config.n_head
        self.keys = cache_floats((*shape, blocks, size, KEYS))
        self.values = cache_floats((*shape, blocks * KEYS, -(-size // KEYS) * KEYS))
        self.slots, self.length = slots, config.n_positions
        self.cached_tokens: list[list[int]] = [[] for _ in range(slots)]
        self.struct = CacheStruct(address(self.keys), address(self.values), slots, blocks * KEYS)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of slot `source` to slot `target`."""
        self.cached_tokens[target] = []  # an interruption must not leave old tokens with new values
        blocks = -(-length // KEYS)
        self.keys[:, target, :, :blocks] = self.keys[:, source, :, :blocks]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]
        self.cached_tokens[target] = self.cached_tokens[source][:length]

    def clear(self, slot: int) -> None:
        """Forget a slot. No row reads what lies behind its own position."""
        self.cached_tokens[slot] = []

    def zero(self, slot: int, start: int, length: int) -> None:
        """Nothing to do: no row reads what lies behind its own position."""
