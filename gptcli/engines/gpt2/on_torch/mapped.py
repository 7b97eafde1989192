"""A safetensors file mapped into memory and read page by page as its tensors are used.

Nothing is copied, so opening a model takes no time. Pages of a tensor that has been converted can
be given back. Not here: the header is in `gptcli.checkpoints.safetensors_headers`.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import torch
from torch import Tensor

from gptcli.checkpoints.safetensors_headers import Tensor as Entry

STORED = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


class MappedFile:
    """The mapped pages of one file; its tensors are views of them."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            # Private, and writable because torch.frombuffer wants it; nothing is ever written.
            self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def tensor(self, entry: Entry) -> Tensor:
        """A view of one tensor, in its stored dtype and shape."""
        dtype = STORED[entry.dtype]
        source: mmap.mmap | bytearray = self._pages
        offset = entry.offset
        if offset % dtype.itemsize:  # legal, but torch reads only aligned values
            source, offset = bytearray(self._pages[offset : offset + entry.nbytes]), 0
        count = entry.nbytes // dtype.itemsize
        return torch.frombuffer(source, dtype=dtype, count=count, offset=offset).view(entry.shape)

    def drop(self, entry: Entry) -> None:
        """Give the tensor's pages back to the system; they are read again if touched."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        start = -(-entry.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (entry.offset + entry.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start:
            self._pages.madvise(mmap.MADV_DONTNEED, start, end - start)
