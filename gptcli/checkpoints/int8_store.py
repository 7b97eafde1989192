"""int8 weights on disk, in the user's cache folder: quantized once, reused by later runs.

Quantizing reads a whole checkpoint, and the result is a quarter of it: a model of gigabytes then
opens four times as fast. Each model has one safetensors file, named after the weights it was made
from, so changed weights have another name. Above `MAX_CACHE_BYTES` the file that was used least
recently goes first. A file is written beside its place, flushed and renamed: two processes that
make the same one do not meet, and a reader that has it open keeps it. Every byte is checked at each
use, see `gptcli.checkpoints.integrity.sealed`; a file with a fault is made again. A cache must not
fail a run: what the disk refuses is an OSError here and a notice to the user. Not here: the
quantizer is in `gptcli.native`, see `gptcli.engines.gpt2.on_cpu.int8_weights`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gptcli.checkpoints.integrity import digests, sealed
from gptcli.checkpoints.integrity.sealed import BrokenSeal, StoredTensor
from gptcli.checkpoints.safetensors_headers import Tensor
from gptcli.errors import GptcliError
from gptcli.system import durable

MAX_CACHE_BYTES = 20 * 10**9  # bytes: all models from 124M to 1.5B take 2.5 GB
LAYOUT = "gptcli-int8-3"  # what the tensors are; another number for every change
SUFFIX, PART = ".safetensors", ".part"
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


def folder() -> Path:
    """Where the files are; it need not exist."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("gptcli", appauthor=False)) / "weights"


def place(source: str) -> Path:
    """The file of the int8 weights made from weights of digest `source`; it need not exist."""
    return folder() / f"int8-{source}{SUFFIX}"


def digest(tensors: Iterable[Tensor], known: Mapping[Path, str] | None = None) -> str:
    """A name for weights that differs when they do; 40 digits.

    In the Hub's cache a file is a link to one named by its SHA-256, which is taken as it is: who
    makes weights of such a file checks it. Of any other file the content counts, see
    `gptcli.checkpoints.integrity.digests`. `known`: contents of files that have no name, such as
    tensors that adapters changed. Raises MissingInput, BadModel.
    """
    found = hashlib.sha256(LAYOUT.encode())
    known = known or {}
    found.update("".join(sorted(known.values())).encode())
    unnamed = []
    for path in sorted({tensor.file for tensor in tensors} - known.keys()):
        real = Path(os.path.realpath(path))
        if real.parent.name == "blobs" and len(real.name) == 64:
            found.update(real.name.encode())
        else:
            unnamed.append(path)
    for path, content in sorted(digests.digests(unnamed).items()):
        found.update(f"{path.name}\0{content}".encode())
    return found.hexdigest()[:40]


def find(source: str, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
    """The tensors kept for the weights `source`; empty where none are.

    `expected`: dtype and shape by name. What is found is marked as used now. Raises BrokenSeal for
    a file with a fault, or with other tensors.
    """
    path = place(source)
    try:
        found = sealed.read(path)
    except FileNotFoundError:
        return {}
    shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in found.tensors.items()}
    if shapes != dict(expected) or found.about.get("layout") != LAYOUT:
        raise BrokenSeal("it holds something else")
    with suppress(OSError):  # a read-only cache is a cache
        os.utime(path)
    return dict(found.tensors)


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
        sealed.write(new.descriptor, {"layout": LAYOUT, "model": model}, pieces)
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
        said = sealed.said_by(path)
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
