"""What readers do with tensors of a GPT-2, whatever program wrote them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from gptcli.checkpoints.formats.locked.source import SourceTensor

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

MASK = re.compile(r"h\.\d+\.attn\.(?:bias|masked_bias|mask|tril)")  # no weights, in old files
TIED = "it is the embedding"  # why a head is left out
CHUNK_BYTES = 2**22  # compared at a time


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of our name is a matrix of a block, which lies as (in, out)."""
    return name.startswith("h.") and len(shape) == 2


def transposed(tensor: SourceTensor) -> SourceTensor:
    """The same matrix the other way round."""
    return replace(tensor, shape=tensor.shape[::-1], read=lambda: tensor.read().T)


def same_bytes(one: Array, other: Array) -> bool:
    """Whether two arrays hold the same numbers, bit for bit; the first difference ends it."""
    import numpy

    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    first, second = (
        numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8) for array in (one, other)
    )
    places = range(0, first.nbytes, CHUNK_BYTES)
    return all(
        numpy.array_equal(first[place : place + CHUNK_BYTES], second[place : place + CHUNK_BYTES])
        for place in places
    )


def as_float32(values: Array, dtype: str) -> Array:
    """Numbers of a type of safetensors as float32; what it cannot hold becomes infinite."""
    import numpy

    if dtype == "BF16":  # the upper half of a float32
        return (values.astype(numpy.uint32) << 16).view(numpy.float32)
    with numpy.errstate(over="ignore"):
        return values.astype(numpy.float32)
