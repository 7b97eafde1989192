"""Memory for weights, for the KV cache and for a step, as NumPy arrays.

Weights are read from end to end in each step, so huge pages suit them: fewer lookups. But to find
huge pages takes the system longer than to pack the weights. So weights are made in small pages, and
the system may merge those of a process that runs for long. The KV cache stays in small pages, which
are taken when they are written: a huge page would take 2 MB for the first token of every slot and
layer.
"""

from __future__ import annotations

import math
import mmap
import os
from contextlib import suppress
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
ALIGNMENT = 64  # bytes, a line of the processor's cache
HUGE_PAGE = 2**21  # bytes
KEPT_SCRATCH = 2**24  # bytes; what a long prompt needs beyond that is made anew for each step

_own = local()


def weight_bytes(size: int) -> NDArray[np.int8]:
    """`size` bytes for weights, aligned to `ALIGNMENT`; zero until they are written."""
    if size < HUGE_PAGE:
        return _aligned(np.zeros(size + ALIGNMENT, np.int8), ALIGNMENT)[:size]
    return _aligned(np.frombuffer(_pages(size + HUGE_PAGE), np.int8), HUGE_PAGE)[:size]


def use_huge_pages(weights: NDArray[np.int8]) -> None:
    """Let the system merge the pages of `weight_bytes` that are written."""
    base: Any = weights
    while isinstance(base, np.ndarray):
        base = base.base
    _advise(getattr(base, "obj", base), "MADV_HUGEPAGE")


def cache_floats(shape: tuple[int, ...]) -> Floats:
    """Zeros for a KV cache. Memory is taken page by page, when it is written."""
    pages = _pages(4 * max(math.prod(shape), 1))
    _advise(pages, "MADV_NOHUGEPAGE")
    return np.frombuffer(pages, np.float32, math.prod(shape)).reshape(shape)


def scratch(size: int) -> NDArray[np.int8]:
    """`size` bytes or more, aligned to `ALIGNMENT`, which the next call of this thread may return.

    New pages for each step would take longer than a step of a small model.
    """
    held: NDArray[np.int8] | None = getattr(_own, "scratch", None)
    if held is not None and len(held) >= size:
        return held
    found = _aligned(np.empty(size + ALIGNMENT, np.int8), ALIGNMENT)
    if size <= KEPT_SCRATCH:
        _own.scratch = found
    return found


def address(array: NDArray[Any]) -> int:
    """Where an array's data begins. The caller keeps the array alive."""
    return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


def _aligned(whole: NDArray[np.int8], boundary: int) -> NDArray[np.int8]:
    """An array from the first address on that is a multiple of `boundary`."""
    return whole[-address(whole) % boundary :]


def _pages(size: int) -> mmap.mmap:
    """New memory, zero. Raises MemoryError."""
    # Private: by default a forked child and its parent would write into the same memory.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    try:
        return mmap.mmap(-1, size, **private)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"{size} bytes") from error


def _advise(pages: Any, advice: str) -> None:
    if isinstance(pages, mmap.mmap) and hasattr(mmap, advice):
        with suppress(OSError):  # a kernel without huge pages
            pages.madvise(getattr(mmap, advice))
