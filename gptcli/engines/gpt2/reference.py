"""GPT-2's forward pass in NumPy and float32, as plain as it can be written.

It shows what is inside a model (`gptcli.engines.gpt2.tracing`), and faster networks are compared
with it. There is no cache and no batch: a call reads one text from its beginning. Weights are views
of the mapped files; those stored in another data type are converted when a layer needs them, and
dropped after it. Radford et al. 2019; tensor names are those of Hugging Face.
"""

from __future__ import annotations

import math
import mmap
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import Tensor

Array = NDArray[np.float32]
Keep = Callable[[int, int, Array], None]
"""(layer, head, attention weights (T, T)) -> nothing"""

STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
ERF_STEP = 1 / 256  # between the places where erf is expanded
ERF_END = 6.0  # beyond it erf is 1 in float64
ERF_TERMS = 5  # of each expansion
ERF_BLOCK = 2**14  # numbers at a time, for the caches


class ReferenceNetwork:
    """The network of a checked GPT-2."""

    def __init__(self, config: GPT2Config, checked: CheckedCheckpoint) -> None:
        self.config = config
        self._entries = checked.tensors
        self._files = {entry.file: _pages(entry.file) for entry in checked.tensors.values()}
        self._activation = ACTIVATIONS[config.activation_function]

    def embedded(self, ids: Sequence[int]) -> Array:
        """What goes into the first layer for the tokens `ids`, (T, C)."""
        places = np.arange(len(ids))
        return self._floats("wte.weight", np.asarray(ids, dtype=np.intp)) + self._floats(
            "wpe.weight", places
        )

    def states(self, ids: Sequence[int], keep: Keep | None = None) -> Iterator[Array]:
        """The input of each layer and the final state, (T, C) each: L + 1 of them.

        As transformers' `output_hidden_states`; only the last has passed the final layer norm.
        `keep` gets the attention weights of each layer and head, as `output_attentions`.
        """
        x = self.embedded(ids)
        for layer in range(self.config.n_layer):
            yield x
            x = self._layer(layer, x, keep)
        yield self.normed(x)

    def final(self, ids: Sequence[int], keep: Keep | None = None) -> Array:
        """The last of the `states`, (T, C)."""
        [last] = deque(self.states(ids, keep), maxlen=1)  # one at a time in memory
        return last

    @np.errstate(all="ignore")
    def normed(self, x: Array) -> Array:
        """States after the final layer norm."""
        return self._norm("ln_f.", x)

    @np.errstate(all="ignore")
    def logits(self, states: Array) -> Array:
        """The output head: final states (N, C) to logits (N, vocab)."""
        return states @ self._head.T

    @cached_property
    def _head(self) -> Array:
        return self._floats("wte.weight" if self.config.tie_word_embeddings else "lm_head.weight")

    @np.errstate(all="ignore")  # who asks for numbers looks whether they are finite
    def _layer(self, layer: int, x: Array, keep: Keep | None) -> Array:
        name = f"h.{layer}."
        qkv = self._linear(name + "attn.c_attn.", self._norm(name + "ln_1.", x))
        x = x + self._linear(name + "attn.c_proj.", self._attended(layer, qkv, keep))
        hidden = self._linear(name + "mlp.c_fc.", self._norm(name + "ln_2.", x))
        return x + self._linear(name + "mlp.c_proj.", self._activation(hidden))

    def _attended(self, layer: int, qkv: Array, keep: Keep | None) -> Array:
        """Causal attention, a head at a time, which bounds the memory."""
        heads, width = self.config.n_head, self.config.n_embd
        parts = (qkv[:, start : start + width] for start in (0, width, 2 * width))
        queries, keys, values = (np.split(part, heads, axis=1) for part in parts)
        future = ~np.tri(len(qkv), dtype=np.bool_)
        found = []
        for head in range(heads):
            scores = queries[head] @ keys[head].T * self.config.attention_scale(layer)
            np.copyto(scores, -np.inf, where=future)
            weights = softmax(scores)
            if keep is not None:
                keep(layer, head, weights)
            found.append(weights @ values[head])
        return np.concatenate(found, axis=1)

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self._floats(name + "weight") + self._floats(name + "bias")

    def _norm(self, name: str, x: Array) -> Array:
        x = x - x.mean(-1, keepdims=True)
        variance = np.square(x).mean(-1, keepdims=True)
        x /= np.sqrt(variance + self.config.layer_norm_epsilon)
        return x * self._floats(name + "weight") + self._floats(name + "bias")

    def _floats(self, name: str, rows: NDArray[np.intp] | None = None) -> Array:
        """A tensor, or some of its rows, in float32; as a view where it is stored so."""
        entry = self._entries[name]
        stored = _stored(entry, self._files[entry.file])
        return as_floats(stored if rows is None else stored[rows], entry.dtype)


def softmax(scores: Array) -> Array:
    """Probabilities along the last axis."""
    powers: Array = np.exp(scores - scores.max(-1, keepdims=True))
    powers /= powers.sum(-1, keepdims=True)
    return powers


def as_floats(stored: NDArray[Any], dtype: str) -> Array:
    """Stored numbers of a safetensors `dtype` in float32; the same array where they are float32."""
    if dtype == "BF16":  # the upper half of a float32
        return (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        return np.require(stored, np.float32, ["ALIGNED"])


def erf(x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The error function in float64, relative error 2e-12: exact where it is rounded to float32.

    A Taylor expansion about the nearest of 1,537 places; see `_erf_terms`.
    """
    size = np.minimum(np.abs(x.astype(np.float64)), ERF_END)
    nearest = np.rint(np.fmin(size, ERF_END) / ERF_STEP).astype(np.intp)
    distance = size - nearest * ERF_STEP
    total = np.zeros_like(size)
    for terms in reversed(_ERF_TERMS):
        total *= distance
        total += terms[nearest]
    found: NDArray[np.float64] = np.copysign(total, x)
    return found


def _erf_terms() -> NDArray[np.float64]:
    """The Taylor coefficients of erf at each place a, (terms, places).

    The derivatives after the first are Hermite polynomials: with g = 2 / sqrt(pi) exp(-a^2) the
    derivative n + 1 is (-1)^n H_n(a) g, and H_(n+1) = 2a H_n - 2n H_(n-1).
    """
    places = np.arange(round(ERF_END / ERF_STEP) + 1) * ERF_STEP
    slopes = 2 / math.sqrt(math.pi) * np.exp(-np.square(places))
    terms = [np.array([math.erf(place) for place in places])]
    former, polynomial = np.zeros_like(places), np.ones_like(places)
    for order in range(1, ERF_TERMS):
        terms.append((-1) ** (order - 1) * polynomial * slopes / math.factorial(order))
        following = 2 * places * polynomial - 2 * (order - 1) * former
        former, polynomial = polynomial, following
    return np.stack(terms)


_ERF_TERMS = _erf_terms()


def _gelu(x: Array) -> Array:
    found = np.empty(x.size, np.float32)
    for begin in range(0, x.size, ERF_BLOCK):
        few = x.reshape(-1)[begin : begin + ERF_BLOCK].astype(np.float64)
        found[begin : begin + ERF_BLOCK] = 0.5 * few * (1 + erf(few * math.sqrt(0.5)))
    return found.reshape(x.shape)


def _gelu_tanh(x: Array) -> Array:
    bent: Array = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x)))
    return 0.5 * x * (1 + bent)


def _times_sigmoid(steepness: float) -> Callable[[Array], Array]:
    def activation(x: Array) -> Array:
        powers: Array = np.exp(-steepness * x)
        return x / (1 + powers)

    return activation


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu": _gelu,
    "quick_gelu": _times_sigmoid(1.702),
    "relu": lambda x: np.maximum(x, 0),
    "silu": _times_sigmoid(1.0),
    "swish": _times_sigmoid(1.0),
    "tanh": np.tanh,
}


def _pages(file: Path) -> mmap.mmap:
    with file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _stored(entry: Tensor, pages: mmap.mmap) -> NDArray[Any]:
    """A view of a tensor, in its stored data type and shape."""
    count = math.prod(entry.shape)
    numbers = np.frombuffer(pages, STORED[entry.dtype], count, entry.offset)
    return numbers.reshape(entry.shape)
