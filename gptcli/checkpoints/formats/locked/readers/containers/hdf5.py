"""HDF5, as far as Keras writes it: arrays in groups, found through h5py, read by us.

HDF5 can do far more than hold arrays: links into other files, data in other files, virtual arrays,
filters loaded from libraries, groups that hold themselves. Here every link and array is looked at
by the low-level functions of the library, and refused unless it is a plain one. The library only
says what lies where; values are read from the file by us (see `chunks`), with every size known and
compared with the size of the file first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.formats.locked.readers.containers import chunks
from gptcli.checkpoints.formats.locked.readers.containers.hdf5_blocks import FilePart
from gptcli.checkpoints.formats.locked.source import Refused
from gptcli.checkpoints.safetensors_headers import MAX_DIMENSIONS

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

MAX_OBJECTS = 2**14  # groups and arrays of a file; a GPT-2 of 96 layers in Keras has 4000
MAX_DEPTH = 32  # groups in groups
MAX_NAME = 256  # characters, of a path
MAX_CHUNKS = 2**17  # pieces of all arrays
MAX_COMPACT_BYTES = 2**16  # the format's own limit of an array that lies in its header
GROWTH, SLACK_BYTES = 4, 2**26  # arrays may have 4 times the bytes of their file, and 64 MiB
TYPES = {  # of h5py: ours
    "IEEE_F16LE": "<f2",
    "IEEE_F16BE": ">f2",
    "IEEE_F32LE": "<f4",
    "IEEE_F32BE": ">f4",
    "IEEE_F64LE": "<f8",
    "IEEE_F64BE": ">f8",
    "STD_I8LE": "i1",
    "STD_U8LE": "u1",
    "STD_I32LE": "<i4",
    "STD_U32LE": "<u4",
    "STD_I64LE": "<i8",
    "STD_U64LE": "<u8",
}
BFLOAT16 = "bfloat16"  # which Keras writes as 2 opaque bytes, and an attribute


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """An array of a file, not yet read. name: its path in the file, without a slash before."""

    file: Path
    name: str
    dtype: str  # numpy's, or "bfloat16", which is read as the numbers of its 16 bits
    shape: tuple[int, ...]
    read: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return prod(self.shape) * item_bytes(self.dtype)


def item_bytes(dtype: str) -> int:
    """Bytes of a number."""
    return 2 if dtype == BFLOAT16 else int(dtype[-1])


def datasets(path: Path, begin: int = 0, size: int | None = None) -> list[Dataset]:
    """All arrays of a file, or of `size` bytes of it from `begin` on.

    Raises Refused for what is no plain array, ModuleNotFoundError without h5py, OSError.
    """
    import h5py

    with path.open("rb", buffering=0) as raw:
        size = path.stat().st_size - begin if size is None else size
        file = FilePart(raw, begin, size)
        if why := file.check_superblock():
            raise Refused(f"{path.name}: {why}")
        try:
            with h5py.File(file, "r", rdcc_nbytes=0) as opened:
                walk = _Walk(h5py, path, begin, size)
                found = list(walk.group(opened.id, "", 0))
        except (Refused, MemoryError):
            raise
        except Exception as error:  # whatever HDF5's own checks say
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise Refused(
                f"{path.name}: {file.refused or f'HDF5 cannot read it ({said})'}"
            ) from None
    walk.check_places()
    return found


class _Walk:
    """One walk over the objects of a file, with what was found so far."""

    def __init__(self, h5py: Any, path: Path, begin: int, size: int) -> None:
        self.h5py, self.path, self.begin, self.size = h5py, path, begin, size
        self.seen: set[int] = set()  # addresses of objects
        self.places: list[tuple[int, int, str]] = []  # begin, bytes and array of data
        self.bytes = 0
        self.types = [(getattr(h5py.h5t, name), ours) for name, ours in TYPES.items()]

    def refuse(self, name: str, why: str) -> Refused:
        return Refused(f"{self.path.name}: {name[:200]!r} {why}")

    def group(self, group: Any, inside: str, depth: int) -> Iterator[Dataset]:
        """The arrays of a group and of those in it."""
        if depth > MAX_DEPTH:
            raise self.refuse(inside, f"lies more than {MAX_DEPTH} groups deep")
        self._visit(group, inside)
        for raw in self._links(group, inside):
            name = raw.decode("utf-8", "backslashreplace")
            name = f"{inside}/{name}" if inside else name
            if len(name) > MAX_NAME:
                raise self.refuse(name, f"is a name of {len(name)} characters")
            link = group.links.get_info(raw)
            if link.type != self.h5py.h5l.TYPE_HARD:
                raise self.refuse(name, "is a link to another place or file")
            one = self.h5py.h5o.open(group, raw)
            if isinstance(one, self.h5py.h5g.GroupID):
                yield from self.group(one, name, depth + 1)
            elif isinstance(one, self.h5py.h5d.DatasetID):
                self._visit(one, name)
                yield self._dataset(one, name)
            else:
                raise self.refuse(name, "is neither a group nor an array")

    def _visit(self, one: Any, name: str) -> None:
        address = self.h5py.h5o.get_info(one).addr
        if address in self.seen:
            raise self.refuse(name, "is an object that stands elsewhere, too")
        self.seen.add(address)

    def _links(self, group: Any, inside: str) -> list[bytes]:
        names: list[bytes] = []

        def take(name: bytes) -> bool:
            names.append(name)
            return len(names) + len(self.seen) > MAX_OBJECTS

        if group.links.iterate(take)[0]:
            raise self.refuse(inside, "holds more objects than a model has")
        return names

    def _dataset(self, one: Any, name: str) -> Dataset:
        h5d, plan = self.h5py.h5d, one.get_create_plist()
        layout = plan.get_layout()
        # Before anything else is asked of it: asking can open other files.
        if layout not in (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED):
            raise self.refuse(name, "is a virtual array")
        if plan.get_external_count():
            raise self.refuse(name, "has its values in another file")
        dtype = self._dtype(one, name)
        shape = self._shape(one, name)
        nbytes = prod(shape) * item_bytes(dtype)
        self.bytes += nbytes
        if self.bytes > GROWTH * self.size + SLACK_BYTES:
            raise self.refuse(name, f"is larger than what the file can hold ({list(shape)})")
        if nbytes == 0:
            read: Callable[[], Array] = chunks.Empty(dtype, shape)
        elif layout == h5d.COMPACT:
            read = self._compact(one, name, dtype, shape)
        elif layout == h5d.CONTIGUOUS:
            read = self._contiguous(one, name, dtype, shape)
        else:
            read = self._chunked(one, plan, name, dtype, shape)
        return Dataset(file=self.path, name=name, dtype=dtype, shape=shape, read=read)

    def _dtype(self, one: Any, name: str) -> str:
        kind = one.get_type()
        for known, ours in self.types:
            if kind.equal(known):
                return ours
        opaque = kind.get_class() == self.h5py.h5t.OPAQUE and kind.get_size() == 2
        if opaque and self.h5py.h5a.exists(one, b"dtype"):
            return BFLOAT16
        raise self.refuse(name, "holds values that are no plain numbers")

    def _shape(self, one: Any, name: str) -> tuple[int, ...]:
        space = one.get_space()
        if space.get_simple_extent_type() == self.h5py.h5s.NULL:
            raise self.refuse(name, "has no shape")
        shape = tuple(int(size) for size in space.get_simple_extent_dims())
        if len(shape) > MAX_DIMENSIONS:
            raise self.refuse(name, f"has {len(shape)} dimensions")
        return shape

    def _compact(
        self, one: Any, name: str, dtype: str, shape: tuple[int, ...]
    ) -> Callable[[], Array]:
        """Values in the header: read at once, for HDF5 has them already."""
        import numpy

        if prod(shape) * item_bytes(dtype) > MAX_COMPACT_BYTES:
            raise self.refuse(name, "is larger than its place")
        values = numpy.empty(shape, chunks.stored(dtype))
        one.read(self.h5py.h5s.ALL, self.h5py.h5s.ALL, values, one.get_type())
        return lambda: chunks.native(values)

    def _contiguous(
        self, one: Any, name: str, dtype: str, shape: tuple[int, ...]
    ) -> Callable[[], Array]:
        offset = one.get_offset()
        if offset is None:
            raise self.refuse(name, "has no values")
        self._take(name, offset, prod(shape) * item_bytes(dtype))
        return chunks.Contiguous(self.path, self.begin + offset, dtype, shape)

    def _chunked(
        self, one: Any, plan: Any, name: str, dtype: str, shape: tuple[int, ...]
    ) -> Callable[[], Array]:
        sides = tuple(map(int, plan.get_chunk()))
        chunk_bytes = prod(sides) * item_bytes(dtype)
        if len(sides) != len(shape) or not chunk_bytes:
            raise self.refuse(name, "is cut into pieces of another shape")
        if chunk_bytes > 2 * prod(shape) * item_bytes(dtype) + 2**20:
            raise self.refuse(name, f"is cut into pieces larger than itself ({list(sides)})")
        filters = [plan.get_filter(place)[0] for place in range(min(plan.get_nfilters(), 8))]
        if len(set(filters)) < plan.get_nfilters() or not set(filters) <= set(chunks.FILTERS):
            raise self.refuse(name, f"is packed in a way that Keras does not use ({filters})")
        count = prod(-(-size // side) for size, side in zip(shape, sides, strict=True))
        if count + len(self.places) > MAX_CHUNKS:
            raise self.refuse(name, f"is cut into {count} pieces")
        found: dict[tuple[int, ...], chunks.ChunkPlace] = {}

        def take(info: Any) -> bool | None:
            self._take(name, info.byte_offset, info.size)
            place = self.begin + info.byte_offset
            found[info.chunk_offset] = chunks.ChunkPlace(place, info.size, info.filter_mask)
            return True if len(found) > count else None

        one.chunk_iter(take)
        # All corners must be those of the grid: as many as it has, each inside, each a multiple.
        inside = all(
            at < size and at % side == 0
            for corner in found
            for at, size, side in zip(corner, shape, sides, strict=True)
        )
        if len(found) != count or not inside:
            raise self.refuse(name, f"has {len(found)} of its {count} pieces")
        return chunks.Chunked(self.path, dtype, shape, sides, tuple(filters), found)

    def _take(self, name: str, begin: int, size: int) -> None:
        if begin < 0 or size < 0 or begin + size > self.size:
            raise self.refuse(name, "has values beyond the end of the file")
        self.places.append((begin, size, name))

    def check_places(self) -> None:
        """No two arrays share bytes. Raises Refused."""
        end, before = 0, ""
        for begin, size, name in sorted(self.places):
            if size and begin < end:
                raise self.refuse(name, f"shares its bytes with {before!r:.200}")
            end, before = max(end, begin + size), name
