"""What a reader makes of another program's files: tensors by name, not yet read.

A reader looks at headers first, and says of each tensor its type, shape and how to read it. So all
names and shapes are checked against the configuration before a tensor is allocated, and the writer
holds one tensor at a time. Every tensor of the source is either one of `tensors` or in `left_out`,
with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.safetensors_headers import ITEM_BYTES

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

NUMPY_DTYPES = {  # of each type of safetensors; bfloat16 is carried as its 16 bits
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
MAX_SHOWN_NAMES = 5  # names in an error


class Refused(Exception):
    """The files hold what is no tensor, are damaged, or ask for more than reading tensors."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be read: `files` of the model in `folder`, in the reader's own order."""

    folder: Path
    files: tuple[Path, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)


@dataclass(frozen=True, kw_only=True)
class SourceTensor:
    """A tensor by the name that safetensors gets, with what `read` will give.

    read: the values, of `shape` and of NUMPY_DTYPES[dtype]; also as a view that is not contiguous.
    It is called once. origin: the name, or the names, in the source.
    """

    name: str
    dtype: str  # safetensors' name
    shape: tuple[int, ...]
    read: Callable[[], Array]
    origin: str

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the source's own program computed: a converted model must say the same.

    logprobs: of each token of `ids` but the first, after those before it, in nats and float32.
    """

    ids: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model of another program, as its files have it.

    config: the config.json of the result, for a GPT-2; then the tensors' names are those of
    `GPT2Config.tensors`, matrices of the blocks lie as (in, out), and all of them must be there.
    None where the config.json beside the files stays as it is, and the names too. texts: other
    files of the result, by name, such as those of the tokenizer.
    """

    format: str  # as people call it
    tensors: tuple[SourceTensor, ...]
    config: Mapping[str, object] | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)  # name in the source: reason
    texts: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    proof: Proof | None = None


def check_complete(config: GPT2Config, tensors: Iterable[SourceTensor]) -> None:
    """Compare the tensors with those that a GPT-2 of this configuration has. Raises Refused."""
    found: dict[str, SourceTensor] = {}
    for tensor in tensors:
        if tensor.name in found:
            raise Refused(f"{tensor.name} stands there twice")
        found[tensor.name] = tensor
    expected = dict(config.tensors())
    if missing := [name for name in expected if name not in found]:
        raise Refused(f"missing tensors: {some(missing)}")
    if extra := [tensor.origin for name, tensor in found.items() if name not in expected]:
        raise Refused(f"tensors that a GPT-2 lacks: {some(extra)}")
    wrong = [
        f"{found[name].origin} {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if found[name].shape != shape
    ]
    if wrong:
        raise Refused(f"tensors of a wrong shape: {some(wrong)}")


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - MAX_SHOWN_NAMES} more" if len(names) > MAX_SHOWN_NAMES else ""
    return ", ".join(names[:MAX_SHOWN_NAMES]) + more
