"""Map the files of the weights before torch is imported, and populate their pages meanwhile.

The first access to a mapped page costs a fault: 0.3 s for all pages of a GPT-2 of 124M, all of it
in the first token. `enter` lets the system populate them in a thread, in a fifth of that time.
`mapped` hands the mapping over. Not here: the tensors in it are in `gptcli.engines.gpt2.mapped`.
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
from gptcli.system.regular_files import open_regular

POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14; Python's mmap does not name it
_ahead: dict[Path, mmap.mmap] = {}


def mapped(path: Path) -> mmap.mmap:
    """The mapped pages of a file, from `enter` or new: private, and never written to."""
    ready = _ahead.pop(path, None)
    if ready is not None:
        return ready
    with open_regular(path) as file:
        # Writable, as torch.frombuffer wants it.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def fetch(paths: Iterable[Path]) -> None:
    """Ask the system to read files from the disk, without waiting."""
    if hasattr(os, "posix_fadvise"):
        for path in paths:
            with open_regular(path) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def enter(paths: Iterable[Path]) -> None:
    """Map files and populate their pages in a thread; on Linux with at least two cores."""
    if sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1:
        found = {path: mapped(path) for path in paths}
        _ahead.update(found)
        Thread(target=_populate, args=(list(found.values()),), name="pages", daemon=True).start()


def _populate(mappings: list[mmap.mmap]) -> None:
    """Populate all pages. Where the system cannot, they are populated on first access."""
    torch_import.wait()  # which needs the second core more
    madvise = ctypes.CDLL(None).madvise  # mmap.madvise holds the interpreter lock
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with stages.beside("weights' pages"):
        for pages in mappings:
            start = ctypes.c_char.from_buffer(pages)
            madvise(ctypes.addressof(start), len(pages), POPULATE_READ)
            del start  # a mapping with references cannot be closed
