"""A checkpoint's weights as 8-bit integers: from the cache on disk, else made and put there.

What comes from the cache is mapped like a checkpoint. Left out: the files, see
`gptcli.checkpoints.int8_store`, and the arithmetic, see `gptcli.engines.gpt2.int8`.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from gptcli.checkpoints import int8_store
from gptcli.checkpoints.int8_store import StoredTensor
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import Tensor as Entry
from gptcli.engines.gpt2.int8 import Quantized, quantize
from gptcli.engines.gpt2.mapped import MappedFile
from gptcli.system.os_errors import reason
from gptcli.system.units import model_size

VALUES, SCALES = "", ".scales"  # what follows a matrix's name in the file
THREADS = 2  # matrices quantized at a time: each takes some tens of MB


@dataclass(frozen=True)
class Integers:
    """Weights in 8 bits by the names of the checkpoint, and what to tell the user.

    `file` and `entries` are where they are kept, if they are.
    """

    matrices: Mapping[str, Quantized]
    notices: tuple[str, ...] = ()
    file: MappedFile | None = None
    entries: Mapping[str, Entry] | None = None

    def release(self, name: str) -> None:
        """Give the pages of a matrix back: it is not needed any more."""
        if self.file is not None and self.entries is not None:
            self.file.drop(self.entries[name + VALUES])


def integers(model: str, manifest: CheckedCheckpoint) -> Integers:
    """The matrices of a GPT-2 in 8 bits; `model` is the name under which the cache lists them.

    A cache that cannot be read or written is a notice, no error.
    """
    names = _matrices(manifest)
    try:
        source = int8_store.digest(manifest.tensors.values())
    except OSError as error:
        return Integers(_made(manifest, names), (_unkept(model, error),))
    tensors = int8_store.find(source, _expected(manifest, names))
    if tensors:
        with suppress(OSError):  # another process has just cleared the cache
            return _mapped(tensors, names)
    matrices = _made(manifest, names)
    pieces: dict[str, StoredTensor] = {}
    for name, matrix in matrices.items():
        pieces[name + VALUES] = _piece("I8", matrix.values)
        pieces[name + SCALES] = _piece("F32", matrix.scales)
    try:
        int8_store.keep(source, model, pieces)
    except OSError as error:
        return Integers(matrices, (_unkept(model, error),))
    size = model_size(sum(len(piece.data) for piece in pieces.values()))
    said = f"made {size} of int8 weights for {model}, to be used again: see gptcli cache"
    return Integers(matrices, (said,))


def _unkept(model: str, error: OSError) -> str:
    return f"the int8 weights of {model} are made anew each time: {reason(error)}"


def _matrices(manifest: CheckedCheckpoint) -> dict[str, bool]:
    """The names of what is multiplied with, and whether it is stored as (in, out)."""
    assert manifest.gpt2 is not None
    tensors = manifest.tensors
    names = {name: True for name in tensors if name[:2] == "h." and len(tensors[name].shape) == 2}
    return names | {"wte.weight" if manifest.gpt2.tie_word_embeddings else "lm_head.weight": False}


def _expected(
    manifest: CheckedCheckpoint, names: Mapping[str, bool]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What a file of the cache must hold: dtype and shape by name."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, turned in names.items():
        shape = manifest.tensors[name].shape
        rows, width = reversed(shape) if turned else shape
        found[name + VALUES] = ("I8", (rows, width))
        found[name + SCALES] = ("F32", (rows,))
    return found


def _made(manifest: CheckedCheckpoint, names: Mapping[str, bool]) -> dict[str, Quantized]:
    """The matrices, quantized; the checkpoint's pages are given back as it goes on."""
    files = {path: MappedFile(path) for path in {e.file for e in manifest.tensors.values()}}

    def make(name: str) -> Quantized:
        entry = manifest.tensors[name]
        weight = files[entry.file].tensor(entry)
        matrix = quantize((weight.t() if names[name] else weight).float())
        files[entry.file].drop(entry)
        return matrix

    with ThreadPoolExecutor(min(THREADS, torch.get_num_threads())) as pool:
        return dict(zip(names, pool.map(make, names), strict=True))


def _mapped(tensors: Mapping[str, Entry], names: Mapping[str, bool]) -> Integers:
    """The matrices as views of the file that holds them."""
    file = MappedFile(next(iter(tensors.values())).file)
    matrices = {
        name: Quantized(file.tensor(tensors[name + VALUES]), file.tensor(tensors[name + SCALES]))
        for name in names
    }
    return Integers(matrices, (), file, tensors)


def _piece(dtype: str, tensor: Tensor) -> StoredTensor:
    return StoredTensor(dtype, tuple(tensor.shape), tensor.numpy().data.cast("B"))
