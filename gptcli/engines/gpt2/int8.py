"""Weights as 8-bit integers: how they are made, and the product with them.

Each row of a weight matrix (an output channel) has its own scale, its largest number over 127; the
activations of a row are integers too, over that row's largest, so that no row depends on another.
One byte is too coarse for them, for in GPT-2 a few columns are many times as large as the rest: an
integer of 14 bits is written as two of 7, `127 x high + low`, which run as two rows. For one row
that costs nothing, since reading the weights is what takes the time, and what is lost is what the
weights lose. Sums are whole numbers, far below 2^24 unless all numbers are the largest, so every
kernel gives the same ones, to the bit. fbgemm wants one range for all rows: two columns that weigh
nothing hold its ends, 63 and -64, and 7 bits are what processors without VNNI add up without
overflow. Left out: where integers are kept between runs, see `gptcli.checkpoints.int8_store`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gptcli.engines.gpt2.linear import PART, Linear

WEIGHT = 127  # the largest integer of a weight
BASE = 127  # an activation is BASE x high + low, both from -63 to 63
LARGEST = 63 * BASE + 63
ENDS = 63.0, -64.0  # fbgemm's range for activations: 128 steps of 1
READY_ROWS = 32  # memory for so many rows is kept; for more it is taken each time


@dataclass(frozen=True)
class Quantized:
    """A matrix as integers (out, in), int8 and contiguous; row i is to be times scales[i], (out,).

    A row with NaN or infinity has the scale NaN, so that the loss shows as it does in float32.
    """

    values: Tensor
    scales: Tensor


def quantize(weight: Tensor) -> Quantized:
    """A matrix (out, in) of floats, any strides, rounded to integers from -127 to 127."""
    values = torch.empty(weight.shape, dtype=torch.int8)
    scales = torch.empty(len(weight))
    rows = max(PART // weight.shape[1], 1)
    parts = zip(*(torch.split(whole, rows) for whole in (weight, values, scales)), strict=True)
    for part, own, scale in parts:
        torch.div(part.abs().amax(1), WEIGHT, out=scale)
        # Divided by 0, 0 is NaN and becomes 0 again.
        own.copy_((part / scale[:, None]).round_().nan_to_num_(0, 0, 0))
    return Quantized(values, scales.masked_fill_(~scales.isfinite(), torch.nan))


@dataclass(frozen=True)
class Room:
    """Memory for the integers of N rows of activations: `rows`, (2N, in + 2), and views of it.

    Its two last columns are `ENDS`; `high` and `low` are the first and the last N rows without.
    """

    rows: Tensor
    high: Tensor
    low: Tensor


class Rooms:
    """Memory for the activations of one width, taken once for as many rows as are often run."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._ready: dict[int, Room] = {}

    def take(self, count: int) -> Room:
        """Room for `count` rows, to be used until the next call."""
        if count > READY_ROWS:
            return self._new(count)
        if count not in self._ready:
            self._ready[count] = self._new(count)
        return self._ready[count]

    def _new(self, count: int) -> Room:
        rows = torch.empty(2 * count, self._width + 2)
        rows[:, -2:] = torch.tensor(ENDS)
        return Room(rows, rows[:count, :-2], rows[count:, :-2])


class Int8:
    """The product of float32 activations with a quantized matrix; bias: (out,) or None."""

    def __init__(self, matrix: Quantized, bias: Tensor | None, rooms: Rooms) -> None:
        self.matrix, self.bias = matrix, bias
        self._rooms = rooms
        # A row's scale is its largest activation over LARGEST times the weights' own.
        self._scales = matrix.scales / LARGEST
        # As tensors: torch converts a number of Python's anew in each operation.
        self._largest, self._base, self._share = torch.tensor([LARGEST, BASE, 1 / BASE])

    def __call__(self, x: Tensor) -> Tensor:
        room = self._rooms.take(len(x))
        largest = x.abs().amax(1, keepdim=True)
        # A row of zeros, or with infinity or NaN, becomes zeros: `largest` tells them apart below.
        integers = (x * (self._largest / largest)).round_().nan_to_num_(0, 0, 0)
        torch.round(integers * self._share, out=room.high)
        torch.sub(integers, room.high, alpha=BASE, out=room.low)
        high, y = torch.chunk(self.sums(room.rows), 2)
        # Each operation rounds once: one that does two at a time may round a row of a batch
        # differently.
        y += high.mul_(self._base)
        y *= largest
        y *= self._scales
        if self.bias is not None:
            y += self.bias
        return y

    def sums(self, rows: Tensor) -> Tensor:
        """rows (2N, in + 2) of integers times the integers of the weights, (2N, out)."""
        values = self.matrix.values
        x = rows[:, :-2]
        parts = torch.split(values, max(PART // values.shape[1], 1))
        return torch.cat([F.linear(x, part.float()) for part in parts], dim=1)


class FbgemmInt8(Int8):
    """The same with the weights in fbgemm's layout, many times as fast for few rows."""

    def __init__(self, plain: Int8) -> None:
        super().__init__(plain.matrix, plain.bias, plain._rooms)
        values = F.pad(self.matrix.values, (0, 2))  # the columns of ENDS weigh nothing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch means to move its quantization elsewhere
            whole = torch._make_per_tensor_quantized_tensor(values, 1.0, 0)
            self._packed = torch.ops.quantized.linear_prepack(whole, None)
        self.matrix = Quantized(values.new_empty(0), self.matrix.scales)

    def sums(self, rows: Tensor) -> Tensor:
        """As `Int8.sums`."""
        return torch.ops.quantized.linear_dynamic(rows, self._packed, True)  # type: ignore[no-any-return]


def to_fbgemm_int8(linear: Linear) -> Linear:
    """`Int8` in fbgemm's layout, or as it is where there is no fbgemm."""
    assert isinstance(linear, Int8)
    return FbgemmInt8(linear) if has_fbgemm_int8() else linear


@cache
def has_fbgemm_int8() -> bool:
    """Whether this build of torch, on this processor, multiplies our integers exactly.

    The pairs of products tried here are the largest, which narrower sums would cut.
    """
    values = torch.full((2, 64), WEIGHT, dtype=torch.int8)
    rooms = Rooms(64)
    plain = Int8(Quantized(values, torch.ones(2)), None, rooms)
    tried = rooms.take(1).rows
    tried[:, :-2] = torch.tensor([[63.0], [-63.0]])
    try:
        return bool((FbgemmInt8(plain).sums(tried) == plain.sums(tried)).all())
    except (AttributeError, RuntimeError):
        return False
