"""int8 weights on disk, in the user's cache folder: quantized once, reused by later runs.

Quantizing reads a whole checkpoint, and the result is a quarter of it: a model of gigabytes then
opens four times as fast. Each model has one safetensors file, named after the weights it was made
from, so changed weights have another name. Above `MAX_CACHE_BYTES` the file that was used least
recently goes first. A file is written beside its place, flushed and renamed: two processes that
make the same one do not meet, and a reader that has it open keeps it. A file that is not whole, or
not ours, is made again. A cache must not fail a run: what the disk refuses is an OSError here and a
notice to the user. Not here: the quantizer is `gptcli.engines.gpt2.int8`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gptcli.checkpoints.safetensors_headers import MAX_HEADER_BYTES, Tensor, read_header
from gptcli.errors import GptcliError
from gptcli.system import durable
from gptcli.system.strict_json import open_regular, parse_object

MAX_CACHE_BYTES = 20 * 10**9  # bytes: all models from 124M to 1.5B take 2.5 GB
LAYOUT = "gptcli-int8-1"  # what the tensors are; another number for every change
SUFFIX, PART = ".safetensors", ".part"
SAMPLE_BYTES = 4096  # bytes at the end of each tensor that are compared
ABANDONED_SECONDS = 24 * 3600  # seconds after which a part that nobody finished is removed


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """A file of int8 weights, made from one model."""

    model: str  # as it was asked for when they were made; empty if the file cannot be read
    dtype: str
    size: int  # bytes
    used: datetime  # UTC
    path: Path

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "model": self.model,
            "dtype": self.dtype,
            "bytes": self.size,
            "used": self.used.isoformat(timespec="seconds"),
            "path": str(self.path),
        }


@dataclass(frozen=True)
class StoredTensor:
    """A tensor to be written: safetensors' name of its dtype, its shape, its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def folder() -> Path:
    """Where the files are; it need not exist."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("gptcli", appauthor=False)) / "weights"


def place(source: str) -> Path:
    """The file of the int8 weights made from weights of digest `source`; it need not exist."""
    return folder() / f"int8-{source}{SUFFIX}"


def digest(tensors: Iterable[Tensor]) -> str:
    """A name for weights that differs when they do, without reading them all; 40 digits.

    In the Hub's cache a file is a link to one named by its SHA-256, which says it all. Of any other
    file size, time of change and header count, and the last `SAMPLE_BYTES` of each tensor: other
    bytes can change unnoticed if the time is set back. Raises OSError.
    """
    files: dict[Path, list[Tensor]] = {}
    for tensor in tensors:
        files.setdefault(tensor.file, []).append(tensor)
    found = hashlib.sha256(LAYOUT.encode())
    for path in sorted(files):
        real = Path(os.path.realpath(path))
        if real.parent.name == "blobs" and len(real.name) == 64:
            found.update(real.name.encode())
            continue
        status = real.stat()
        names = sorted((item.offset, item.dtype, item.shape) for item in files[path])
        found.update(repr((path.name, status.st_size, status.st_mtime_ns, names)).encode())
        found.update(_sample(path, files[path]))
    return found.hexdigest()[:40]


def find(source: str, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
    """The tensors kept for the weights `source`; empty unless all that are `expected` are there.

    `expected`: dtype and shape by name. A file that is cut off, damaged where it was sampled, or of
    another layout counts as none. What is found is marked as used now.
    """
    path = place(source)
    try:
        tensors = read_header(path)
        said = _metadata(path)
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
        sample = _sample(path, tensors.values()).hex()
        if shapes != dict(expected) or said != {**said, "layout": LAYOUT, "sample": sample}:
            return {}
        with suppress(OSError):  # a read-only cache is a cache
            os.utime(path)
    except (GptcliError, OSError):
        return {}
    return tensors


def keep(source: str, model: str, pieces: Mapping[str, StoredTensor]) -> Path:
    """Write int8 weights for `find`, then remove others until all fit `MAX_CACHE_BYTES`.

    Raises OSError: the disk is full (half of what is free is left alone) or cannot be written.
    """
    path = place(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = sum(len(piece.data) for piece in pieces.values())
    if shutil.disk_usage(path.parent).free < 2 * size:
        raise OSError(errno.ENOSPC, "the disk is nearly full")
    with durable.new_file(path, mode=0o600) as new:
        with os.fdopen(new.descriptor, "wb", closefd=False) as file:
            file.write(_header(model, pieces, "0" * 64))
            for piece in pieces.values():
                file.write(piece.data)
            file.flush()
            sample = _sample(new.path, read_header(new.path).values()).hex()
            file.seek(0)
            file.write(_header(model, pieces, sample))  # as long as before
        new.put()
    _make_room(path)
    return path


def entries() -> list[StoredWeights]:
    """All files of the cache, the one used last first."""
    found = []
    for path in folder().glob(f"*{SUFFIX}"):
        with suppress(OSError):  # another process removed it
            found.append(_entry(path))
    return sorted(found, key=lambda entry: (entry.used, entry.path), reverse=True)


def remove(entry: StoredWeights) -> None:
    """Remove a file of the cache; one that is gone is fine. Raises OSError."""
    entry.path.unlink(missing_ok=True)


def _entry(path: Path) -> StoredWeights:
    status = path.stat()
    try:
        said = _metadata(path)
    except (GptcliError, OSError):
        said = {}
    return StoredWeights(
        model=said.get("model", ""),
        dtype="int8",
        size=status.st_size,
        used=datetime.fromtimestamp(status.st_mtime, UTC),
        path=path,
    )


def _make_room(latest: Path) -> None:
    """Remove what was used least recently while there is too much, and parts of killed runs."""
    total = 0
    for entry in entries():
        total += entry.size
        if total > MAX_CACHE_BYTES and entry.path != latest:
            with suppress(OSError):
                remove(entry)
    for part in latest.parent.glob(f"*{PART}"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_SECONDS:
                part.unlink()


def _header(model: str, pieces: Mapping[str, StoredTensor], sample: str) -> bytes:
    """The beginning of a safetensors file."""
    about = {"layout": LAYOUT, "model": model, "sample": sample}
    header: dict[str, object] = {"__metadata__": about}
    end = 0
    for name, piece in pieces.items():
        begin, end = end, end + len(piece.data)
        header[name] = {
            "dtype": piece.dtype,
            "shape": list(piece.shape),
            "data_offsets": [begin, end],
        }
    data = json.dumps(header).encode()
    data += b" " * (-len(data) % 64)  # so that the numbers are aligned
    return len(data).to_bytes(8, "little") + data


def _metadata(path: Path) -> dict[str, str]:
    """What a file says of itself. Raises OSError; BadModel, MissingInput."""
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        data = file.read(min(length, MAX_HEADER_BYTES))
    try:
        said = parse_object(data).get("__metadata__")
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    return {key: value for key, value in said.items() if isinstance(value, str)}


def _sample(path: Path, tensors: Iterable[Tensor]) -> bytes:
    """A digest of the last bytes of each tensor. Raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
            length = min(tensor.nbytes, SAMPLE_BYTES)
            file.seek(tensor.offset + tensor.nbytes - length)
            found.update(file.read(length))
    return found.digest()
