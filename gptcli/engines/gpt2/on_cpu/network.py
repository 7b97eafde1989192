"""GPT-2's forward pass on a CPU: one native call a step, or a few where it takes long.

The tokens of all sequences stand in one dimension N without padding, whether a step is one token of
each of 16 sequences, a part of a long prompt, a draft to verify, or all of them. Radford et al.
2019; tensor names are those of Hugging Face.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from gptcli.engines.decoding.segment import Segment
from gptcli.engines.gpt2.on_cpu.cache import CPUCache
from gptcli.engines.gpt2.on_cpu.memory import Floats, address, scratch
from gptcli.engines.gpt2.on_cpu.weights import CPUWeights
from gptcli.native import Library
from gptcli.native.structures import SegmentStruct

OPS_PER_THREAD = 4_000_000  # multiply-adds: about a quarter of a millisecond
OPS_PER_CALL = 20_000_000_000  # about half a second on two cores: Python waits with an interrupt


class CPUNetwork:
    """A GPT-2 on up to `threads` threads; see `gptcli.engines.gpt2.network.GPT2Network`."""

    def __init__(self, library: Library, weights: CPUWeights, threads: int) -> None:
        self.config = weights.config
        self._library, self._weights, self._threads = library, weights, threads
        self._parameters = self.config.parameters  # counted once: that takes a while

    def new_cache(self, slots: int) -> CPUCache:
        """An empty KV cache for `slots` sequences."""
        return CPUCache(self.config, slots)

    def forward_step(
        self,
        cache: CPUCache,
        segments: Sequence[Segment],
        tokens: Sequence[int],
        wanted: Sequence[int] | None = None,
    ) -> Floats:
        """See `GPT2Network.forward_step`."""
        _check(cache, segments, len(tokens))
        rows = np.arange(len(tokens)) if wanted is None else _indices(wanted, len(tokens))
        logits = np.empty((len(rows), self.config.vocab_size), np.float32)
        if not tokens:
            return logits
        places = chain.from_iterable(range(segment.start, segment.end) for segment in segments)
        x = self._weights.wte.rows(np.array(tokens, np.int64))
        x += self._weights.wpe[np.fromiter(places, np.int64, len(tokens))]
        structs = self._structs(segments)
        model, held = ctypes.byref(self._weights.struct), ctypes.byref(cache.struct)
        threads = self._threads_for(len(tokens))
        size = self._library.scratch_size(model, held, structs, len(structs), len(tokens), threads)
        memory = scratch(size)
        count, together = self.config.n_layer, self._layers_per_call(len(tokens))
        for first in range(0, count, together):
            self._library.forward_step(
                *(model, held, structs, len(structs), address(rows), len(tokens), len(rows)),
                *(address(x), address(logits), address(memory), threads),
                *(first, min(first + together, count)),
            )
        return logits

    def _structs(self, segments: Sequence[Segment]) -> ctypes.Array[SegmentStruct]:
        """The segments. Of several that continue one slot the last writes into the cache."""
        found = (SegmentStruct * len(segments))()
        last = {segment.slot: place for place, segment in enumerate(segments)}
        first = own = 0
        for place, (segment, struct) in enumerate(zip(segments, found, strict=True)):
            struct.slot, struct.start, struct.length = segment.slot, segment.start, segment.length
            struct.first, struct.own = first, -1
            first += segment.length
            if last[segment.slot] != place:
                struct.own = own
                own += self._library.own_floats(
                    ctypes.byref(self._weights.struct), ctypes.byref(struct)
                )
        return found

    def _threads_for(self, tokens: int) -> int:
        """How many threads a step pays for: on a busy machine threads wait."""
        return max(1, min(self._threads, tokens * self._parameters // OPS_PER_THREAD))

    def _layers_per_call(self, tokens: int) -> int:
        calls = -(-tokens * self._parameters // OPS_PER_CALL)
        return -(-self.config.n_layer // calls)


# The kernels trust what they are given: what does not fit must not reach them.


def _check(cache: CPUCache, segments: Sequence[Segment], tokens: int) -> None:
    """Raises IndexError for segments that are not those of the tokens, or not in the cache."""
    sound = all(
        segment.length >= 0
        and 0 <= segment.start <= segment.end <= cache.length
        and 0 <= segment.slot < cache.slots
        for segment in segments
    )
    if not sound or sum(segment.length for segment in segments) != tokens:
        raise IndexError(f"{segments} are not {tokens} tokens in {cache.slots} slots")


def _indices(wanted: Sequence[int], tokens: int) -> NDArray[np.int64]:
    """The rows whose logits are wanted. Raises IndexError for more than the tokens, or others."""
    rows = np.array(wanted, np.int64)
    if len(rows) > tokens or (len(rows) and not 0 <= rows.min() <= rows.max() < tokens):
        raise IndexError(f"{wanted} are not rows of {tokens}")
    return rows
