"""From the files of a checkpoint to numbers in memory: rows of floats, and packed matrices.

Matrices are packed into the layout of the kernels by all threads, in one call for all of them:
meanwhile another thread of Python, such as the tokenizer's, has the interpreter. Files are read,
not mapped: that costs no page faults, and a file that becomes shorter is an error, not a signal.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import ITEM_BYTES
from gptcli.checkpoints.safetensors_headers import Tensor as Entry
from gptcli.engines.gpt2.half import fits_float16
from gptcli.engines.gpt2.on_cpu.memory import (
    ALIGNMENT,
    Floats,
    address,
    use_huge_pages,
    weight_bytes,
)
from gptcli.errors import BadModel, MissingInput
from gptcli.native import Library
from gptcli.native.structures import (
    BLOCK,
    GROUP,
    KINDS,
    MatrixStruct,
    PackingStruct,
)
from gptcli.system.strict_json import open_model_file

CALL_NUMBERS = 2**28  # packed in one call, about half a second: Python waits with an interrupt


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


class StoredTensors:
    """The files of a checkpoint, open for reading."""

    def __init__(self, library: Library, checked: CheckedCheckpoint) -> None:
        self._library, self._tensors = library, checked.tensors
        self._files: dict[Path, int] = {}
        self._open = ExitStack()

    @contextmanager
    def opened(self) -> Iterator[StoredTensors]:
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


def matrix_shape(entry: Entry, transposed: bool) -> tuple[int, int]:
    """(out, in) of a matrix that is stored so, or `transposed`."""
    first, second = entry.shape
    return (second, first) if transposed else (first, second)


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


def matrix_names(checked: CheckedCheckpoint) -> dict[str, bool]:
    """The names of all matrices, and whether each is stored as (in, out)."""
    assert checked.gpt2 is not None
    tensors = checked.tensors
    names = {name: True for name in tensors if name[:2] == "h." and len(tensors[name].shape) == 2}
    return names | {"wte.weight" if checked.gpt2.tie_word_embeddings else "lm_head.weight": False}


class Packer:
    """Packs the matrices of one checkpoint; `free` is called before it leaves the interpreter."""

    def __init__(
        self,
        library: Library,
        source: StoredTensors,
        threads: int,
        free: Callable[[], object] = lambda: None,
    ) -> None:
        self._library, self._source, self.threads, self.free = library, source, threads, free

    def matrices(self, names: Mapping[str, bool], kind: str) -> dict[str, PackedMatrix]:
        """Matrices in blocks of `kind`, or of float32 where float16 cannot hold one.

        `names`: with whether each is stored as (in, out). Raises MissingInput and BadModel.
        """
        found: dict[str, PackedMatrix] = {}
        for some in self._calls(names):
            largest = np.zeros((len(some), self.threads), np.float32)
            found |= self._packed(some, kind, largest)
            if kind == "F16":
                peaks = zip(some, largest.max(1).tolist(), strict=True)
                large = {name: names[name] for name, peak in peaks if not fits_float16(peak)}
                found |= self.matrices(large, "F32")
        return found

    def _calls(self, names: Mapping[str, bool]) -> Iterator[dict[str, bool]]:
        """The matrices in parts, each for one call of the kernels."""
        some: dict[str, bool] = {}
        size = 0
        for name, transposed in names.items():
            some[name] = transposed
            size += math.prod(self._source.entry(name).shape)
            if size > CALL_NUMBERS:
                yield some
                some, size = {}, 0
        if some:
            yield some

    def _packed(
        self, names: Mapping[str, bool], kind: str, largest: Floats
    ) -> dict[str, PackedMatrix]:
        """Pack matrices in one call; `largest` (N, threads) takes their largest absolute values."""
        found: dict[str, PackedMatrix] = {}
        maxima = []  # kept until the call is over
        structs = (PackingStruct * len(names))()
        for struct, row, (name, transposed) in zip(structs, largest, names.items(), strict=True):
            entry = self._source.entry(name)
            out, width = matrix_shape(entry, transposed)
            blocks = weight_bytes(-(-out // BLOCK) * block_bytes(kind, width))
            found[name] = PackedMatrix(kind, (out, width), blocks)
            if kind == "I8":
                scale = np.empty(out, np.float32)
                found[name] = replace(found[name], scale=scale)
                maxima.append(np.zeros(self.threads * out if transposed else 1, np.float32))
                struct.scale, struct.maxima = address(scale), address(maxima[-1])
            struct.descriptor, struct.offset = self._source.descriptor(entry), entry.offset
            struct.stored, struct.kind = KINDS[entry.dtype], KINDS[kind]
            struct.count, struct.transposed, struct.target = out, transposed, address(blocks)
            setattr(struct, "in", width)
            struct.largest = address(row)
        self._run(structs, list(names))
        for matrix in found.values():
            use_huge_pages(matrix.blocks)
        return found

    def _run(self, structs: ctypes.Array[PackingStruct], names: Sequence[str]) -> None:
        size = max(self._library.packing_bytes(ctypes.byref(struct)) for struct in structs)
        memory = np.empty(self.threads * size + ALIGNMENT, np.int8)
        start = address(memory) + -address(memory) % ALIGNMENT
        error = ctypes.c_int32()
        self.free()
        failed = self._library.pack(
            structs, len(structs), start, size, self.threads, ctypes.byref(error)
        )
        if failed:
            _check(error.value, self._source.entry(names[failed - 1]))
