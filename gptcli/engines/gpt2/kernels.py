"""The forward pass of a few tokens in one native call, where all matrices are `PackedLinear`.

`gptcli.engines.gpt2.network` runs the network operation by operation; forward.c of `gptcli.native`
runs it in one call on all threads. With 8-bit weights the dispatch of single operations would take
longer than reading the weights. Embeddings and sampling stay in torch. Steps of many tokens stay
there too, because its attention is faster for them, and so do activations other than tanh GELU.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gptcli import native
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.gpt2.kv_cache import KVCache
from gptcli.engines.gpt2.packed_linear import PackedLinear, address, scratch, threads_for
from gptcli.engines.gpt2.weights import Layer, Norm, StagedLinear, Weights

MAX_STEP_TOKENS = 64
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")  # names of the tanh formula of GELU

_forwards: WeakKeyDictionary[Weights, WeakKeyDictionary[KVCache, NativeForward]] = (
    WeakKeyDictionary()
)


class NativeForward:
    """The native forward pass of one GPT-2 with one KV cache; holds addresses of both."""

    def __init__(self, library: native.Library, weights: Weights, cache: KVCache) -> None:
        config = weights.config
        self._library = library
        layers = [_layer(layer, cache, place) for place, layer in enumerate(weights.layers)]
        self._layers = (native.LayerStruct * len(layers))(*layers)
        self._model = native.ModelStruct(
            self._layers,
            _norm(weights.ln_f),
            _matrix(weights.head),
            len(layers),
            config.n_embd,
            config.inner,
            config.n_head,
            cache.length,
            config.layer_norm_epsilon,
        )
        self._vocabulary, self._parameters = config.vocab_size, config.parameters

    def forward_step(self, segments: Sequence[Segment], x: Tensor, wanted: Sequence[int]) -> Tensor:
        """As `network.forward_step`, for embeddings x (N, C), which are changed in place."""
        slots, starts, firsts = array("q"), array("q"), array("q")
        for segment in segments:
            first = len(slots)
            slots.extend([segment.slot] * segment.length)
            starts.extend([segment.start] * segment.length)
            firsts.extend([first] * segment.length)
        rows = array("q", wanted)
        logits = torch.empty(len(rows), self._vocabulary)
        threads = threads_for(len(x) * self._parameters)
        team, model = self._library.team(threads), ctypes.byref(self._model)
        size = self._library.scratch_size(model, len(x), threads)
        self._library.forward_step(
            ctypes.byref(team),
            model,
            *(numbers.buffer_info()[0] for numbers in (slots, starts, firsts, rows)),
            len(x),
            len(rows),
            x.data_ptr(),
            logits.data_ptr(),
            scratch(size).data_ptr(),
        )
        return logits


def native_forward(weights: Weights, cache: KVCache, tokens: int) -> NativeForward | None:
    """The native pass for a step of `tokens` tokens; None where torch runs the operations."""
    if tokens > MAX_STEP_TOKENS:
        return None
    of_caches = _forwards.get(weights)
    found = None if of_caches is None else of_caches.get(cache)
    if found is None:
        library, activation = native.library(), weights.config.activation_function
        if library is None or activation not in ACTIVATIONS or not weights.packed:
            return None
        found = NativeForward(library, weights, cache)
        _forwards.setdefault(weights, WeakKeyDictionary())[cache] = found
    return found


def _layer(layer: Layer, cache: KVCache, place: int) -> native.LayerStruct:
    return native.LayerStruct(
        _norm(layer.ln_1),
        _norm(layer.ln_2),
        _matrix(layer.attn),
        _matrix(layer.attn_out),
        _matrix(layer.fc),
        _matrix(layer.proj),
        address(cache.kv[place]),
        cache.scales[place],
    )


def _norm(norm: Norm) -> native.NormStruct:
    return native.NormStruct(address(norm.weight), address(norm.bias))


def _matrix(linear: StagedLinear) -> native.MatrixStruct:
    assert isinstance(linear.current, PackedLinear)
    return linear.current.matrix
