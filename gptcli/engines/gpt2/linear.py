"""The kinds of product of activations with a weight matrix on a CPU, and which of them there are.

Reading the weights is what a step of few rows costs, so fewer bits are faster; but no one kernel is
fast from one row to hundreds, nor ready at once. So a matrix moves from kind to kind while the
model runs: mapped float32, oneDNN's layout, 16-bit numbers, fbgemm's layout. All take and give
float32. torch's `quantized` operators are old and may go: they are tried out on numbers whose
product is known, and without them the slower kinds stay. Left out: when a matrix moves, see
`gptcli.engines.gpt2.weights`, and 8-bit integers, see `gptcli.engines.gpt2.int8`.
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

# oneDNN lays a matrix out for a number of rows; this layout is near the best from 1 to 512 of them.
ONEDNN_ROWS = 16
# A matrix is halved where its largest number lies here: above is infinity, and of numbers far below
# half floats keep too few bits.
HALF_LEAST, HALF_MOST = 2.0**-8, 65504.0
ONE_BY_ONE = 4  # to so many rows, half products of one row each are faster than one in float32
PART = 2**23  # elements of a large matrix that are widened at a time


class Plain:
    """The weight as it lies in memory: (out, in), any strides and dtype; bias: (out,) or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class OneDNN:
    """float32 in oneDNN's blocked layout, up to 4 times as fast as `Plain` for a few rows."""

    def __init__(self, plain: Plain) -> None:
        self._packed = torch.ops.mkldnn._reorder_linear_weight(plain.weight, ONEDNN_ROWS)
        self._bias = plain.bias

    def __call__(self, x: Tensor) -> Tensor:
        product = torch.ops.mkldnn._linear_pointwise
        return product(x, self._packed, self._bias, "none", [], "")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Sixteen:
    """A matrix in 16 bits, (out, in), contiguous: the weight is `halves`, plus `mean` in each row.

    GPT-2's scores share an offset of up to -100, of which a half float keeps only 3 binary places;
    without the mean of its rows the head gives scores around 0, whose last bits matter.
    """

    halves: Tensor
    mean: Tensor | None  # (in,) float32
    bias: Tensor | None

    def finished(self, x: Tensor, y: Tensor) -> Tensor:
        """y (N, out) = x @ halves.T, completed in place."""
        if self.mean is not None:
            y += (x @ self.mean)[:, None]
        return y


class Half:
    """16-bit weights as they are: made fast, and as fast as can be for one row.

    `alone`: few rows are computed one by one with activations in 16 bits too. It differs from all
    other kinds by about 1e-3 of the scores, so it is for engines that never batch: elsewhere a text
    would depend on its neighbours. Without it, and for many rows, the arithmetic is in float32.
    """

    def __init__(self, matrix: Sixteen, alone: bool) -> None:
        self.matrix, self._alone = matrix, alone

    def __call__(self, x: Tensor) -> Tensor:
        halves, bias = self.matrix.halves, self.matrix.bias
        if self._alone and len(x) <= ONE_BY_ONE:
            products = [F.linear(row, halves) for row in torch.split(x.half(), 1)]
            y = (torch.cat(products) if len(products) > 1 else products[0]).float()
        else:
            parts = torch.split(halves, max(PART // halves.shape[1], 1))
            y = torch.cat([F.linear(x, part.float()) for part in parts], dim=1)
        if bias is not None:
            y += bias
        return self.matrix.finished(x, y)


class FbgemmHalf:
    """16-bit weights in fbgemm's layout: the fastest for 2 to some 100 rows, slow to make."""

    def __init__(self, matrix: Sixteen) -> None:
        self._matrix = Sixteen(matrix.halves.new_empty(0), matrix.mean, None)
        wide = matrix.halves.float()
        self._packed = torch.ops.quantized.linear_prepack_fp16(wide, matrix.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return self._matrix.finished(x, torch.ops.quantized.linear_dynamic_fp16(x, self._packed))


def halved(plain: Plain, centred: bool = False) -> Sixteen | None:
    """The matrix rounded to 16 bits, less the mean of its rows if `centred`.

    None where half floats cannot hold it: its largest number is above 65504, below 1/256, or NaN.
    """
    weight = plain.weight
    low, high = (float(value) for value in weight.aminmax())
    largest = max(-low, high)
    if not (largest == 0 or HALF_LEAST <= largest <= HALF_MOST):
        return None
    if not centred:
        return Sixteen(weight.contiguous().half(), None, plain.bias)
    mean = weight.mean(0)
    halves = torch.empty(weight.shape, dtype=torch.float16)
    rows = max(PART // weight.shape[1], 1)
    for part, target in zip(torch.split(weight, rows), torch.split(halves, rows), strict=True):
        target.copy_(part - mean)
    return Sixteen(halves, mean, plain.bias)


def to_onednn(linear: Linear) -> Linear:
    """`Plain` in oneDNN's layout; anything else, or all where there is none, as it is."""
    return OneDNN(linear) if isinstance(linear, Plain) and has_onednn() else linear


def to_half(alone: bool, centred: bool) -> Callable[[Linear], Linear]:
    """How a `Plain` becomes a `Half`, or goes to oneDNN where half floats cannot hold it."""

    def convert(linear: Linear) -> Linear:
        assert isinstance(linear, Plain)
        matrix = halved(linear, centred)
        return to_onednn(linear) if matrix is None else Half(matrix, alone)

    return convert


def to_fbgemm_half(linear: Linear) -> Linear:
    """`Half` in fbgemm's layout; anything else, or all where there is no fbgemm, as it is."""
    return FbgemmHalf(linear.matrix) if isinstance(linear, Half) and has_fbgemm() else linear


@cache
def has_onednn() -> bool:
    """Whether this build of torch has oneDNN's packed product for float32 (x86 Linux has)."""
    try:
        OneDNN(Plain(torch.zeros(1, 1), None))(torch.zeros(1, 1))
    except (AttributeError, RuntimeError):
        return False
    return True


@cache
def has_fbgemm() -> bool:
    """Whether this build of torch, on this processor, has fbgemm's product with 16-bit weights."""
    halves = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=torch.float16)
    try:
        y = FbgemmHalf(Sixteen(halves, None, None))(torch.tensor([[3.0, 5.0]]))
    except (AttributeError, RuntimeError):
        return False
    return y.tolist() == [[-7.0, 21.5]]
