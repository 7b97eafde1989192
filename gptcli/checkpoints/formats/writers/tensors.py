"""What writers share: the tensors of a checked checkpoint as float32, and what was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.safetensors_headers import Tensor
from gptcli.errors import Unavailable

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

NUMPY_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True, kw_only=True)
class WrittenModel:
    """What was written for another program; `notices` say what that will do otherwise."""

    place: Path
    format: str
    type: str
    tensors: int
    size: int
    notices: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "path": str(self.place),
            "format": self.format,
            "type": self.type,
            "tensors": self.tensors,
            "bytes": self.size,
            "notices": list(self.notices),
        }


def float32(entry: Tensor) -> Array:
    """The values of a tensor. What float32 cannot hold becomes infinite."""
    import numpy

    raw = numpy.memmap(entry.file, NUMPY_DTYPES[entry.dtype], "r", entry.offset, entry.shape)
    if entry.dtype == "BF16":  # the upper half of a float32
        return (raw.astype(numpy.uint32) << 16).view(numpy.float32)
    with numpy.errstate(over="ignore"):
        return raw.astype(numpy.float32)


def is_conv1d(name: str, entry: Tensor) -> bool:
    """Whether a tensor is a matrix of the blocks, which lies as (in, out)."""
    return name.startswith("h.") and len(entry.shape) == 2


def missing(package: str) -> Unavailable:
    """The error where the package that writes a format is not installed."""
    extra = "ctranslate2" if package == "ctranslate2" else "formats"
    return Unavailable(
        package, f"the package {package} is not installed", f"Run: pip install 'gptcli[{extra}]'"
    )
