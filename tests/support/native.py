"""The C kernels from Python: matrices and networks on a CPU, for each kind of processor."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from weakref import finalize

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.safetensors_headers import read_tensors
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.gpt2.on_cpu.memory import Floats, address
from gptcli.engines.gpt2.on_cpu.network import CPUNetwork
from gptcli.engines.gpt2.on_cpu.packing import PackedMatrix, Packer, StoredTensors
from gptcli.engines.gpt2.on_cpu.weights import STORED, CPUWeights
from gptcli.native import Library

DTYPES = ["F32", "F16", "BF16", "I8"]
"""Data types of matrices in memory, by safetensors' names."""
NAMES = {stored: name for name, stored in STORED.items()}


def packer(library: Library, folder: Path, threads: int = 2, **tensors: NDArray[np.float32]):
    """A packer of tensors that it finds in a file of its own."""
    save_file(tensors, folder / "model.safetensors")
    checked = CheckedCheckpoint(
        folder=folder,
        config={},
        model_type="gpt2",
        gpt2=None,
        tensors=read_tensors(folder),
        notices=(),
    )
    files = ExitStack()
    found = Packer(library, files.enter_context(StoredTensors(library, checked).opened()), threads)
    finalize(found, files.close)
    return found


def one(packer: Packer, name: str, dtype: str, transposed: bool = False) -> PackedMatrix:
    """One matrix in blocks."""
    return packer.matrices({name: transposed}, dtype)[name]


def packed(
    library: Library,
    folder: Path,
    weight: NDArray[np.float32],
    dtype: str,
    bias: Floats | None = None,
) -> PackedMatrix:
    """A matrix (out, in) in blocks."""
    matrix = one(packer(library, folder, weight=weight), "weight", dtype)
    return matrix if bias is None else matrix.with_bias(bias)


def product(library: Library, matrix: PackedMatrix, x: Floats, threads: int = 2) -> Floats:
    """x (n, in) -> (n, out)."""
    x = np.ascontiguousarray(x)
    y = np.full((len(x), matrix.shape[0]), 7, np.float32)
    memory = np.empty(len(x) * library.activation_bytes(matrix.shape[1]) + 64, np.int8)
    start = address(memory) + -address(memory) % 64
    struct = matrix.struct
    library.matmul(ctypes.byref(struct), address(x), len(x), address(y), start, threads)
    return y


def network_of(library: Library, folder: Path, dtype: str, threads: int = 2) -> CPUNetwork:
    """A checkpoint with matrices of a data type."""
    weights = CPUWeights(library, "m", inspect(folder), NAMES[dtype], threads)
    return CPUNetwork(library, weights, threads)


def at_once(network: CPUNetwork, tokens: Sequence[int]) -> Floats:
    """The logits after each token, (T, vocab), of one step."""
    return network.forward_step(network.new_cache(1), [Segment(0, 0, len(tokens))], tokens)


def one_by_one(network: CPUNetwork, tokens: Sequence[int]) -> Floats:
    """The logits after each token, (T, vocab), of a step for each."""
    cache = network.new_cache(1)
    rows = [
        network.forward_step(cache, [Segment(0, place, 1)], [token])
        for place, token in enumerate(tokens)
    ]
    return np.concatenate(rows)
