"""int8 weights: quantization, and the product with them.

Each row of a weight matrix (an output channel) has its own scale, its largest absolute value over
127. The activations of a row are integers too, relative to that row's largest, so that no row
depends on another. 8 bits are too coarse for activations, because a few columns of GPT-2 are many
times as large as the rest: a 14-bit integer is split into two of 7 bits, `127 x high + low`, which
run as two rows. For one row that costs nothing, since reading the weights takes the time; the loss
of precision is that of the weights. Sums are integers far below 2^24 unless all values are the
largest, so every kernel gives the same result to the bit. fbgemm wants one range for all rows: two
columns of weight 0 hold its ends, 63 and -64. 7 bits are what processors without VNNI add up
without overflow. Not here: the cache of int8 weights is in `gptcli.checkpoints.int8_store`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gptcli.engines.gpt2.linear import CHUNK_ELEMENTS, Linear

WEIGHT_MAX = 127  # the largest integer of a weight
BASE = 127  # an activation is BASE x high + low, both from -63 to 63
ACTIVATION_MAX = 63 * BASE + 63
FBGEMM_RANGE = 63.0, -64.0  # fbgemm's range for activations: 128 steps of 1
KEPT_ROWS = 32  # buffers up to so many rows are kept; larger ones are allocated each time


@dataclass(frozen=True)
class Quantized:
    """An int8 matrix (out, in), contiguous: the weight of row i is values[i] * scales[i].

    A row with NaN or infinity has the scale NaN, so that the fault shows as it does in float32.
    """

    values: Tensor
    scales: Tensor


def quantize(weight: Tensor) -> Quantized:
    """A float matrix (out, in), any strides, rounded to integers from -127 to 127."""
    values = torch.empty(weight.shape, dtype=torch.int8)
    scales = torch.empty(len(weight))
    rows = max(CHUNK_ELEMENTS // weight.shape[1], 1)
    parts = zip(*(torch.split(whole, rows) for whole in (weight, values, scales)), strict=True)
    for part, own, scale in parts:
        torch.div(part.abs().amax(1), WEIGHT_MAX, out=scale)
        # 0 / 0 is NaN and becomes 0 again.
        own.copy_((part / scale[:, None]).round_().nan_to_num_(0, 0, 0))
    return Quantized(values, scales.masked_fill_(~scales.isfinite(), torch.nan))


@dataclass(frozen=True)
class ActivationBuffer:
    """Buffer for the integers of N rows of activations: `rows`, (2N, in + 2), and views of it.

    Its two last columns are `FBGEMM_RANGE`. `high` and `low` are the first and the last N rows
    without these columns.
    """

    rows: Tensor
    high: Tensor
    low: Tensor


class ActivationBuffers:
    """Buffers for the activations of one width, kept for small numbers of rows."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._ready: dict[int, ActivationBuffer] = {}

    def take(self, count: int) -> ActivationBuffer:
        """The buffer for `count` rows, valid until the next call."""
        if count > KEPT_ROWS:
            return self._new(count)
        if count not in self._ready:
            self._ready[count] = self._new(count)
        return self._ready[count]

    def _new(self, count: int) -> ActivationBuffer:
        rows = torch.empty(2 * count, self._width + 2)
        rows[:, -2:] = torch.tensor(FBGEMM_RANGE)
        return ActivationBuffer(rows, rows[:count, :-2], rows[count:, :-2])


class Int8Linear:
    """The product of float32 activations with a quantized matrix; bias: (out,) or None."""

    def __init__(self, matrix: Quantized, bias: Tensor | None, buffers: ActivationBuffers) -> None:
        self.matrix, self.bias = matrix, bias
        self._buffers = buffers
        # A row's scale is its largest activation over ACTIVATION_MAX times the weights' own.
        self._scales = matrix.scales / ACTIVATION_MAX
        # As tensors: torch converts a Python number in each operation.
        self._largest, self._base, self._share = torch.tensor([ACTIVATION_MAX, BASE, 1 / BASE])

    def __call__(self, x: Tensor) -> Tensor:
        buffer = self._buffers.take(len(x))
        largest = x.abs().amax(1, keepdim=True)
        # A row of zeros, or with infinity or NaN, becomes zeros; `largest` tells them apart below.
        integers = (x * (self._largest / largest)).round_().nan_to_num_(0, 0, 0)
        torch.round(integers * self._share, out=buffer.high)
        torch.sub(integers, buffer.high, alpha=BASE, out=buffer.low)
        high, y = torch.chunk(self.sums(buffer.rows), 2)
        # Each operation rounds once: a fused one may round a row of a batch differently.
        y += high.mul_(self._base)
        y *= largest
        y *= self._scales
        if self.bias is not None:
            y += self.bias
        return y

    def sums(self, rows: Tensor) -> Tensor:
        """Integer rows (2N, in + 2) times the integer weights, (2N, out)."""
        values = self.matrix.values
        x = rows[:, :-2]
        parts = torch.split(values, max(CHUNK_ELEMENTS // values.shape[1], 1))
        return torch.cat([F.linear(x, part.float()) for part in parts], dim=1)


class FbgemmInt8Linear(Int8Linear):
    """The same product with weights in fbgemm's layout, many times as fast for few rows."""

    def __init__(self, plain: Int8Linear) -> None:
        super().__init__(plain.matrix, plain.bias, plain._buffers)
        values = F.pad(self.matrix.values, (0, 2))  # the columns of FBGEMM_RANGE have weight 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch means to move its quantization elsewhere
            whole = torch._make_per_tensor_quantized_tensor(values, 1.0, 0)
            self._packed = torch.ops.quantized.linear_prepack(whole, None)
        self.matrix = Quantized(values.new_empty(0), self.matrix.scales)

    def sums(self, rows: Tensor) -> Tensor:
        """As `Int8Linear.sums`."""
        return torch.ops.quantized.linear_dynamic(rows, self._packed, True)  # type: ignore[no-any-return]


def to_fbgemm_int8(linear: Linear) -> Linear:
    """`Int8Linear` in fbgemm's layout, or unchanged without fbgemm."""
    assert isinstance(linear, Int8Linear)
    return FbgemmInt8Linear(linear) if has_fbgemm_int8() else linear


@cache
def has_fbgemm_int8() -> bool:
    """Whether this build of torch, on this processor, multiplies our integers exactly.

    The pairs of products tried here are the largest, which narrower sums would cut.
    """
    values = torch.full((2, 64), WEIGHT_MAX, dtype=torch.int8)
    buffers = ActivationBuffers(64)
    plain = Int8Linear(Quantized(values, torch.ones(2)), None, buffers)
    tried = buffers.take(1).rows
    tried[:, :-2] = torch.tensor([[63.0], [-63.0]])
    try:
        return bool((FbgemmInt8Linear(plain).sums(tried) == plain.sums(tried)).all())
    except (AttributeError, RuntimeError):
        return False
