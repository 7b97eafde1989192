"""Matrices in the layout of our own kernels, with weights in 32, 16 or 8 bits.

A matrix is laid in blocks about as fast as the checkpoint is read. They are fast from one row to
hundreds, and a row's product is the same to the bit whatever the others are. Where there are no
kernels, or numbers that half floats cannot hold, the kinds of `gptcli.engines.gpt2.linear` and
`gptcli.engines.gpt2.int8` remain. Left out: whole steps, see `gptcli.engines.gpt2.kernels`.
"""

from __future__ import annotations

import ctypes
from threading import local

import torch
from torch import Tensor

from gptcli import native
from gptcli.engines.gpt2.int8 import Int8
from gptcli.engines.gpt2.linear import HALF_LEAST, HALF_MOST, Conversion, Linear, Plain
from gptcli.native import BLOCK, Library, MatrixStruct

PART = 256  # rows of a product at a time, whose numbers a core's cache holds
WORK = 4_000_000  # multiply-adds, about a quarter of a millisecond, for each thread

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
        self._kept = weight, bias, scales  # the structure holds addresses alone
        out, width = shape
        bits = 8 * weight.itemsize
        self.matrix = MatrixStruct(
            address(weight), address(scales), address(bias), width, out, bits
        )

    def __call__(self, x: Tensor) -> Tensor:
        out, width = self.shape
        y = torch.empty(len(x), out)
        team = self.library.team(threads_for(min(len(x), PART) * out * width))
        for part, own in zip(torch.split(x.contiguous(), PART), torch.split(y, PART), strict=True):
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
    """How a `Plain`, in so many bits, or an `Int8` becomes packed; what cannot: `otherwise`."""

    def convert(linear: Linear) -> Linear:
        library = native.library()
        if library is not None and isinstance(linear, Plain):
            return _packed_floats(library, linear, bits) or otherwise(linear)
        if library is not None and isinstance(linear, Int8):
            return _packed_int8(library, linear) or otherwise(linear)
        return otherwise(linear)

    return convert


def _packed_floats(library: Library, plain: Plain, bits: int) -> PackedLinear | None:
    """The matrix in blocks; None where half floats cannot hold it, see `products.HALF_LEAST`."""
    weight = plain.weight.float()
    out, width = weight.shape
    blocks = -(-out // BLOCK)
    dtype = torch.float16 if bits == 16 else torch.float32
    numbers = torch.empty(blocks * BLOCK * width, dtype=dtype)
    largest = torch.empty(blocks)
    team = library.team(torch.get_num_threads())
    library.pack_floats(
        ctypes.byref(team),
        weight.data_ptr(),
        out,
        width,
        *weight.stride(),
        bits,
        numbers.data_ptr(),
        largest.data_ptr(),
    )
    most = float(largest.max())
    if bits == 16 and not (most == 0 or HALF_LEAST <= most <= HALF_MOST):
        return None
    return PackedLinear(library, numbers, (out, width), plain.bias)


def _packed_int8(library: Library, linear: Int8) -> PackedLinear | None:
    """The integers in pairs of inputs; None where the inputs are odd in number."""
    values, scales = linear.matrix.values, linear.matrix.scales
    out, width = values.shape
    if width % 2:
        return None
    pairs = torch.empty(-(-out // BLOCK) * BLOCK * width, dtype=torch.int8)
    team = library.team(torch.get_num_threads())
    library.pack_int8(ctypes.byref(team), values.data_ptr(), out, width, pairs.data_ptr())
    return PackedLinear(library, pairs, (out, width), linear.bias, scales)


def scratch(size: int) -> Tensor:
    """Memory for so many floats, the thread's own: new pages for each product would take longer."""
    if len(getattr(_own, "scratch", ())) < size:
        _own.scratch = torch.empty(size)
    return _own.scratch  # type: ignore[no-any-return]


def threads_for(work: int) -> int:
    """How many of torch's threads so many multiply-adds are worth: on a busy machine they wait."""
    return max(1, min(torch.get_num_threads(), work // WORK))


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's numbers begin: a structure of `gptcli.native` does not hold the tensor."""
    return None if tensor is None else tensor.data_ptr()
