"""NumPy's .npz: a zip file of arrays, whose headers are read with bounds, and never a pickle.

The list of a zip file's members is bounded before Python's zipfile builds it. A member's header
says its type and shape, which must fill the member exactly; its numbers are read later.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from struct import Struct
from typing import IO, TYPE_CHECKING, Any

from gptcli.checkpoints.formats.locked.source import NUMPY_DTYPES, Refused
from gptcli.checkpoints.safetensors_headers import ITEM_BYTES
from gptcli.system.strict_json import open_model_file

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

MAX_MEMBERS = 2**12
MAX_LIST_BYTES = 2**21  # of the list of members
MAX_RATIO = 1100  # of a member to its compressed bytes; deflate reaches 1032
MAX_HEADER_BYTES = 2**12  # of a member
MAX_DIMENSIONS = 8
END, TAIL_BYTES = b"PK\5\6", 2**16 + 22
LIST = Struct("<HII")  # how many members, and the length and place of their list
FAR = 2**32 - 1  # instead of a place in a file of more than 4 GB
HEADER = re.compile(
    r"\{'descr': '([<|]?[a-zA-Z]\d{1,2}|\|?b1)', 'fortran_order': (False|True),"
    r" 'shape': \(((?:\d{1,12}, ?)*\d{0,12})\),? *\}\s*"
)
TYPES = {  # of safetensors, by NumPy's
    "f8": "F64",
    "f4": "F32",
    "f2": "F16",
    "V2": "BF16",  # as MLX writes it
    "i8": "I64",
    "i4": "I32",
    "u4": "U32",
    "u1": "U8",
    "i1": "I8",
}
PLAIN = NUMPY_DTYPES | {"U32": "<u4"}


@dataclass(frozen=True, kw_only=True)
class Member:
    """An array of the file; `header` bytes come before its numbers."""

    file: Path
    place: str  # in the zip file
    dtype: str  # safetensors' name
    shape: tuple[int, ...]
    header: int
    by_columns: bool

    def read(self) -> Array:
        """The numbers, of NumPy's type for `dtype`."""
        import numpy

        size = prod(self.shape) * ITEM_BYTES[self.dtype]
        with _opened(self.file) as (packed, _), packed.open(self.place) as stream:
            data = stream.read(self.header + size)
        values = numpy.frombuffer(data, PLAIN[self.dtype], offset=self.header)
        return values.reshape(self.shape, order="F" if self.by_columns else "C")


def read_npz(file: Path) -> dict[str, Member]:
    """The arrays of a file by name. Raises Refused, MissingInput, BadModel."""
    found: dict[str, Member] = {}
    with _opened(file) as (packed, size):
        for info in packed.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in found:
                raise Refused(f"{file.name}: {info.filename!r:.80} is no array, or stands twice")
            stored = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not stored or info.flag_bits & 1 or info.compress_size > size:
                raise Refused(f"{file.name}: {name!r:.80} is packed in an unknown way")
            if not 0 <= info.header_offset < size:
                raise Refused(f"{file.name}: {name!r:.80} lies outside the file")
            if info.file_size > max(info.compress_size, 1) * MAX_RATIO:
                raise Refused(f"{file.name}: {name!r:.80} says that it has {info.file_size} bytes")
            with packed.open(info) as stream:
                found[name] = _member(file, info, stream)
    return found


@contextmanager
def _opened(file: Path) -> Iterator[tuple[zipfile.ZipFile, int]]:
    """The zip file, and its size. What zipfile finds wrong is Refused."""
    try:
        with open_model_file(file) as stream:
            size = stream.seek(0, 2)
            _check_list(file, stream, size)
            with zipfile.ZipFile(stream) as packed:
                yield packed, size
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, ValueError) as error:
        raise Refused(f"{file.name}: no whole zip file: {error!s:.100}") from None
    except Exception as error:
        if type(error).__name__ == "error":  # zlib's
            raise Refused(f"{file.name}: its compressed bytes are damaged") from None
        raise


def _check_list(file: Path, stream: IO[bytes], size: int) -> None:
    """Bound the list of members, which stands at the end."""
    start = max(0, size - TAIL_BYTES)
    stream.seek(start)
    tail = stream.read(TAIL_BYTES)
    place = tail.rfind(END)
    if place < 0 or len(tail) < place + 22:
        raise Refused(f"{file.name}: no whole zip file")
    members, length, begin = LIST.unpack_from(tail, place + 10)
    if begin != FAR and begin + length != start + place:
        raise Refused(f"{file.name}: its list of members is not where it should be")
    if members > MAX_MEMBERS or (length > MAX_LIST_BYTES and length != FAR):
        raise Refused(f"{file.name}: a list of {members} members, {length} bytes long")


def _member(file: Path, info: zipfile.ZipInfo, stream: IO[bytes]) -> Member:
    start = stream.read(12)
    width = {1: 2, 2: 4, 3: 4}.get(start[6] if len(start) > 6 else 0, 0)
    length = int.from_bytes(start[8 : 8 + width], "little")
    if start[:6] != b"\x93NUMPY" or not width or length > MAX_HEADER_BYTES:
        raise Refused(f"{file.name}: {info.filename!r:.80} does not begin as an array")
    header = 8 + width + length
    text = (start[8 + width :] + stream.read(header - len(start)))[:length].decode("latin-1")
    told = HEADER.fullmatch(text)
    if not told:
        raise Refused(f"{file.name}: {info.filename!r:.80} has a header that is not understood")
    dtype = TYPES.get(told[1].lstrip("<|"))
    if dtype is None:
        raise Refused(f"{file.name}: {info.filename!r:.80} is of the type {told[1]}")
    shape = tuple(int(part) for part in told[3].replace(" ", "").split(",") if part)
    if len(shape) > MAX_DIMENSIONS or header + prod(shape) * ITEM_BYTES[dtype] != info.file_size:
        raise Refused(f"{file.name}: {info.filename!r:.80} has {info.file_size} bytes, not {shape}")
    return Member(
        file=file,
        place=info.filename,
        dtype=dtype,
        shape=shape,
        header=header,
        by_columns=told[2] == "True",
    )
