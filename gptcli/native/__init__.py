"""Our kernels in C: GPT-2's forward pass in one call, and what prepares its weights.

They are compiled when gptcli is installed, once for each kind of processor; see hatch_build.py.
`library` loads those for this processor, or returns None, and then torch does the work. ctypes
releases the interpreter lock while a kernel runs. network.c describes the computation, model.h the
memory layout, pool.h the threads.
Not here: weights and KV cache are in `gptcli.engines.gpt2.on_cpu`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gptcli.native.structures import ABI, layout, layout_in

Foreign = Callable[..., Any]
FOLDER = Path(__file__).parent / "kernels"
FAMILIES = (("baseline", "avx2", "avx512", "avx512vnni"), ("baseline", "dotprod"))
"""Kinds of processor that have kernels, as processor.c names them, fastest last: x86-64, ARM."""


@dataclass(frozen=True)
class Library:
    """The kernels for one kind of processor, as foreign functions; network.c has the arguments."""

    kind: str  # of `FAMILIES`
    forward_step: Foreign
    scratch_size: Foreign
    own_floats: Foreign
    matmul: Foreign
    activation_bytes: Foreign
    packing_bytes: Foreign
    pack: Foreign
    log_sum_exps: Foreign
    read_rows: Foreign


@cache
def library() -> Library | None:
    """The fastest kernels for this processor, or None."""
    return next((found for kind in reversed(kinds()) if (found := opened(kind))), None)


def opened(kind: str) -> Library | None:
    """The kernels for one kind of processor, or None. This processor must be of that kind."""
    try:
        found = ctypes.CDLL(str(FOLDER / f"network.{kind}.so"))
        abi = c_int32.in_dll(found, "gptcli_abi").value
    except (OSError, ValueError):
        return None
    if abi != ABI or layout_in(found) != layout():
        return None
    pointer, number = c_void_p, c_int64

    def function(name: str, *takes: Any, gives: type | None = None) -> Foreign:
        foreign = found[f"gptcli_{name}"]
        foreign.argtypes, foreign.restype = list(takes), gives
        return foreign

    return Library(
        kind=kind,
        forward_step=function(
            "forward_step",
            *(*[pointer] * 3, number, pointer, *[number] * 2, *[pointer] * 3, *[number] * 3),
        ),
        scratch_size=function("scratch_size", *[pointer] * 3, *[number] * 3, gives=number),
        own_floats=function("own_floats", pointer, pointer, gives=number),
        matmul=function("matmul", pointer, pointer, number, pointer, pointer, number),
        activation_bytes=function("activation_bytes", number, gives=number),
        packing_bytes=function("packing_bytes", pointer, gives=number),
        pack=function(
            "pack", *(pointer, number, pointer, number, number, POINTER(c_int32)), gives=number
        ),
        log_sum_exps=function("log_sum_exps", pointer, number, number, *[pointer] * 2, number),
        read_rows=function("read_rows", *[number] * 4, pointer, number, pointer, gives=c_int32),
    )


def kinds() -> list[str]:
    """The kinds of kernels that are there and that this processor runs, the fastest last."""
    best = _kind()
    known = next((family for family in FAMILIES if best in family), ())
    runnable = known[: known.index(best) + 1] if known else ()
    return [kind for kind in runnable if (FOLDER / f"network.{kind}.so").exists()]


def _kind() -> str:
    try:
        ask = ctypes.CDLL(str(FOLDER / "processor.so"))["gptcli_kind"]
    except (OSError, AttributeError):
        return ""
    ask.restype = c_char_p
    answer = ask()
    return answer.decode() if isinstance(answer, bytes) else ""
