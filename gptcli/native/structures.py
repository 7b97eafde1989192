"""The structures that the kernels read, as ctypes; they mirror model.h and packing.h.

The compiler's own table of offsets and sizes is compared with these: a library with another layout
is not used.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int64, c_void_p
from itertools import count

ABI = 8  # version of the functions' arguments, as in model.h
BLOCK = 32  # outputs of a matrix that are stored side by side
KEYS = 16  # keys of a head that are stored side by side
GROUP = 32  # inputs of an int8 product that share a scale

KINDS = {"F32": 0, "F16": 1, "BF16": 2, "I8": 3, "F64": 4}
"""safetensors' names of data types -> numbers of `Kind`."""
ACTIVATIONS = {
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), 0),
    "gelu": 1,
    "quick_gelu": 2,
    "relu": 3,
    **dict.fromkeys(("silu", "swish"), 4),
    "tanh": 5,
}
"""config.json's names of activation functions -> numbers of `Activation`."""


class MatrixStruct(Structure):
    """A matrix (out, in) in blocks; `scale` (out,) of int8; `bias` (out,) or None."""

    _fields_ = (
        *((name, c_void_p) for name in ("weight", "scale", "bias")),
        *((name, c_int64) for name in ("in_features", "out_features", "kind")),
    )


class NormStruct(Structure):
    """A layer norm's gain and shift, (C,) floats each."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


class LayerStruct(Structure):
    """One transformer layer; `scale` of the attention scores."""

    _fields_ = (
        *(("ln_1", NormStruct), ("ln_2", NormStruct)),
        *((name, MatrixStruct) for name in ("attn", "attn_out", "fc", "proj")),
        ("scale", c_float),
    )


class ModelStruct(Structure):
    """A GPT-2."""

    _fields_ = (
        *(("layers", POINTER(LayerStruct)), ("ln_f", NormStruct), ("head", MatrixStruct)),
        *((name, c_int64) for name in ("count", "width", "inner", "heads", "activation")),
        ("epsilon", c_float),
    )


class CacheStruct(Structure):
    """Keys and values of `slots` sequences of up to `length` tokens; model.h has the layout."""

    _fields_ = (
        *(("keys", c_void_p), ("values", c_void_p)),
        *(("slots", c_int64), ("length", c_int64)),
    )


class SegmentStruct(Structure):
    """New tokens of one sequence. `own`: -1, or where its keys and values go instead."""

    _fields_ = tuple((name, c_int64) for name in ("slot", "start", "first", "length", "own"))


class PackingStruct(Structure):
    """A matrix in a file, and where it is packed; packing.h explains each field."""

    _fields_ = (
        *((name, c_int64) for name in ("descriptor", "offset", "stored", "kind")),
        *((name, c_int64) for name in ("count", "in", "transposed")),
        *((name, c_void_p) for name in ("target", "scale", "maxima", "largest")),
    )


STRUCTURES: tuple[type[Structure], ...] = (
    MatrixStruct,
    NormStruct,
    LayerStruct,
    ModelStruct,
    CacheStruct,
    SegmentStruct,
    PackingStruct,
)
"""All structures that the library reads."""


class _LayoutEntry(Structure):
    """An entry of the table in layout.h, of a structure or a field. A NULL name ends the table."""

    _fields_ = (("name", c_char_p), ("offset", c_int64), ("size", c_int64))


def layout() -> dict[str, tuple[int, int]]:
    """Offset and size of the structures above and of each of their fields, by name."""
    found = {}
    for structure in STRUCTURES:
        name_in_c = structure.__name__.removesuffix("Struct")
        found[name_in_c] = (0, ctypes.sizeof(structure))
        for name, *_ in structure._fields_:
            field = getattr(structure, name)
            found[f"{name_in_c}.{name}"] = (field.offset, field.size)
    return found


def layout_in(library: ctypes.CDLL) -> dict[str, tuple[int, int]]:
    """The same as the compiler laid them out; empty without a layout table."""
    try:
        entries = ctypes.pointer(_LayoutEntry.in_dll(library, "gptcli_layout"))
    except ValueError:
        return {}
    found = {}
    for index in count():
        entry = entries[index]
        if entry.name is None:
            break
        found[entry.name.decode()] = (entry.offset, entry.size)
    return found
