"""Pickled weights of torch: `pytorch_model.bin`, one file or several.

A pickle is a program. torch's restricted reader (weights_only) runs none of it but what makes
tensors. The names stay as they are, of whatever architecture. A head that is the embedding once
more, the same memory, is left out where the configuration says that they are tied.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.formats.locked.source import (
    NUMPY_DTYPES,
    Job,
    Refused,
    Source,
    SourceTensor,
)

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

LIBRARIES = ("torch",)
DTYPES = {
    "float64": "F64",
    "int64": "I64",
    "float32": "F32",
    "int32": "I32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
HOLDERS = ("model", "state_dict", "model_state_dict")  # what weights may stand under
HEAD = re.compile(r"(.*\.)?(lm_head|embed_out|decoder)\.weight")
UNKNOWN = re.compile(r"GLOBAL ([\w.]+)|(?<![\w.])([\w.]+)`? (?:was|is) not an allowed")


def read(job: Job) -> Source:
    """The tensors of all files; `tied` of the options leaves twins of the embedding out."""
    tensors: dict[str, Any] = {}
    for file in job.files:
        for name, tensor in loaded(file).items():
            check(file.name, name, tensor)
            if name in tensors:
                raise Refused(f"{file.name}: tensor {name!r} stands in two files")
            tensors[name] = tensor
    tensors = _without_module(tensors)
    twins = twins_of(tensors) if job.options.get("tied") else []
    return Source(
        format="pickled weights of PyTorch",
        tensors=tuple(as_source(name, tensors[name]) for name in tensors if name not in twins),
        left_out=dict.fromkeys(twins, "it is the embedding"),
    )


class Inert:
    """Stands for an object of another program: it keeps what it is told, and does nothing."""

    def __init__(self, *arguments: object) -> None:
        """Takes whatever the object was made of."""

    def __setstate__(self, state: object) -> None:
        """Keep attributes by name."""
        if isinstance(state, dict):
            self.__dict__.update(state)


def loaded(file: Path, inert: re.Pattern[str] | None = None) -> Mapping[Any, Any]:
    """What a pickle holds by name; nothing of it is checked. Raises Refused and OSError.

    inert: names of classes and functions for which `Inert` stands; any other that makes no tensor
    is refused.
    """
    import torch

    torch.set_num_threads(1)
    with file.open("rb") as stream:
        zipped = stream.read(2) == b"PK"  # the other formats cannot be mapped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.serialization.safe_globals(_stand_ins(file, inert) if zipped else []):
                held = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
        except (OSError, MemoryError, Refused):
            raise
        except Exception as error:
            raise Refused(f"{file.name}: {_said(error)}") from None
    if not isinstance(held, dict):
        raise Refused(f"{file.name} holds a {type(held).__name__}, not tensors by name")
    return held


def parted(held: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], dict[str, str]]:
    """The weights of what a program of training saved, and what else there is, with reasons."""
    holder = next((key for key in HOLDERS if isinstance(held.get(key), Mapping)), None)
    if holder is None:
        return held, {}
    others = (str(key) for key in held if key != holder)
    return held[holder], dict.fromkeys(others, "it belongs to the training")


def _without_module(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors without the name of the attribute that Lightning's users give a GPT-2."""
    prefix = "model."
    lightning = any(name.startswith(prefix + "transformer.") for name in tensors)
    if not lightning or not all(name.startswith(prefix) for name in tensors):
        return dict(tensors)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _stand_ins(file: Path, inert: re.Pattern[str] | None) -> list[Any]:
    """Pairs of a class of ours and the name that it stands for in this pickle."""
    import torch

    if inert is None:
        return []
    asked = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    names = [name for name in asked if inert.fullmatch(name)]
    # Each a class of its own: torch takes no class under two names.
    return [(type("Inert", (Inert,), {}), name) for name in names]


def check(file: str, name: object, tensor: Any) -> None:
    """Raise Refused for what safetensors cannot hold."""
    import torch

    if not isinstance(name, str) or not name or name == "__metadata__":
        raise Refused(f"{file}: {name!r:.80} is no name of a tensor")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise Refused(f"{file}: {name} is a {type(tensor).__name__}, not a tensor")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise Refused(f"{file}: {name} is a tensor of a kind that safetensors lacks ({dtype})")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise Refused(f"{file}: {name} is larger than what the file holds of it")


def as_source(name: str, tensor: Any) -> SourceTensor:
    """A checked tensor of torch, under the name that it has."""
    dtype = DTYPES[str(tensor.dtype).removeprefix("torch.")]
    return SourceTensor(
        name=name,
        dtype=dtype,
        shape=tuple(tensor.shape),
        read=partial(numbers, tensor),
        origin=name,
    )


def numbers(tensor: Any) -> Array:
    """A tensor of torch as an array; bfloat16, which NumPy lacks, as its 16 bits."""
    import torch

    dtype = NUMPY_DTYPES[DTYPES[str(tensor.dtype).removeprefix("torch.")]]
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    array: Array = flat.view(dtype).reshape(tuple(tensor.shape))
    return array


def twins_of(tensors: Mapping[str, Any]) -> list[str]:
    """The heads that are an embedding once more, number for number in the same place."""
    places: dict[tuple[object, ...], list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            places.setdefault(place, []).append(name)
    heads = [name for name in tensors if HEAD.fullmatch(name)]
    shared = {name: names for names in places.values() for name in names}
    return [
        name for name in heads if any(not HEAD.fullmatch(other) for other in shared.get(name, ()))
    ]


def _said(error: Exception) -> str:
    """What torch says went wrong, as a part of a sentence."""
    text = str(error)
    if found := UNKNOWN.search(text):
        return f"it asks for {found[1] or found[2]}, which makes no tensor"
    if type(error).__name__ == "UnpicklingError" or "weights_only" in text:
        # Its text says how to read it all the same.
        return "it is no pickle of tensors"
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    return f"torch cannot read it ({type(error).__name__}: {lines[0][:200]})"
