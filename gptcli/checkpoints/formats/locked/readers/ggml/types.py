"""The types of numbers that llama.cpp stores, and their values.

A row of a quantised matrix is a sequence of blocks: so many numbers in so many bytes. Plain numbers
are read here; what is quantised is decoded by llama.cpp's own package `gguf`, some rows at a time,
so that little more than the result is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.formats.locked.source import Refused

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

PIECE_BYTES = 2**22  # of float32 numbers, decoded at a time
PLAIN = {"F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F64"}  # safetensors has them too
Q1_BYTES = 16  # of signs in a block of Q1_0, behind its scale


@dataclass(frozen=True)
class NumberType:
    """A type: `block` numbers take `size` bytes."""

    name: str
    block: int
    size: int

    @property
    def plain(self) -> bool:
        """Whether safetensors has the type too."""
        return self.name in PLAIN

    @property
    def result(self) -> str:
        """safetensors' name for what it is read as."""
        return PLAIN.get(self.name, "F32")


# By ggml's number; those that no file of weights holds (Q8_1, Q8_K, integers) are left out.
TYPES = {
    0: NumberType("F32", 1, 4),
    1: NumberType("F16", 1, 2),
    2: NumberType("Q4_0", 32, 18),
    3: NumberType("Q4_1", 32, 20),
    6: NumberType("Q5_0", 32, 22),
    7: NumberType("Q5_1", 32, 24),
    8: NumberType("Q8_0", 32, 34),
    10: NumberType("Q2_K", 256, 84),
    11: NumberType("Q3_K", 256, 110),
    12: NumberType("Q4_K", 256, 144),
    13: NumberType("Q5_K", 256, 176),
    14: NumberType("Q6_K", 256, 210),
    16: NumberType("IQ2_XXS", 256, 66),
    17: NumberType("IQ2_XS", 256, 74),
    18: NumberType("IQ3_XXS", 256, 98),
    19: NumberType("IQ1_S", 256, 50),
    20: NumberType("IQ4_NL", 32, 18),
    21: NumberType("IQ3_S", 256, 110),
    22: NumberType("IQ2_S", 256, 82),
    23: NumberType("IQ4_XS", 256, 136),
    28: NumberType("F64", 1, 8),
    29: NumberType("IQ1_M", 256, 56),
    30: NumberType("BF16", 1, 2),
    34: NumberType("TQ1_0", 256, 54),
    35: NumberType("TQ2_0", 256, 66),
    39: NumberType("MXFP4", 32, 17),
    40: NumberType("NVFP4", 64, 36),
    41: NumberType("Q1_0", 128, 18),
}


def refuse_unreadable(kinds: set[NumberType]) -> None:
    """Look for the package that decodes them. Raises ModuleNotFoundError, Refused if too old."""
    quantised = {kind.name for kind in kinds if not kind.plain and kind.name != "Q1_0"}
    if not quantised:
        return
    from gguf import GGMLQuantizationType, quants

    known = {kind.name for kind in quants._type_traits}
    if unknown := quantised - known & set(GGMLQuantizationType.__members__):
        raise Refused(f"the package gguf here is too old for {', '.join(sorted(unknown))}")


def decoded(stored: Array, kind: NumberType, shape: tuple[int, ...]) -> Array:
    """The numbers of a tensor, from its bytes; see `NumberType.result` for their type."""
    import numpy

    if kind.plain:
        dtype = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}[kind.name]
        return stored.view(dtype).reshape(shape)
    width = shape[-1]
    rows = stored.reshape(-1, width // kind.block * kind.size)
    found = numpy.empty((len(rows), width), "<f4")
    step = max(1, PIECE_BYTES // (4 * width))
    for start in range(0, len(rows), step):
        found[start : start + step] = _decoded_rows(rows[start : start + step], kind)
    return found.reshape(shape)


def _decoded_rows(rows: Array, kind: NumberType) -> Array:
    if kind.name == "Q1_0":
        return _signs(rows)
    import numpy
    from gguf import GGMLQuantizationType, quants

    with numpy.errstate(all="ignore"):  # a scale may be anything
        found: Array = quants.dequantize(rows, GGMLQuantizationType[kind.name])
    return found


def _signs(rows: Array) -> Array:
    """Q1_0, which the package leaves out: a scale, and the sign of each number."""
    import numpy

    blocks = rows.reshape(-1, 2 + Q1_BYTES)
    scales = blocks[:, :2].copy().view("<f2").astype("<f4")
    signs = numpy.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype("<f4") * 2 - 1
    found: Array = (scales * signs).reshape(len(rows), -1)
    return found
