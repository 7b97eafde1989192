"""From the files of a checkpoint to numbers in memory: rows of floats, and packed matrices.

Matrices are packed into the layout of the kernels by all threads, in parts: beside the packed
weights only one part is in memory. Files are read, not mapped: that costs no page faults, and a
file that becomes shorter is an error, not a signal.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import ITEM_BYTES
from gptcli.checkpoints.safetensors_headers import Tensor as Entry
from gptcli.engines.gpt2.half import fits_float16
from gptcli.engines.gpt2.on_cpu.memory import Floats, address, weight_bytes
from gptcli.errors import BadModel, MissingInput
from gptcli.native import Library
from gptcli.native.structures import (
    BLOCK,
    GROUP,
    KINDS,
    READ_NUMBERS,
    MatrixStruct,
    PackingStruct,
)
from gptcli.system.strict_json import open_model_file

PART_NUMBERS = 2**22  # numbers of a matrix that are read before they are packed: 16 MB


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A matrix (out, in) in blocks of `kind`; `scale` (out,) of int8; `bias` (out,) or None."""

    kind: str  # safetensors' name of the data type
    shape: tuple[int, int]
    blocks: NDArray[np.int8]
    scale: Floats | None = None
    bias: Floats | None = None

    def with_bias(self, bias: Floats) -> PackedMatrix:
        """The same matrix with a bias (out,)."""
        return replace(self, bias=bias)

    @property
    def struct(self) -> MatrixStruct:
        """As the kernels read it; holds addresses of this object's arrays."""
        out, width = self.shape
        parts = (None if part is None else address(part) for part in (self.scale, self.bias))
        return MatrixStruct(address(self.blocks), *parts, width, out, KINDS[self.kind])


class Source:
    """The files of a checkpoint, open for reading."""

    def __init__(self, library: Library, checked: CheckedCheckpoint) -> None:
        self._library, self._tensors = library, checked.tensors
        self._files: dict[Path, int] = {}
        self._open = ExitStack()

    @contextmanager
    def opened(self) -> Iterator[Source]:
        """Closes the files at the end."""
        with self._open:
            yield self
        self._files = {}

    def entry(self, name: str) -> Entry:
        """Where a tensor lies."""
        return self._tensors[name]

    def descriptor(self, entry: Entry) -> int:
        """The open file of a tensor. Raises MissingInput and BadModel."""
        if entry.file not in self._files:
            file = self._open.enter_context(open_model_file(entry.file))
            self._files[entry.file] = file.fileno()
        return self._files[entry.file]

    def floats(self, name: str) -> Floats:
        """A small tensor as float32. Raises MissingInput and BadModel."""
        entry = self.entry(name)
        found = np.empty(entry.shape, np.float32)
        size = math.prod(entry.shape)
        read_rows(self._library, self.descriptor(entry), entry, np.zeros(1, np.int64), size, found)
        return found


def block_bytes(kind: str, width: int) -> int:
    """Bytes of a block of outputs with `width` inputs."""
    inside = -(-width // GROUP) * GROUP if kind == "I8" else width
    return inside * BLOCK * ITEM_BYTES[kind]


def read_rows(
    library: Library,
    descriptor: int,
    entry: Entry,
    indices: NDArray[np.int64],
    width: int,
    target: Floats,
) -> None:
    """Read rows (N,) of a tensor as float32 into (N, width). Raises MissingInput and BadModel."""
    where = descriptor, entry.offset, KINDS[entry.dtype], width
    _check(library.read_rows(*where, address(indices), len(indices), address(target)), entry)


def _check(failed: int, entry: Entry) -> None:
    """Raises what a kernel says of a tensor's file: an errno, or -1 for one that is too short."""
    if failed < 0:
        why = "it is shorter than when it was checked"
        hint = "Another program writes it: run the command again later."
        raise BadModel(str(entry.file), why, hint)
    if failed:
        raise MissingInput(str(entry.file), os.strerror(failed), "Check the disk")


class Packer:
    """Packs the matrices of one checkpoint."""

    def __init__(self, library: Library, source: Source, threads: int) -> None:
        self._library, self._source, self.threads = library, source, threads
        self._numbers = np.empty(0, np.float32)
        self._staging = np.empty(0, np.int8)

    def matrix(self, name: str, kind: str, transposed: bool) -> PackedMatrix:
        """A matrix in blocks of `kind`, or of float32 where float16 cannot hold it.

        `transposed`: stored as (in, out). Raises MissingInput and BadModel.
        """
        entry = self._source.entry(name)
        out, width = reversed(entry.shape) if transposed else entry.shape
        count = -(-out // BLOCK)
        block = block_bytes(kind, width)
        blocks, largest = weight_bytes(count * block), np.empty(count, np.float32)
        scale = np.empty(out, np.float32) if kind == "I8" else None
        # All of a transposed matrix; of another one as many whole blocks of outputs as fit.
        rows = out if transposed else max(PART_NUMBERS // width // BLOCK, 1) * BLOCK
        for first in range(0, out, rows):
            self._part(
                entry,
                first,
                PackingStruct(
                    count=min(rows, out - first),
                    by_out=1 if transposed else width,
                    by_in=out if transposed else 1,
                    kind=KINDS[kind],
                    target=address(blocks) + first // BLOCK * block,
                    scale=None if scale is None else address(scale) + 4 * first,
                    largest=address(largest) + 4 * (first // BLOCK),
                    **{"in": width},
                ),
            )
        if kind == "F16" and not fits_float16(float(largest.max())):
            return self.matrix(name, "F32", transposed)
        return PackedMatrix(kind, (out, width), blocks, scale)

    def _part(self, entry: Entry, first: int, part: PackingStruct) -> None:
        """Read and pack some outputs, from number `first` on."""
        size = part.count * getattr(part, "in")
        if len(self._numbers) < size:
            self._numbers = np.empty(size, np.float32)
        if entry.dtype != "F32" and not len(self._staging):
            self._staging = np.empty(self.threads * READ_NUMBERS * 8, np.int8)
        part.descriptor = self._source.descriptor(entry)
        part.offset = entry.offset + first * getattr(part, "in") * ITEM_BYTES[entry.dtype]
        part.stored = KINDS[entry.dtype]
        part.numbers, part.staging = address(self._numbers), address(self._staging)
        _check(self._library.pack(ctypes.byref(part), self.threads), entry)
