"""int8 weights of a checkpoint: read from the cache on disk, or quantized and stored there.

Each row of a weight matrix (an output channel) has its own scale, its largest absolute value over
127. Cached weights are mapped like a checkpoint. Not here: the files are in
`gptcli.checkpoints.int8_store`.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from gptcli.checkpoints import int8_store
from gptcli.checkpoints.integrity.content import published
from gptcli.checkpoints.integrity.sealed import BrokenSeal, StoredTensor
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import Tensor as Entry
from gptcli.engines.gpt2.on_torch.mapped import MappedFile
from gptcli.system.os_errors import reason
from gptcli.system.units import model_size

VALUES, SCALES = "", ".scales"  # suffixes of a matrix's name in the file
QUANTIZE_THREADS = 2  # matrices at a time; each takes some tens of MB
WEIGHT_MAX = 127  # the largest integer of a weight
CHUNK_ELEMENTS = 2**23  # of a large matrix, quantized at a time


@dataclass(frozen=True)
class Quantized:
    """An int8 matrix (out, in), contiguous: the weight of row i is values[i] * scales[i].

    A row with NaN or infinity has the scale NaN, so that the fault shows as it does in float32.
    """

    values: Tensor
    scales: Tensor

    def whole(self) -> Tensor:
        """The weights in float32."""
        return self.values * self.scales[:, None]


@dataclass(frozen=True)
class Int8Weights:
    """int8 matrices by the checkpoint's names, and notices for the user.

    `file` and `entries` are set where the matrices are mapped from the cache.
    """

    matrices: Mapping[str, Quantized]
    notices: tuple[str, ...] = ()
    file: MappedFile | None = None
    entries: Mapping[str, Entry] | None = None

    def release(self, name: str) -> None:
        """Give the pages of a matrix back to the system, once it is used."""
        if self.file is not None and self.entries is not None:
            self.file.drop(self.entries[name + VALUES])


def quantize(weight: Tensor) -> Quantized:
    """A float matrix (out, in), any strides, rounded to integers from -127 to 127."""
    values = torch.empty(weight.shape, dtype=torch.int8)
    scales = torch.empty(len(weight))
    rows = max(CHUNK_ELEMENTS // weight.shape[1], 1)
    parts = zip(*(torch.split(whole, rows) for whole in (weight, values, scales)), strict=True)
    for part, own, scale in parts:
        torch.div(part.abs().amax(1), WEIGHT_MAX, out=scale)
        # 0 / 0 is NaN and becomes 0 again.
        own.copy_((part / scale[:, None]).round_().nan_to_num_(0, 0, 0))
    return Quantized(values, scales.masked_fill_(~scales.isfinite(), torch.nan))


def load_int8_weights(model: str, checked: CheckedCheckpoint) -> Int8Weights:
    """The int8 matrices of a GPT-2; `model` is the name under which the cache lists them.

    A cache that is damaged or cannot be written gives a notice, not an error. Raises MissingInput,
    BadModel where the weights cannot be read, or are made of files that are not the published ones:
    they would be kept under the name of those, and stay when the files are mended.
    """
    names = _matrix_names(checked)
    source = int8_store.digest(checked.tensors.values())
    damage = ""
    try:
        if tensors := int8_store.find(source, _stored_shapes(checked, names)):
            with suppress(OSError):  # another process has just cleared the cache
                return _mapped(tensors, names)
    except BrokenSeal as error:
        damage = f"the int8 weights kept for {model} were damaged ({error}): "
    published({tensor.file for tensor in checked.tensors.values()}, model)
    matrices = _quantized(checked, names)
    pieces: dict[str, StoredTensor] = {}
    for name, matrix in matrices.items():
        pieces[name + VALUES] = _stored("I8", matrix.values)
        pieces[name + SCALES] = _stored("F32", matrix.scales)
    try:
        int8_store.keep(source, model, pieces)
    except OSError as error:
        return Int8Weights(matrices, (_cache_failed(model, error),))
    size = model_size(sum(len(piece.data) for piece in pieces.values()))
    what = f"made {size} of them anew" if damage else f"made {size} of int8 weights for {model}"
    notice = f"{damage}{what}, to be used again: see gptcli cache"
    return Int8Weights(matrices, (notice,))


def _cache_failed(model: str, error: OSError) -> str:
    return f"the int8 weights of {model} are made anew each time: {reason(error)}"


def _matrix_names(checked: CheckedCheckpoint) -> dict[str, bool]:
    """The names of all matrices, and whether each is stored as (in, out)."""
    assert checked.gpt2 is not None
    tensors = checked.tensors
    names = {name: True for name in tensors if name[:2] == "h." and len(tensors[name].shape) == 2}
    return names | {"wte.weight" if checked.gpt2.tie_word_embeddings else "lm_head.weight": False}


def _stored_shapes(
    checked: CheckedCheckpoint, names: Mapping[str, bool]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The data type and shape by name that a cached file must have."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, transposed in names.items():
        shape = checked.tensors[name].shape
        rows, width = reversed(shape) if transposed else shape
        found[name + VALUES] = ("I8", (rows, width))
        found[name + SCALES] = ("F32", (rows,))
    return found


def _quantized(checked: CheckedCheckpoint, names: Mapping[str, bool]) -> dict[str, Quantized]:
    """Quantize the matrices, and give the pages of the checkpoint back one by one."""
    files = {path: MappedFile(path) for path in {e.file for e in checked.tensors.values()}}

    def quantized(name: str) -> Quantized:
        entry = checked.tensors[name]
        weight = files[entry.file].tensor(entry)
        matrix = quantize((weight.t() if names[name] else weight).float())
        files[entry.file].drop(entry)
        return matrix

    with ThreadPoolExecutor(min(QUANTIZE_THREADS, torch.get_num_threads())) as pool:
        return dict(zip(names, pool.map(quantized, names), strict=True))


def _mapped(tensors: Mapping[str, Entry], names: Mapping[str, bool]) -> Int8Weights:
    """The matrices as views of the mapped cache file."""
    file = MappedFile(next(iter(tensors.values())).file)
    matrices = {
        name: Quantized(file.tensor(tensors[name + VALUES]), file.tensor(tensors[name + SCALES]))
        for name in names
    }
    return Int8Weights(matrices, (), file, tensors)


def _stored(dtype: str, tensor: Tensor) -> StoredTensor:
    return StoredTensor(dtype, tuple(tensor.shape), tensor.numpy().data.cast("B"))
