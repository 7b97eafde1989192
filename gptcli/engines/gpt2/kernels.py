"""A step of few tokens through all of a GPT-2 in one call, where its matrices are `PackedLinear`.

What `gptcli.engines.gpt2.network` does operation by operation, forward.c of `gptcli.native` does in
one go, all threads together: with weights of 8 bits the operations would take longer than reading
the weights. Embeddings come from torch, and sampling stays with it. Many tokens at a time go to
torch, whose attention is faster for them, and so do activations other than the tanh formula of
GELU.
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

ROWS = 64  # tokens of a step at most
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")  # names of one formula

_prepared: WeakKeyDictionary[Weights, WeakKeyDictionary[KVCache, NativeForward]] = (
    WeakKeyDictionary()
)


class NativeForward:
    """The steps of one GPT-2 with one cache; both have to be there as long as this is."""

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
        """As `network.forward_step`, with the tokens' embeddings x (N, C), which are changed."""
        slots, starts, firsts = array("q"), array("q"), array("q")
        for segment in segments:
            first = len(slots)
            slots.extend([segment.slot] * segment.length)
            starts.extend([segment.start] * segment.length)
            firsts.extend([first] * segment.length)
        places = array("q", wanted)
        logits = torch.empty(len(places), self._vocabulary)
        threads = threads_for(len(x) * self._parameters)
        team, model = self._library.team(threads), ctypes.byref(self._model)
        size = self._library.scratch_size(model, len(x), threads)
        self._library.forward_step(
            ctypes.byref(team),
            model,
            *(numbers.buffer_info()[0] for numbers in (slots, starts, firsts, places)),
            len(x),
            len(places),
            x.data_ptr(),
            logits.data_ptr(),
            scratch(size).data_ptr(),
        )
        return logits


def native_forward(weights: Weights, cache: KVCache, tokens: int) -> NativeForward | None:
    """What runs a step of so many tokens; None where operation by operation is the way."""
    if tokens > ROWS:
        return None
    of_caches = _prepared.get(weights)
    found = None if of_caches is None else of_caches.get(cache)
    if found is None:
        library, activation = native.library(), weights.config.activation_function
        if library is None or activation not in ACTIVATIONS or not weights.packed:
            return None
        found = NativeForward(library, weights, cache)
        _prepared.setdefault(weights, WeakKeyDictionary())[cache] = found
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
