"""Where the tensors of a checkpoint lie: its safetensors files and their headers, read by us.

The format is 8 bytes (length of the header, little-endian), a JSON header, then the data; see
https://github.com/huggingface/safetensors#format. Reading the header here costs no torch, and it
lets every name, shape and offset be checked before a single tensor is mapped or allocated. Only
`*.safetensors` is ever opened, also where an index names the files: pickles are never looked at.
No tensor data is read here.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from math import prod
from pathlib import Path

from gptcli.checkpoints.file_kinds import HEAD_BYTES, refuse_placeholder
from gptcli.errors import BadModel
from gptcli.system.strict_json import (
    Object,
    corrupt,
    open_model_file,
    parse_object,
    placeholder,
    read_object,
    unsafe,
)

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
NOTE = "model.safetensors.sha256"  # what `gptcli models convert` leaves beside the weights
MAX_HEADER_BYTES = 100_000_000  # bytes, the limit of the reference implementation
MAX_INDEX_BYTES = 2**24  # bytes
MAX_DIMENSIONS = 8
MAX_NAME_BYTES = 255  # of a file, in nearly every file system
SHARD_NAME = re.compile(r"[^/\\\0]+\.safetensors")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")  # what can be converted
OTHER_MODEL = "Choose another model with -m"
CONVERT = (  # of a model on the Hub
    "If you trust it: hf download it with --local-dir FOLDER, then gptcli models convert FOLDER;"
    " or choose another model with -m"
)

FLOATS = ("F16", "BF16", "F32", "F64")
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor on disk: `nbytes` bytes at byte `offset` of `file`, row-major, little-endian."""

    file: Path
    dtype: str  # safetensors' name: F16, BF16, F32, F64 ...
    shape: tuple[int, ...]
    offset: int  # from the start of the file
    nbytes: int


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, by the name its file gives it.

    Raises BadModel for missing, unsafe or corrupt weights, MissingInput for unreadable files.
    """
    if (folder / SINGLE).exists():
        return read_header(folder / SINGLE)
    index = folder / INDEX
    if not index.exists():
        raise _no_safetensors(folder)
    places = read_index(index)
    tensors: dict[str, Tensor] = {}
    for shard in dict.fromkeys(places.values()):
        if not (folder / shard).exists():
            raise corrupt(index, f'shard "{shard}" is missing')
        held = read_header(folder / shard)
        if twice := tensors.keys() & held.keys():
            raise corrupt(index, f'tensor "{min(twice)}" stands in two shards')
        tensors |= held
    lost = [
        name for name in places if name not in tensors or tensors[name].file.name != places[name]
    ]
    if lost:
        raise corrupt(index, f'tensor "{lost[0]}" is not in shard "{places[lost[0]]}"')
    return tensors


def read_index(file: Path) -> dict[str, str]:
    """The `weight_map` of an index: tensor name to the name of a file beside it.

    Raises BadModel where a name is not `*.safetensors` or leads outside the folder. A shard that is
    a symbolic link is fine: the Hugging Face cache is made of them.
    """
    places = read_object(file, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise corrupt(file, "weight_map is not an object that names shards")
    for shard in places.values():
        if not isinstance(shard, str):
            raise corrupt(file, "a shard name is not a text")
        if "/" in shard or "\\" in shard:
            raise unsafe(
                file, f'shard "{shard}" is outside the model directory', _way_out(file.parent)
            )
        if not SHARD_NAME.fullmatch(shard):
            raise unsafe(file, f'shard "{shard}" is not .safetensors', _way_out(file.parent))
        if len(shard.encode("utf-8", "replace")) > MAX_NAME_BYTES:
            raise corrupt(file, "a shard name is too long for a file")
    return places


def read_header(file: Path) -> dict[str, Tensor]:
    """Read and check the header of one safetensors file; raises BadModel.

    The tensors must tile the data exactly: inside the file, in one piece, without overlap.
    """
    with open_model_file(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        head = stream.read(HEAD_BYTES)
        if misplaced := placeholder(file, head):
            raise misplaced
        stream.seek(8)
        length = int.from_bytes(head[:8], "little")
        if size < 8:
            raise corrupt(file, f"{size} bytes are too few for a header")
        if length > MAX_HEADER_BYTES:
            raise corrupt(file, f"a header of {length} bytes, more than {MAX_HEADER_BYTES}")
        if length > size - 8:
            raise corrupt(file, f"cut off inside its header, at {size} of {8 + length} bytes")
        data = stream.read(length)
    try:
        header = parse_object(data)
        tensors = {
            name: _tensor(file, name, entry, 8 + length)
            for name, entry in header.items()
            if name != "__metadata__"
        }
        _check_tiling(tensors, 8 + length, size)
    except ValueError as error:
        raise corrupt(file, str(error)) from None
    return tensors


def _tensor(file: Path, name: str, entry: object, start: int) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f'tensor "{name}" lacks dtype, shape or data_offsets')
    dtype, shape = entry["dtype"], _sizes(entry, "shape", name)
    offsets = _sizes(entry, "data_offsets", name)
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f'tensor "{name}" has an unknown dtype')
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f'tensor "{name}" has {len(shape)} dimensions')
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f'tensor "{name}" has offsets that are not begin and end')
    begin, end = offsets
    if prod(shape) * ITEM_BYTES[dtype] != end - begin:
        raise ValueError(f'tensor "{name}" has {end - begin} bytes, which its shape does not fill')
    return Tensor(file, dtype, shape, start + begin, end - begin)


def _sizes(entry: Object, key: str, name: str) -> tuple[int, ...]:
    values = entry[key]
    if not isinstance(values, list) or not all(
        isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values
    ):
        raise ValueError(f'tensor "{name}" has a {key} that is not a list of sizes')
    return tuple(values)


def _check_tiling(tensors: dict[str, Tensor], start: int, size: int) -> None:
    reached = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if tensor.offset != reached:
            fault = "overlaps another tensor" if tensor.offset < reached else "leaves a gap before"
            raise ValueError(f'tensor "{name}" {fault}')
        reached += tensor.nbytes
    if reached > size:
        raise ValueError(f"cut off, {size} of {reached} bytes are there")
    if reached < size:
        raise ValueError(f"{size - reached} bytes too many at its end")


def _no_safetensors(folder: Path) -> BadModel:
    for name in PICKLED:
        if (folder / name).exists():
            refuse_placeholder(folder / name)
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickles:
        rule = "its weights are a pickle, which can run code, not model.safetensors"
        return unsafe(folder / pickles[0], rule, _way_out(folder))
    return BadModel("no weights", f"{folder} holds no {SINGLE}", OTHER_MODEL)


def _way_out(folder: Path) -> str:
    """What to do about a folder whose weights are not safetensors."""
    if not any((folder / name).exists() for name in PICKLED):
        return OTHER_MODEL
    command = f"gptcli models convert {shlex.quote(str(folder))}"
    return f"If you trust it: {command}; or choose another model with -m"
