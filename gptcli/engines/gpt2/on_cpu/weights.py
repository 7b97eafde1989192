"""From safetensors to the weights of a GPT-2 in the layout of the kernels.

Each matrix is read and packed by all threads, one after the other, in parts: beside the packed
weights only one part is in memory. Embeddings stay in the mapped file, because a step reads one row
a token. Headers were checked by `gptcli.checkpoints.preflight`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import Tensor as Entry
from gptcli.engines.gpt2.on_cpu.memory import Floats, address, weight_bytes
from gptcli.errors import BadModel
from gptcli.native import Library
from gptcli.native.structures import (
    ACTIVATIONS,
    BLOCK,
    GROUP,
    KINDS,
    READ_NUMBERS,
    LayerStruct,
    MatrixStruct,
    ModelStruct,
    NormStruct,
    PackingStruct,
)

PART_NUMBERS = 2**22  # numbers of a matrix that are read before they are packed: 16 MB
# Range of a matrix's largest absolute value for float16: above is infinity, far below too few bits
# remain.
MIN_HALF_PEAK, MAX_HALF = 2.0**-8, 65504.0
Kept = TypeVar("Kept")
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "F64": 8}


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A matrix (out, in) in blocks of `kind`; `scale` (out,) of int8; `bias` (out,) or None."""

    kind: str  # safetensors' name of the data type
    shape: tuple[int, int]
    blocks: NDArray[np.int8]
    scale: Floats | None
    bias: Floats | None

    @property
    def struct(self) -> MatrixStruct:
        """As the kernels read it; holds addresses of this object's arrays."""
        out, width = self.shape
        parts = (None if part is None else address(part) for part in (self.scale, self.bias))
        return MatrixStruct(address(self.blocks), *parts, width, out, KINDS[self.kind])


class Source:
    """The files of a checkpoint, open for reading."""

    def __init__(self, checked: CheckedCheckpoint) -> None:
        self._tensors = checked.tensors
        self._files: dict[Path, int] = {}

    @contextmanager
    def opened(self) -> Iterator[Source]:
        """Closes the files at the end."""
        try:
            yield self
        finally:
            for descriptor in self._files.values():
                os.close(descriptor)
            self._files = {}

    def entry(self, name: str) -> Entry:
        """Where a tensor lies."""
        return self._tensors[name]

    def descriptor(self, entry: Entry) -> int:
        """The open file of a tensor. Raises OSError."""
        if entry.file not in self._files:
            self._files[entry.file] = os.open(entry.file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        return self._files[entry.file]

    def floats(self, name: str) -> Floats:
        """A small tensor as float32. Raises BadModel for a file that is too short."""
        entry = self.entry(name)
        data = os.pread(self.descriptor(entry), entry.nbytes, entry.offset)
        if len(data) != entry.nbytes:
            raise shortened(entry)
        return as_floats(np.frombuffer(data, np.uint8), entry.dtype).reshape(entry.shape)


def as_floats(data: NDArray[Any], dtype: str) -> Floats:
    """Little-endian bytes (N x size) of a stored data type as float32 (N,)."""
    if dtype == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    kind = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype]
    with np.errstate(over="ignore"):
        return data.view(kind).astype(np.float32)


def shortened(entry: Entry) -> BadModel:
    """The error for a file that ends before its tensor."""
    why = "it is shorter than when it was checked"
    return BadModel(str(entry.file), why, "Another program writes it: run the command again later.")


class Packer:
    """Packs the matrices of one checkpoint."""

    def __init__(self, library: Library, source: Source, threads: int) -> None:
        self._library, self._source, self._threads = library, source, threads
        self._numbers = np.empty(0, np.float32)
        self._staging = np.empty(0, np.int8)

    def matrix(self, name: str, kind: str, bias: Floats | None, transposed: bool) -> PackedMatrix:
        """A matrix in blocks of `kind`, or of float32 where float16 cannot hold it.

        `transposed`: stored as (in, out). Raises OSError; BadModel for a file that is too short.
        """
        entry = self._source.entry(name)
        out, width = reversed(entry.shape) if transposed else entry.shape
        count = -(-out // BLOCK)
        inside = -(-width // GROUP) * GROUP if kind == "I8" else width
        block = inside * BLOCK * ITEM_BYTES[kind]
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
        peak = float(largest.max())
        if kind == "F16" and not (peak == 0 or MIN_HALF_PEAK <= peak <= MAX_HALF):
            return self.matrix(name, "F32", bias, transposed)
        return PackedMatrix(kind, (out, width), blocks, scale, bias)

    def _part(self, entry: Entry, first: int, part: PackingStruct) -> None:
        """Read and pack some outputs, from number `first` on."""
        size = part.count * getattr(part, "in")
        if len(self._numbers) < size:
            self._numbers = np.empty(size, np.float32)
        if entry.dtype != "F32" and not len(self._staging):
            self._staging = np.empty(self._threads * READ_NUMBERS * 8, np.int8)
        part.descriptor = self._source.descriptor(entry)
        part.offset = entry.offset + first * getattr(part, "in") * ITEM_BYTES[entry.dtype]
        part.stored = KINDS[entry.dtype]
        part.numbers, part.staging = address(self._numbers), address(self._staging)
        failed = self._library.pack(ctypes.byref(part), self._threads)
        if failed < 0:
            raise shortened(entry)
        if failed:
            raise OSError(failed, os.strerror(failed), str(entry.file))


class Embedding:
    """A matrix (rows, C) in its mapped file, of which rows are read as float32."""

    def __init__(self, entry: Entry) -> None:
        with entry.file.open("rb") as file:
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = np.frombuffer(pages, np.uint8, entry.nbytes, entry.offset)
        self._rows = data.reshape(entry.shape[0], -1)
        self._dtype, self._width = entry.dtype, entry.shape[1]

    def rows(self, indices: NDArray[np.int64]) -> Floats:
        """The rows (N,) of these indices, (N, C)."""
        return as_floats(self._rows[indices], self._dtype).reshape(-1, self._width)


class CPUWeights:
    """All weights of one GPT-2, with matrices of `kind`, and the structures that hold them."""

    def __init__(
        self, library: Library, checked: CheckedCheckpoint, kind: str, threads: int
    ) -> None:
        """Raises OSError and BadModel for files that cannot be read."""
        assert checked.gpt2 is not None
        self.config: GPT2Config = checked.gpt2
        self._kept: list[Any] = []  # what the structures point to
        self.wte = Embedding(checked.tensors["wte.weight"])
        with Source(checked).opened() as source:
            self.wpe = source.floats("wpe.weight")
            packer = Packer(library, source, threads)
            self.struct = self._model(source, packer, kind)

    def _model(self, source: Source, packer: Packer, kind: str) -> ModelStruct:
        config = self.config
        self._layers = (LayerStruct * config.n_layer)(
            *(self._layer(source, packer, kind, number) for number in range(config.n_layer))
        )
        name = "wte.weight" if config.tie_word_embeddings else "lm_head.weight"
        return ModelStruct(
            self._layers,
            self._norm(source, "ln_f."),
            self._keep(packer.matrix(name, kind, None, transposed=False)).struct,
            *(config.n_layer, config.n_embd, config.inner, config.n_head),
            ACTIVATIONS[config.activation_function],
            config.layer_norm_epsilon,
        )

    def _layer(self, source: Source, packer: Packer, kind: str, number: int) -> LayerStruct:
        prefix = f"h.{number}."

        def matrix(name: str) -> MatrixStruct:
            bias = source.floats(f"{prefix}{name}.bias")
            found = packer.matrix(f"{prefix}{name}.weight", kind, bias, transposed=True)
            return self._keep(found).struct

        return LayerStruct(
            self._norm(source, prefix + "ln_1."),
            self._norm(source, prefix + "ln_2."),
            matrix("attn.c_attn"),
            matrix("attn.c_proj"),
            matrix("mlp.c_fc"),
            matrix("mlp.c_proj"),
            self.config.attention_scale(number),
        )

    def _norm(self, source: Source, prefix: str) -> NormStruct:
        parts = [self._keep(source.floats(prefix + part)) for part in ("weight", "bias")]
        return NormStruct(*map(address, parts))

    def _keep(self, part: Kept) -> Kept:
        self._kept.append(part)
        return part
