"""What writers share: the tensors of a checked checkpoint as float32, and what was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.formats.locked.readers.gpt2.tensors import as_float32
from gptcli.checkpoints.formats.locked.source import NUMPY_DTYPES
from gptcli.checkpoints.safetensors_headers import Tensor
from gptcli.errors import Unavailable

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]


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
    return as_float32(raw, entry.dtype)


def missing(package: str) -> Unavailable:
    """The error where the package that writes a format is not installed."""
    extra = "ctranslate2" if package == "ctranslate2" else "formats"
    return Unavailable(
        package, f"the package {package} is not installed", f"Run: pip install 'gptcli[{extra}]'"
    )
