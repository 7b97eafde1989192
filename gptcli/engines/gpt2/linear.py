"""Kinds of matrix product on a CPU, and tests for which of them this machine has.

A step of few rows is bound by reading the weights, so fewer bits are faster. No one kernel is fast
from one row to hundreds, nor ready at once. So a matrix moves from kind to kind while the model
runs: mapped float32, oneDNN's layout, float16, fbgemm's layout. All take and return float32. The
`quantized` operators of torch are old and may be removed: they are tried on a known product, and
without them the slower kinds stay. Not here: when a matrix moves is in
`gptcli.engines.gpt2.weights`, int8 is in `gptcli.engines.gpt2.int8`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

Linear = Callable[[Tensor], Tensor]
"""A matrix of the model: x (N, in) -> x @ weight.T + bias, (N, out)."""
Conversion = Callable[[Linear], Linear]
"""How a matrix becomes one that is multiplied faster."""

# oneDNN lays a matrix out for a number of rows. This layout is near the best from 1 to 512 rows.
ONEDNN_ROWS = 16
# Range of a matrix's largest absolute value for float16: above is infinity, far below too few bits
# remain.
MIN_HALF_PEAK, MAX_HALF = 2.0**-8, 65504.0
MAX_SINGLE_ROWS = (
    4  # up to so many rows, single-row float16 products are faster than one in float32
)
CHUNK_ELEMENTS = 2**23  # of a large matrix, converted to float32 at a time


class PlainLinear:
    """The weight as it lies in memory: (out, in), any strides and dtype; bias: (out,) or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class OneDNNLinear:
    """float32 in oneDNN's blocked layout, up to 4 times as fast as `PlainLinear` for a few rows."""

    def __init__(self, plain: PlainLinear) -> None:
        self._packed = torch.ops.mkldnn._reorder_linear_weight(plain.weight, ONEDNN_ROWS)
        self._bias = plain.bias

    def __call__(self, x: Tensor) -> Tensor:
        product = torch.ops.mkldnn._linear_pointwise
        return product(x, self._packed, self._bias, "none", [], "")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Float16Matrix:
    """A float16 matrix (out, in), contiguous: the weight is `halves`, plus `mean` in each row.

    GPT-2's logits share an offset of up to -100, of which float16 keeps only 3 binary places.
    Without the mean of its rows the head gives logits around 0, whose last bits matter.
    """

    halves: Tensor
    mean: Tensor | None  # (in,) float32
    bias: Tensor | None

    def finished(self, x: Tensor, y: Tensor) -> Tensor:
        """y (N, out) = x @ halves.T, completed in place."""
        if self.mean is not None:
            y += (x @ self.mean)[:, None]
        return y


class Float16Linear:
    """float16 weights in plain layout: made fast, and fastest for one row.

    `alone`: few rows are computed one by one with float16 activations too. That differs from all
    other kinds by about 1e-3 of the logits, so it is for engines that never batch: elsewhere a text
    would depend on its neighbours. Without it, and for many rows, the arithmetic is float32.
    """

    def __init__(self, matrix: Float16Matrix, alone: bool) -> None:
        self.matrix, self._alone = matrix, alone

    def __call__(self, x: Tensor) -> Tensor:
        halves, bias = self.matrix.halves, self.matrix.bias
        if self._alone and len(x) <= MAX_SINGLE_ROWS:
            products = [F.linear(row, halves) for row in torch.split(x.half(), 1)]
            y = (torch.cat(products) if len(products) > 1 else products[0]).float()
        else:
            parts = torch.split(halves, max(CHUNK_ELEMENTS // halves.shape[1], 1))
            y = torch.cat([F.linear(x, part.float()) for part in parts], dim=1)
        if bias is not None:
            y += bias
        return self.matrix.finished(x, y)


class FbgemmFloat16Linear:
    """float16 weights in fbgemm's layout: fastest for 2 to about 100 rows, slow to make."""

    def __init__(self, matrix: Float16Matrix) -> None:
        self._matrix = Float16Matrix(matrix.halves.new_empty(0), matrix.mean, None)
        wide = matrix.halves.float()
        self._packed = torch.ops.quantized.linear_prepack_fp16(wide, matrix.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return self._matrix.finished(x, torch.ops.quantized.linear_dynamic_fp16(x, self._packed))


def halved(plain: PlainLinear, centred: bool = False) -> Float16Matrix | None:
    """The matrix rounded to float16, less the mean of its rows if `centred`.

    None where float16 cannot hold it: its largest value is above 65504, below 1/256, or NaN.
    """
    weight = plain.weight
    low, high = (float(value) for value in weight.aminmax())
    largest = max(-low, high)
    if not (largest == 0 or MIN_HALF_PEAK <= largest <= MAX_HALF):
        return None
    if not centred:
        return Float16Matrix(weight.contiguous().half(), None, plain.bias)
    mean = weight.mean(0)
    halves = torch.empty(weight.shape, dtype=torch.float16)
    rows = max(CHUNK_ELEMENTS // weight.shape[1], 1)
    for part, target in zip(torch.split(weight, rows), torch.split(halves, rows), strict=True):
        target.copy_(part - mean)
    return Float16Matrix(halves, mean, plain.bias)


def to_onednn(linear: Linear) -> Linear:
    """A `PlainLinear` in oneDNN's layout; any other, or without oneDNN, unchanged."""
    return OneDNNLinear(linear) if isinstance(linear, PlainLinear) and has_onednn() else linear


def to_half(alone: bool, centred: bool) -> Callable[[Linear], Linear]:
    """Conversion of a `PlainLinear` to float16, or to oneDNN where float16 cannot hold it."""

    def convert(linear: Linear) -> Linear:
        assert isinstance(linear, PlainLinear)
        matrix = halved(linear, centred)
        return to_onednn(linear) if matrix is None else Float16Linear(matrix, alone)

    return convert


def to_fbgemm_half(linear: Linear) -> Linear:
    """A `Float16Linear` in fbgemm's layout; any other, or without fbgemm, unchanged."""
    return (
        FbgemmFloat16Linear(linear.matrix)
        if isinstance(linear, Float16Linear) and has_fbgemm()
        else linear
    )


@cache
def has_onednn() -> bool:
    """Whether this build of torch has oneDNN's packed product for float32 (x86 Linux has)."""
    try:
        OneDNNLinear(PlainLinear(torch.zeros(1, 1), None))(torch.zeros(1, 1))
    except (AttributeError, RuntimeError):
        return False
    return True


@cache
def has_fbgemm() -> bool:
    """Whether this build of torch, on this processor, has fbgemm's product with 16-bit weights."""
    halves = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=torch.float16)
    try:
        y = FbgemmFloat16Linear(Float16Matrix(halves, None, None))(torch.tensor([[3.0, 5.0]]))
    except (AttributeError, RuntimeError):
        return False
    return y.tolist() == [[-7.0, 21.5]]
