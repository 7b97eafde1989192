"""Our kernels in C: matrix products, and a whole decode step of GPT-2 in one call.

They are compiled when gptcli is installed, once for each kind of processor; see hatch_build.py.
`library` loads those for this processor, or returns None, and then torch's kernels do the work. The
structures below mirror those of C; a library with another layout is not used. ctypes releases the
interpreter lock while a kernel runs. forward.c describes the computation and the memory layout.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from gptcli.system import torch_import

ABI = 4  # version of the functions' arguments, as in model.h
BLOCK = 32  # outputs of a matrix that are stored side by side
Foreign = Callable[..., Any]
RUNTIME = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")


class TeamStruct(Structure):
    """The threads of a call: functions of torch's OpenMP runtime, and the number of threads."""

    _fields_ = (
        *((name, c_void_p) for name in ("parallel", "thread_num", "num_threads")),
        ("threads", c_int64),
    )


class MatrixStruct(Structure):
    """A matrix (out, in) in blocks of 8, 16 or 32 `bits`; `scale` (out,) for 8; `bias` or None."""

    _fields_ = (
        *(("weight", c_void_p), ("scale", c_void_p), ("bias", c_void_p)),
        *(("in_features", c_int64), ("out_features", c_int64), ("bits", c_int64)),
    )


class NormStruct(Structure):
    """A layer norm's gain and shift, (C,) floats each."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


class LayerStruct(Structure):
    """One transformer layer; `kv`: (slots, 2, H, length, D) floats; `scale` of attention."""

    _fields_ = (
        *(("ln_1", NormStruct), ("ln_2", NormStruct)),
        *(
            ("attn", MatrixStruct),
            ("attn_out", MatrixStruct),
            ("fc", MatrixStruct),
            ("proj", MatrixStruct),
        ),
        *(("kv", c_void_p), ("scale", c_float)),
    )


class ModelStruct(Structure):
    """A GPT-2 with tanh GELU, and the KV cache that it fills."""

    _fields_ = (
        *(("layers", POINTER(LayerStruct)), ("ln_f", NormStruct), ("head", MatrixStruct)),
        *((name, c_int64) for name in ("count", "width", "inner", "heads", "length")),
        ("epsilon", c_float),
    )


STRUCTURES: tuple[type[Structure], ...] = (
    TeamStruct,
    MatrixStruct,
    NormStruct,
    LayerStruct,
    ModelStruct,
)
"""All structures that the library reads. Its own layout table is compared with these."""


class _LayoutEntry(Structure):
    """An entry of the table in layout.h, of a structure or a field. A NULL name ends the table."""

    _fields_ = (("name", c_char_p), ("offset", c_int64), ("size", c_int64))


@dataclass(frozen=True)
class Library:
    """The kernels for one kind of processor, as foreign functions; see forward.c for arguments."""

    kind: str  # avx2, avx512, avx512vnni
    forward_step: Foreign
    matmul: Foreign
    scratch_size: Foreign
    pack_floats: Foreign
    pack_int8: Foreign
    runtime: tuple[int, ...]  # the addresses of `RUNTIME`

    def team(self, threads: int) -> TeamStruct:
        """`threads` threads of torch's OpenMP runtime."""
        return TeamStruct(*self.runtime, threads)


@cache
def library() -> Library | None:
    """The kernels for this processor, or None. torch must be imported."""
    kind = _kind()
    return opened(kind) if kind else None


def opened(kind: str) -> Library | None:
    """The kernels for one kind of processor, or None. This processor must be of that kind."""
    runtime = _runtime()
    try:
        found = ctypes.CDLL(str(_folder() / f"forward.{kind}.so"))
        abi = c_int32.in_dll(found, "gptcli_abi").value
    except (OSError, ValueError):
        return None
    if runtime is None or abi != ABI or _layout_in(found) != _layout():
        return None
    pointer, number = c_void_p, c_int64

    def function(name: str, *takes: type, gives: type | None = None) -> Foreign:
        foreign = found[f"gptcli_{name}"]
        foreign.argtypes, foreign.restype = list(takes), gives
        return foreign

    return Library(
        kind=kind,
        forward_step=function("forward_step", *[pointer] * 6, number, number, *[pointer] * 3),
        matmul=function("matmul", *[pointer] * 3, number, pointer, pointer),
        scratch_size=function("scratch_size", pointer, number, number, gives=c_int64),
        pack_floats=function("pack_floats", *[pointer] * 2, *[number] * 5, pointer, pointer),
        pack_int8=function("pack_int8", pointer, pointer, number, number, pointer),
        runtime=runtime,
    )


def kinds() -> list[str]:
    """The kinds of kernels that this processor runs, the fastest last."""
    known = ["avx2", "avx512", "avx512vnni"]
    best = _kind()
    return known[: known.index(best) + 1] if best in known else []


def _layout() -> dict[str, tuple[int, int]]:
    """Offset and size of the structures above and of each of their fields, by name."""
    found = {}
    for structure in STRUCTURES:
        name_in_c = structure.__name__.removesuffix("Struct")
        found[name_in_c] = (0, ctypes.sizeof(structure))
        for name, *_ in structure._fields_:
            field = getattr(structure, name)
            found[f"{name_in_c}.{name}"] = (field.offset, field.size)
    return found


def _layout_in(library: ctypes.CDLL) -> dict[str, tuple[int, int]]:
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


def _kind() -> str:
    try:
        ask = ctypes.CDLL(str(_folder() / "processor.so"))["gptcli_kind"]
    except (OSError, AttributeError):
        return ""
    ask.restype = c_char_p
    answer = ask()
    return answer.decode() if isinstance(answer, bytes) else ""


def _runtime() -> tuple[int, ...] | None:
    """The addresses of torch's OpenMP functions. torch brings a runtime of its own, and a second
    one would compete with it for the cores."""
    folder = torch_import.folder()
    try:
        torch = ctypes.CDLL(str(folder / "lib" / "libtorch_cpu.so")) if folder else None
        found = [ctypes.cast(torch[name], c_void_p).value for name in RUNTIME] if torch else []
    except (OSError, AttributeError):
        return None
    return tuple(address for address in found if address) or None


def _folder() -> Path:
    return Path(__file__).parent
