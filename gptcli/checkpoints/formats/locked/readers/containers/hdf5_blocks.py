"""The file that the HDF5 library reads, with each block of its structure looked at on the way.

The library follows what blocks say of each other: a tree that holds itself overruns its stack, a
list of free places that goes round takes all memory. It reads a block in one piece, from its
signature on, so that such blocks can be told here, before the library has them. Only the blocks of
the oldest kind of HDF5 pass, which Keras writes. Their layout is in the HDF5 File Format
Specification, III.A, B1, D.
"""

from __future__ import annotations

import os
from io import BufferedIOBase, RawIOBase
from typing import Any

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUPERBLOCK_BYTES = 96  # of the longest version that passes
UNDEFINED = b"\xff" * 8  # an address of nothing
NEWER = {  # blocks of later kinds of HDF5
    *(b"OHDR", b"OCHK", b"BTHD", b"BTIN", b"BTLF", b"FRHP", b"FHDB", b"FHIB", b"FSHD", b"FSSE"),
    *(b"SMTB", b"SMLI", b"EAHD", b"EAIB", b"EASB", b"EADB", b"FAHD", b"FADB"),
}
TREE_HEAD, HEAP_HEAD = 24, 32  # bytes
CHUNK_CHILDREN = 64  # of a block in the tree of an array's pieces
MAX_HEAP_BYTES = 2**20  # names in a group
LAST_FREE = 1  # in place of the next free place


class FilePart(BufferedIOBase):
    """`size` bytes of a file from `begin` on, as a file of its own, for HDF5 to read.

    refused: why a block was not given, once one was not.
    """

    def __init__(self, file: RawIOBase, begin: int, size: int) -> None:
        self._file, self._begin, self._size, self._at = file, begin, size, 0
        self._above: dict[int, int] = {}  # of each block in a tree: the one above it
        self.refused = ""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_CUR: self._at, os.SEEK_END: self._size}.get(whence, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read a block. Raises OSError for one that is refused."""
        view, at = memoryview(buffer).cast("B"), self._at
        data = self.peek_at(at, len(view))
        self._at += len(data)
        view[: len(data)] = data
        view[len(data) :] = bytes(len(view) - len(data))  # zeros behind the end, as HDF5 has it
        self._check(at, data, len(view))
        return len(data)

    def peek_at(self, at: int, size: int) -> bytes:
        """Some bytes, and nothing else happens."""
        if not 0 <= at <= self._size:
            return b""
        self._file.seek(self._begin + at)
        return self._file.read(min(size, self._size - at)) or b""

    def check_superblock(self) -> str:
        """What is wrong with the file's first bytes; nothing where it is a plain and whole file."""
        head = self.peek_at(0, SUPERBLOCK_BYTES)
        if len(head) < SUPERBLOCK_BYTES or head[:8] != SIGNATURE:
            return "it is no HDF5 file"
        at = 24 + 4 * head[8]  # where addresses begin
        if head[8] > 1 or head[13:15] != b"\x08\x08" or head[at : at + 8] != bytes(8):
            return "it is HDF5 of another kind than Keras writes"
        if head[at + 24 : at + 32] != UNDEFINED:
            return "it is one of several parts of an HDF5 file"
        if int.from_bytes(head[at + 16 : at + 24], "little") > self._size:
            return f"it is cut short ({self._size} bytes)"
        return ""

    def _check(self, at: int, data: bytes, size: int) -> None:
        why = ""
        if data[:4] in NEWER:
            why = "it is HDF5 of another kind than Keras writes"
        elif data[:4] == b"TREE":
            why = self._check_tree(at, data, size)
        elif data[:4] == b"HEAP":
            why = self._check_heap(data)
        if why:
            self.refused = why
            raise OSError(why)

    def _check_tree(self, at: int, data: bytes, size: int) -> str:
        """Each child is one level below, and no other block's."""
        kind, level, count = data[4], data[5], _number(data[6:8])
        if kind == 0:  # names: keys of 8 bytes
            step = 16
        elif level:  # pieces of an array: longer keys
            step = (size - TREE_HEAD - 8 * CHUNK_CHILDREN) // (CHUNK_CHILDREN + 1) + 8
        else:
            return ""
        for place in range(count):
            begin = TREE_HEAD + step * (place + 1) - 8
            child = _number(data[begin : begin + 8])
            head = self.peek_at(child, 6) if level else b""
            if self._above.setdefault(child, at * CHUNK_CHILDREN + place) != (
                at * CHUNK_CHILDREN + place
            ):
                return "a block of its names stands in two places"
            if level and head != b"TREE" + bytes([kind, level - 1]):
                return "a tree of its names goes round"
        return ""

    def _check_heap(self, data: bytes) -> str:
        """The list of free places comes to an end."""
        size, free, begin = (_number(data[at : at + 8]) for at in (8, 16, 24))
        if size > MAX_HEAP_BYTES:
            return f"a group has {size} bytes of names"
        seen: set[int] = set()
        while free != LAST_FREE:
            if free >= size or free in seen:
                return "a list of free places goes round"
            seen.add(free)
            free = _number(self.peek_at(begin + free, 8))
        return ""


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
