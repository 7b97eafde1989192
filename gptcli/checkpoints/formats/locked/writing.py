"""The safetensors format, written tensor by tensor: one of them is in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, BinaryIO

from gptcli.checkpoints.formats.locked.source import NUMPY_DTYPES, Refused, SourceTensor
from gptcli.checkpoints.safetensors_headers import ITEM_BYTES


def write(file: BinaryIO, tensors: Sequence[SourceTensor]) -> dict[str, str]:
    """Write header and data; the SHA-256 of each tensor's bytes, by name.

    Raises Refused where a tensor is not what its reader said.
    """
    # Larger numbers first, so that all lie aligned.
    ordered = sorted(tensors, key=lambda tensor: (-ITEM_BYTES[tensor.dtype], tensor.name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers wants to know
    end = 0
    for tensor in ordered:
        begin, end = end, end + tensor.nbytes
        place = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
        header[tensor.name] = place
    data = json.dumps(header).encode("ascii")
    data += b" " * (-len(data) % 8)
    file.write(len(data).to_bytes(8, "little") + data)
    return {tensor.name: _written(file, tensor) for tensor in ordered}


def _written(file: BinaryIO, tensor: SourceTensor) -> str:
    import numpy

    values: Any = tensor.read()
    if values.dtype != NUMPY_DTYPES[tensor.dtype] or values.nbytes != tensor.nbytes:
        found = f"{values.size} numbers of {values.dtype}"
        raise Refused(f"{tensor.origin} has {found}, not {list(tensor.shape)} of {tensor.dtype}")
    flat: Any = numpy.ascontiguousarray(values).reshape(-1)
    data = memoryview(flat.view(numpy.uint8))
    file.write(data)
    return sha256(data).hexdigest()
