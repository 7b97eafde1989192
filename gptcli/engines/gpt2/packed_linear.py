"""Matrices in the block layout of our own kernels, with weights in 32, 16 or 8 bits.

Packing takes about as long as reading the checkpoint. The product is fast from one row to hundreds,
and each row's result is the same to the bit whatever the other rows are. Without kernels, or where
float16 cannot hold the values, `gptcli.engines.gpt2.linear` and `gptcli.engines.gpt2.int8` serve.
Not here: whole steps are in `gptcli.engines.gpt2.kernels`.
"""

from __future__ import annotations

import ctypes
from threading import local

import torch
from torch import Tensor

from gptcli import native
from gptcli.engines.gpt2.int8 import Int8Linear
from gptcli.engines.gpt2.linear import MAX_HALF, MIN_HALF_PEAK, Conversion, Linear, PlainLinear
from gptcli.native import BLOCK, Library, MatrixStruct

CHUNK_ROWS = 256  # rows of a product at a time, so that a core's cache holds them
OPS_PER_THREAD = 4_000_000  # multiply-adds: about a quarter of a millisecond

_own = local()


class PackedLinear:
    """x (N, in) -> x @ weight.T + bias, (N, out), with the weight in blocks."""

    def __init__(
        self,
        library: Library,
        weight: Tensor,
        shape: tuple[int, int],
        bias: Tensor | None,
        scales: Tensor | None = None,
    ) -> None:
        """weight: flat, of out rounded up to `BLOCK` times in; `scales` (out,) for 8 bits."""
        self.library, self.shape = library, shape
        self._owned = weight, bias, scales  # the structure holds only addresses
        out, width = shape
        bits = 8 * weight.itemsize
        self.matrix = MatrixStruct(
            address(weight), address(scales), address(bias), width, out, bits
        )

    def __call__(self, x: Tensor) -> Tensor:
        out, width = self.shape
        y = torch.empty(len(x), out)
        team = self.library.team(threads_for(min(len(x), CHUNK_ROWS) * out * width))
        for part, own in zip(
            torch.split(x.contiguous(), CHUNK_ROWS), torch.split(y, CHUNK_ROWS), strict=True
        ):
            self.library.matmul(
                ctypes.byref(team),
                ctypes.byref(self.matrix),
                part.data_ptr(),
                len(part),
                own.data_ptr(),
                scratch(len(part) * (width + 1)).data_ptr(),
            )
        return y


def to_packed(otherwise: Conversion, bits: int = 16) -> Conversion:
    """Conversion of a `PlainLinear` (to `bits` bits) or an `Int8Linear`; others: `otherwise`."""

    def convert(linear: Linear) -> Linear:
        library = native.library()
        if library is not None and isinstance(linear, PlainLinear):
            return _packed_floats(library, linear, bits) or otherwise(linear)
        if library is not None and isinstance(linear, Int8Linear):
            return _packed_int8(library, linear) or otherwise(linear)
        return otherwise(linear)

    return convert


def _packed_floats(library: Library, plain: PlainLinear, bits: int) -> PackedLinear | None:
    """The matrix in blocks; None where float16 cannot hold it, see `MIN_HALF_PEAK`."""
    weight = plain.weight.float()
    out, width = weight.shape
    blocks = -(-out // BLOCK)
    dtype = torch.float16 if bits == 16 else torch.float32
    values = torch.empty(blocks * BLOCK * width, dtype=dtype)
    largest = torch.empty(blocks)
    team = library.team(torch.get_num_threads())
    library.pack_floats(
        ctypes.byref(team),
        weight.data_ptr(),
        out,
        width,
        *weight.stride(),
        bits,
        values.data_ptr(),
        largest.data_ptr(),
    )
    most = float(largest.max())
    if bits == 16 and not (most == 0 or MIN_HALF_PEAK <= most <= MAX_HALF):
        return None
    return PackedLinear(library, values, (out, width), plain.bias)


def _packed_int8(library: Library, linear: Int8Linear) -> PackedLinear | None:
    """The int8 values in pairs of inputs; None where the number of inputs is odd."""
    values, scales = linear.matrix.values, linear.matrix.scales
    out, width = values.shape
    if width % 2:
        return None
    pairs = torch.empty(-(-out // BLOCK) * BLOCK * width, dtype=torch.int8)
    team = library.team(torch.get_num_threads())
    library.pack_int8(ctypes.byref(team), values.data_ptr(), out, width, pairs.data_ptr())
    return PackedLinear(library, pairs, (out, width), linear.bias, scales)


def scratch(size: int) -> Tensor:
    """Scratch memory of `size` floats, one a thread: new pages for each product take longer."""
    if len(getattr(_own, "scratch", ())) < size:
        _own.scratch = torch.empty(size)
    return _own.scratch  # type: ignore[no-any-return]


def threads_for(work: int) -> int:
    """How many threads `work` multiply-adds pay for: on a busy machine threads wait."""
    return max(1, min(torch.get_num_threads(), work // OPS_PER_THREAD))


def address(tensor: Tensor | None) -> int | None:
    """The address of a tensor's data. A structure of `gptcli.native` does not keep it alive."""
    return None if tensor is None else tensor.data_ptr()
