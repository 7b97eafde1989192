"""A step of few tokens through all of a GPT-2 in one call, where its matrices are `Blocks`.

What `gptcli.engines.network` does operation by operation, forward.c of `gptcli.native` does in one
go, all threads together: with weights of 8 bits the operations would take longer than reading the
weights. Embeddings come from torch, and sampling stays with it. Left out: many tokens at a time,
whose attention is faster in torch; GPUs; activations other than the tanh formula of GELU.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from gptcli import native
from gptcli.engines.blocks import Blocks, address, scratch, threads_for
from gptcli.engines.cache import Cache
from gptcli.engines.segments import Segment
from gptcli.engines.weights import Block, Linear, Weights
from gptcli.engines.weights import Norm as Gains
from gptcli.native import Layer, Library, Matrix, Model, Norm

ROWS = 64  # tokens of a step at most
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")  # names of one formula


class Step:
    """Steps of one GPT-2 with one cache, both of which have to be there as long as this is."""

    def __init__(self, library: Library, weights: Weights, cache: Cache) -> None:
        config = weights.config
        self._library = library
        layers = [_layer(block, cache, place) for place, block in enumerate(weights.blocks)]
        self._layers = (Layer * len(layers))(*layers)
        self._model = Model(
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

    def run(self, segments: Sequence[Segment], x: Tensor, wanted: Sequence[int]) -> Tensor:
        """As `network.run`, with the tokens' embeddings x (N, C), which are changed."""
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
        size = self._library.scratch(model, len(x), threads)
        self._library.step(
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


def step(weights: Weights, cache: Cache, tokens: int) -> Step | None:
    """What runs a step of so many tokens; None where operation by operation is the way."""
    if tokens > ROWS:
        return None
    found = weights.steps.get(cache)
    if found is None:
        library, activation = native.library(), weights.config.activation_function
        if library is None or activation not in ACTIVATIONS or not weights.in_blocks:
            return None
        found = weights.steps[cache] = Step(library, weights, cache)
    return found


def _layer(block: Block, cache: Cache, place: int) -> Layer:
    return Layer(
        _norm(block.ln_1),
        _norm(block.ln_2),
        _matrix(block.attn),
        _matrix(block.attn_out),
        _matrix(block.fc),
        _matrix(block.proj),
        address(cache.kv[place]),
        cache.scales[place],
    )


def _norm(norm: Gains) -> Norm:
    return Norm(address(norm.weight), address(norm.bias))


def _matrix(linear: Linear) -> Matrix:
    assert isinstance(linear.product, Blocks)
    return linear.product.matrix
