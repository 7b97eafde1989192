"""safetensors files written from memory, with their SHA-256: nothing is copied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256

from gptcli.checkpoints.integrity.sealed import StoredTensor
from gptcli.system import durable

ALIGNMENT = 8  # bytes, of the data
CHUNK_BYTES = 2**24


def write(descriptor: int, tensors: Mapping[str, StoredTensor]) -> str:
    """Write a file; gives its SHA-256. Raises OSError."""
    ordered = sorted(tensors)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers wants to know
    end = 0
    for name in ordered:
        begin, end = end, end + len(tensors[name].data)
        header[name] = {
            "dtype": tensors[name].dtype,
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode("ascii")
    text += b" " * (-len(text) % ALIGNMENT)
    found = sha256()
    _put(descriptor, found, len(text).to_bytes(8, "little") + text)
    for name in ordered:
        data = memoryview(tensors[name].data)
        for first in range(0, len(data), CHUNK_BYTES):
            _put(descriptor, found, data[first : first + CHUNK_BYTES])
    return found.hexdigest()


def _put(descriptor: int, digest: object, data: bytes | memoryview) -> None:
    digest.update(data)  # type: ignore[attr-defined]
    durable.write_all(descriptor, data)
