"""int8 matrices of a checkpoint: read from the cache on disk, or quantised and kept there.

They are kept in the layout of the kernels, so reading them is all that is left to do.
Not here: the files are in `gptcli.checkpoints.int8_store`, the arithmetic is in packing.h.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptcli.checkpoints import int8_store
from gptcli.checkpoints.integrity.content import published
from gptcli.checkpoints.integrity.sealed import BrokenSeal, StoredTensor
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import Tensor as Entry
from gptcli.engines.gpt2.on_cpu.memory import use_huge_pages, weight_bytes
from gptcli.engines.gpt2.on_cpu.packing import (
    PackedMatrix,
    Packer,
    block_bytes,
    matrix_names,
    matrix_shape,
)
from gptcli.native.structures import BLOCK
from gptcli.system.os_errors import reason
from gptcli.system.units import model_size

BLOCKS, SCALES = "", ".scales"  # suffixes of a matrix's name in the file

Found = tuple[dict[str, PackedMatrix], tuple[str, ...]]
"""Matrices without bias by the checkpoint's names, and notices for the user."""


def int8_matrices(model: str, checked: CheckedCheckpoint, packer: Packer) -> Found:
    """The int8 matrices of a GPT-2; `model` is the name under which the cache lists them.

    A cache that is damaged or cannot be written gives a notice, not an error. Raises MissingInput
    and BadModel where the weights cannot be read, or are made of files that are not the published
    ones: they would be kept under the name of those, and stay when the files are mended.
    """
    names = matrix_names(checked)
    source = int8_store.digest(checked.tensors.values(), checked.digests)
    damage = ""
    try:
        if tensors := int8_store.find(source, _stored_shapes(checked, names)):
            packer.free()
            return _read(tensors, checked, names, packer.threads), ()
    except BrokenSeal as error:
        damage = f"the int8 weights kept for {model} were damaged ({error}): "
    except OSError as error:  # another process has just cleared the cache
        damage = f"the int8 weights kept for {model} could not be read ({reason(error)}): "
    published({tensor.file for tensor in checked.tensors.values()} - checked.digests.keys(), model)
    matrices = packer.matrices(names, "I8")
    pieces: dict[str, StoredTensor] = {}
    for name, matrix in matrices.items():
        assert matrix.scale is not None
        pieces[name + BLOCKS] = StoredTensor(
            "I8", matrix.blocks.shape, matrix.blocks.data.cast("B")
        )
        pieces[name + SCALES] = StoredTensor("F32", matrix.scale.shape, matrix.scale.data.cast("B"))
    try:
        int8_store.keep(source, model, pieces)
    except OSError as error:
        why = f"the int8 weights of {model} are made anew each time: {reason(error)}"
        return matrices, (why,)
    size = model_size(sum(len(piece.data) for piece in pieces.values()))
    what = f"made {size} of them anew" if damage else f"made {size} of int8 weights for {model}"
    return matrices, (f"{damage}{what}, to be used again: see gptcli cache",)


def _stored_shapes(
    checked: CheckedCheckpoint, names: Mapping[str, bool]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The data type and shape by name that a kept file must have."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, transposed in names.items():
        out, width = matrix_shape(checked.tensors[name], transposed)
        found[name + BLOCKS] = ("I8", (-(-out // BLOCK) * block_bytes("I8", width),))
        found[name + SCALES] = ("F32", (out,))
    return found


def _read(
    tensors: Mapping[str, Entry],
    checked: CheckedCheckpoint,
    names: Mapping[str, bool],
    threads: int,
) -> dict[str, PackedMatrix]:
    """The matrices of a kept file. Raises OSError, BrokenSeal."""
    descriptor = os.open(next(iter(tensors.values())).file, os.O_RDONLY)

    def matrix(name: str) -> PackedMatrix:
        blocks = weight_bytes(tensors[name + BLOCKS].nbytes)
        scale = np.empty(tensors[name + SCALES].shape, np.float32)
        _read_into(descriptor, tensors[name + BLOCKS], blocks)
        _read_into(descriptor, tensors[name + SCALES], scale)
        use_huge_pages(blocks)
        return PackedMatrix("I8", matrix_shape(checked.tensors[name], names[name]), blocks, scale)

    try:
        with ThreadPoolExecutor(threads) as pool:
            return dict(zip(names, pool.map(matrix, names), strict=True))
    finally:
        os.close(descriptor)


def _read_into(descriptor: int, entry: Entry, target: NDArray[Any]) -> None:
    """Read a tensor's bytes. Raises OSError; BrokenSeal where the file is cut off."""
    view, done = target.data.cast("B"), 0
    while done < entry.nbytes:
        length = os.preadv(descriptor, [view[done:]], entry.offset + done)
        if not length:
            raise BrokenSeal("it is cut off")
        done += length
