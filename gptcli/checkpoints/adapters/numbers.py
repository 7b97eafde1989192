"""Stored tensors as float32, and float32 as it is stored, with NumPy."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.safetensors_headers import Tensor
from gptcli.errors import BadModel
from gptcli.system.strict_json import AGAIN, open_model_file

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Array = NDArray[numpy.float32]

NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def raw(entry: Tensor) -> bytes:
    """A tensor's bytes. Raises MissingInput; BadModel where the file became shorter."""
    with open_model_file(entry.file) as file:
        file.seek(entry.offset)
        data = file.read(entry.nbytes)
    if len(data) != entry.nbytes:
        raise BadModel("corrupt model file", f"{entry.file.name} is cut off", AGAIN)
    return data


def floats(entry: Tensor) -> Array:
    """A tensor in float32. Raises as `raw`."""
    import numpy

    stored: Any = numpy.frombuffer(raw(entry), NUMPY[entry.dtype], prod(entry.shape))
    if entry.dtype == "BF16":  # the upper half of a float32
        stored = (stored.astype(numpy.uint32) << 16).view(numpy.float32)
    found: Array = stored.astype(numpy.float32).reshape(entry.shape)
    return found


def stored_as(values: Array, dtype: str) -> bytes:
    """float32 rounded once to a safetensors dtype, to the nearest, ties to even.

    Raises OverflowError where float16 cannot hold a number.
    """
    import numpy

    if dtype == "BF16":
        bits = numpy.ascontiguousarray(values).view(numpy.uint32)
        rounded = bits + 0x7FFF + ((bits >> 16) & 1)
        return (rounded >> 16).astype("<u2").tobytes()
    with numpy.errstate(over="ignore"):
        found = values.astype(NUMPY[dtype])
    if not numpy.isfinite(found).all():
        raise OverflowError(dtype)
    return found.tobytes()
