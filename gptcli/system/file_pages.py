"""The weights' files, mapped before torch is there, and entered into memory beside its import.

A mapped page costs a fault when it is first touched: 0.3 s for the pages of a GPT-2 of 124M, all in
its first token. `enter` lets the system enter them at once, in a thread, in a fifth of that time;
`mapped` hands the mapping over. Left out: the tensors in it, see `gptcli.engines.gpt2.mapped`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Thread

from gptcli.system import stages, torch_import

POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14; Python's mmap does not name it
_ahead: dict[Path, mmap.mmap] = {}


def mapped(path: Path) -> mmap.mmap:
    """The pages of a file, those of `enter` or new ones: private, and never written to."""
    ready = _ahead.pop(path, None)
    if ready is not None:
        return ready
    with path.open("rb") as file:
        # Writable, as torch.frombuffer wants it.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def fetch(paths: Iterable[Path]) -> None:
    """Have the system read files from the disk, without waiting for it."""
    if hasattr(os, "posix_fadvise"):
        for path in paths:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def enter(paths: Iterable[Path]) -> None:
    """Map files and enter all of their pages, in a thread; on Linux with two processors or more."""
    if sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1:
        found = {path: mapped(path) for path in paths}
        _ahead.update(found)
        Thread(target=_populate, args=(list(found.values()),), name="pages", daemon=True).start()


def _populate(mappings: list[mmap.mmap]) -> None:
    """Enter all pages; where the system cannot, they are entered as they are touched."""
    torch_import.wait()  # it needs the second processor more
    madvise = ctypes.CDLL(None).madvise  # mmap.madvise would not let the interpreter go
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with stages.beside("weights' pages"):
        for pages in mappings:
            start = ctypes.c_char.from_buffer(pages)
            madvise(ctypes.addressof(start), len(pages), POPULATE_READ)
            del start  # the mapping could not be closed while it is referred to
