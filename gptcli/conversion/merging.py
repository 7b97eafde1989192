"""`gptcli models merge`: a base with its adapters as one model, which needs no adapter any more.

Each tensor is computed in float32 and rounded once. The folder is made beside its place, checked,
compared with the base and its adapters, and moved there in one step.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli import __version__
from gptcli.checkpoints.adapters import numbers
from gptcli.checkpoints.adapters.base_check import check_base
from gptcli.checkpoints.adapters.changes import Changes, changes
from gptcli.checkpoints.adapters.opened import content_of, inspect_adapted, tokenizer_folder
from gptcli.checkpoints.adapters.parts import read_parts
from gptcli.checkpoints.adapters.said import said
from gptcli.checkpoints.adapters.stored_base import StoredBase
from gptcli.checkpoints.config_json import CONFIG
from gptcli.checkpoints.formats import conversion
from gptcli.checkpoints.formats.writers.proof import probe
from gptcli.checkpoints.hub.offer import small_files
from gptcli.checkpoints.integrity import digests
from gptcli.checkpoints.integrity.noted import RECORD, write_note
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.resolve import Checkpoint
from gptcli.checkpoints.safetensors_headers import FLOATS, ITEM_BYTES, SINGLE, Tensor
from gptcli.checkpoints.tokenization.files import names_in, tokenizer_files
from gptcli.conversion.proof import log_probabilities, tokenizer_of
from gptcli.errors import BadModel, CannotCreate, UsageError, WriteFailed
from gptcli.models.options import MergeTarget
from gptcli.system import durable

if TYPE_CHECKING:
    from gptcli.checkpoints.adapters.numbers import Array

MOST_DIFFERENCE = 1e-4  # nats, of a model in float32
MARGIN_BYTES = 2**24  # that must stay free


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A merged model; `largest`: by how much a log-probability differs at most, in nats."""

    place: Path
    tensors: int
    changed: int
    size: int  # bytes of the weights
    applied: tuple[str, ...]
    files: Mapping[str, str]  # SHA-256 of the base's files and the adapters'
    tokens: int = 0  # that were compared; 0: its tensors alone were
    largest: float | None = None

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "path": str(self.place),
            "tensors": self.tensors,
            "changed": self.changed,
            "bytes": self.size,
            "applied": list(self.applied),
            "files": dict(self.files),
            "compared_tokens": self.tokens,
            "largest_difference_nats": self.largest,
        }


@dataclass(frozen=True)
class _Piece:
    """A tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], bytes]


def target_of(base: Checkpoint, target: MergeTarget) -> Path:
    """The folder that the result goes to. Raises UsageError, CannotCreate."""
    if not base.adapters:
        raise UsageError("ADAPTER", "none is given", "Name one or more after the base.")
    if not target.output or "\0" in target.output:
        raise UsageError("--output", "the new model needs a place", "Name it: -o FOLDER.")
    place = Path(os.path.expanduser(target.output))  # noqa: PTH111 - never raises
    conversion.refuse_cache(place)
    for folder in (base.folder, *(adapter.folder for adapter in base.adapters)):
        conversion.refuse_own_folder(folder, place)
    if os.path.lexists(place) and not place.is_dir():
        raise CannotCreate(target.output, "it is not a folder", "Give another name.")
    there = names_in(place) if place.is_dir() else []
    if there and not target.force:
        raise CannotCreate(str(place), f"it holds {there[0]} already", "Overwrite with --force.")
    return place


def merge(base: Checkpoint, kind: str, staging: Path, place: Path) -> Merged:
    """Merge in the empty folder `staging`, prove it, and put it in its place.

    kind: `base` for the data types of the base's tensors, or `float32`. Raises BadModel,
    MissingInput, WriteFailed, CannotCreate.
    """
    checked = inspect(base.folder)
    read = [read_parts(adapter) for adapter in base.adapters]
    check_base(read, base.folder, base.name)
    found = changes(StoredBase(checked, base.name), read)
    pieces = list(_pieces(checked, found, kind))
    size = sum(prod(piece.shape) * ITEM_BYTES[piece.dtype] for piece in pieces)
    if shutil.disk_usage(staging).free < size + MARGIN_BYTES:
        raise WriteFailed(str(place), "no space left on device", "Make room.")
    files = content_of(base.folder, base.adapters, base.name)
    try:
        sums = _write(staging / SINGLE, pieces)
        _copy_small(base, staging)
        durable.save(staging / CONFIG, _config(checked, found, kind))
        merged = Merged(
            place=place,
            tensors=len(pieces),
            changed=len(found.parts),
            size=(staging / SINGLE).stat().st_size,
            applied=said(read, found),
            files=files,
        )
        merged = _proven(merged, base, staging, pieces, sums)
        made = {name: digests.digest(staging / name) for name in names_in(staging)}
        record = {"format": "merge", "gptcli": __version__, "base": base.name, **merged.to_dict()}
        record |= {"adapters": [{"name": one.name, "scale": one.scale} for one in base.adapters]}
        record |= {"tensors": sums, "made": made}
        durable.save(staging / RECORD, (json.dumps(record, indent=2) + "\n").encode())
        write_note(staging)
        durable.sync_folder(staging / SINGLE)
    except OSError as error:
        raise conversion.failed(place, error) from None
    conversion.place(staging, place, whole=True)
    return merged


def _pieces(checked: CheckedCheckpoint, found: Changes, kind: str) -> Iterator[_Piece]:
    """All tensors of the merged model, each computed when it is written."""
    names = dict.fromkeys([*checked.tensors, *found.parts])
    if found.tied:
        names.pop(str(found.base.head), None)
    base = found.base
    assert isinstance(base, StoredBase)
    for name in names:
        entry = base.entry(name)
        dtype = "F32" if kind == "float32" and entry.dtype in FLOATS else entry.dtype
        written = name
        if checked.gpt2 is not None and name != base.head:
            written = f"transformer.{name}"
        shape = found.shape(name) if name in found.parts else entry.shape
        yield _Piece(written, dtype, shape, _data(found, name, entry, dtype))


def _data(found: Changes, name: str, entry: Tensor, dtype: str) -> Callable[[], bytes]:
    def data() -> bytes:
        if name not in found.parts:
            same = dtype == entry.dtype
            return numbers.raw(entry) if same else _stored(numbers.floats(entry), dtype, name)
        return _stored(found.value(name), dtype, name)

    return data


def _stored(values: Array, dtype: str, name: str) -> bytes:
    try:
        return numbers.stored_as(values, dtype)
    except OverflowError:
        why = f"{name} has numbers that {dtype} cannot hold, or that are not finite"
        raise BadModel("the merged model", why, "Merge with --type float32.") from None


def _write(path: Path, pieces: list[_Piece]) -> dict[str, str]:
    """Write safetensors, a tensor in memory at a time; the SHA-256 of each. Raises OSError."""
    ordered = sorted(pieces, key=lambda piece: (-ITEM_BYTES[piece.dtype], piece.name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for piece in ordered:
        begin, end = end, end + prod(piece.shape) * ITEM_BYTES[piece.dtype]
        offsets = [begin, end]
        header[piece.name] = {
            "dtype": piece.dtype,
            "shape": list(piece.shape),
            "data_offsets": offsets,
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    sums = {}
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for piece in ordered:
            data = piece.data()
            sums[piece.name] = sha256(data).hexdigest()
            file.write(data)
        file.flush()
        durable.flush(file.fileno())
    return sums


def _copy_small(base: Checkpoint, staging: Path) -> None:
    """The base's small files; the tokenizer of an adapter that brings its own."""
    words = tokenizer_folder(base.folder, base.adapters)
    here, there = set(names_in(base.folder)), set(names_in(words))
    named = dict.fromkeys(small_files(here) - {CONFIG}, base.folder)
    if words != base.folder:
        named = dict.fromkeys(named.keys() - tokenizer_files(here), base.folder)
        named |= dict.fromkeys(small_files(there) - {CONFIG}, words)
    for name, folder in named.items():
        shutil.copyfile(folder / name, staging / name)
        durable.flush_file(staging / name)


def _config(checked: CheckedCheckpoint, found: Changes, kind: str) -> bytes:
    """config.json, with the vocabulary and the head that the model has now."""
    config = dict(checked.config)
    if (embedding := found.base.embedding) in found.parts:
        config["vocab_size"] = found.shape(str(embedding))[0]
    if found.tied != bool(config.get("tie_word_embeddings", True)) or found.base.tied != found.tied:
        config["tie_word_embeddings"] = found.tied
    if kind == "float32":
        config.pop("torch_dtype", None)
        config["dtype"] = "float32"
    return (json.dumps(config, indent=2) + "\n").encode()


def _proven(
    merged: Merged, base: Checkpoint, staging: Path, pieces: list[_Piece], sums: Mapping[str, str]
) -> Merged:
    """Read it again as any model, and compare what it computes. Raises BadModel, OSError."""
    again = inspect(staging)
    for name, entry in again.tensors.items():
        told = sums.get(name) or sums.get(f"transformer.{name}")
        if told is not None and sha256(numbers.raw(entry)).hexdigest() != told:
            raise OSError(errno.EIO, f"{name} is not what was written")
    if again.gpt2 is None:
        return merged
    adapted, _ = inspect_adapted(*base.parts)
    _, ids = probe(tokenizer_of(again), again.gpt2.vocab_size, again.gpt2.n_positions)
    ours, theirs = (log_probabilities(model)(ids) for model in (again, adapted))
    largest = float(abs(ours - theirs).max())
    exact = all(piece.dtype == "F32" for piece in pieces)
    if not largest <= (MOST_DIFFERENCE if exact else float("inf")):
        why = f"a log-probability differs by {largest:.3g} nats from the base with its adapters"
        raise BadModel("the merged model", why, "Please report it.")
    return replace(merged, tokens=len(ids), largest=float(f"{largest:.2g}"))
