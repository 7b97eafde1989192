"""A .keras file: a zip archive that holds the weights as they are, and small files.

The weights stay where they are: what is given is the part of the archive that they are. Small
files are unpacked, to no more than a limit.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from gptcli.checkpoints.formats.locked.source import Refused

MAX_DIRECTORY_BYTES = 2**16  # of the list of files; Keras writes some ten
TAIL_BYTES = 2**16 + 22  # in which the end of an archive is
HEADER_BYTES = 30  # of a file in the archive, before its name
ENCRYPTED = 1
# What zipfile raises; OSError where a place is before the beginning.
DAMAGES = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, OSError)


@dataclass(frozen=True, kw_only=True)
class ArchivedFile:
    """A file that lies in the archive as it is."""

    begin: int
    size: int


class Archive:
    """An archive whose list of files was looked at."""

    def __init__(self, path: Path) -> None:
        """Raises Refused, OSError."""
        self.path = path
        self._size = path.stat().st_size
        self._check_directory()
        try:
            with zipfile.ZipFile(path) as opened:
                entries = opened.infolist()
        except DAMAGES as error:
            raise self._refuse(f"it is no zip archive ({error})") from None
        self._entries = {entry.filename: entry for entry in entries}
        if len(self._entries) < len(entries):
            raise self._refuse("a file stands in it twice")

    def names(self) -> list[str]:
        """The names of all files."""
        return list(self._entries)

    def text(self, name: str, limit: int) -> bytes:
        """A small file. Raises Refused where it is larger than `limit` bytes, or damaged."""
        entry = self._entries[name]
        plain = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if entry.file_size > limit or not plain or entry.flag_bits & ENCRYPTED:
            raise self._refuse(f"{name[:200]!r} is larger than {limit} bytes, or locked")
        try:
            with zipfile.ZipFile(self.path) as opened, opened.open(entry) as file:
                data = file.read(limit + 1)
        except DAMAGES as error:
            raise self._refuse(f"{name[:200]!r} is damaged ({error})") from None
        if len(data) != entry.file_size:
            raise self._refuse(f"{name[:200]!r} is not as long as it says")
        return data

    def part(self, name: str) -> ArchivedFile:
        """Where a large file lies. Raises Refused where it is packed."""
        entry = self._entries[name]
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & ENCRYPTED:
            raise self._refuse(f"{name[:200]!r} is packed, which Keras does not do; unpack it")
        with self.path.open("rb") as file:
            file.seek(entry.header_offset)
            head = file.read(HEADER_BYTES)
        lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        begin = entry.header_offset + HEADER_BYTES + lengths
        inside = entry.header_offset >= 0 and begin + entry.file_size <= self._size
        if head[:4] != b"PK\3\4" or entry.compress_size != entry.file_size or not inside:
            raise self._refuse(f"{name[:200]!r} lies beyond the end")
        return ArchivedFile(begin=begin, size=entry.file_size)

    def _check_directory(self) -> None:
        """The list of files is short: zipfile would read one of any length."""
        with self.path.open("rb") as file:
            file.seek(max(0, self._size - TAIL_BYTES))
            tail = file.read(TAIL_BYTES)
            at = tail.rfind(b"PK\5\6")
            if at < 0:
                raise self._refuse("it is no zip archive")
            sizes = [tail[at + 12 : at + 16]]
            locator = tail[max(0, at - 20) : at]
            if locator[:4] == b"PK\6\7":  # of an archive above 4 GiB
                file.seek(min(int.from_bytes(locator[8:16], "little"), self._size))
                sizes.append(file.read(48)[40:48])
        if max(int.from_bytes(size, "little") for size in sizes) > MAX_DIRECTORY_BYTES:
            raise self._refuse("it lists more files than a model has")

    def _refuse(self, why: str) -> Refused:
        return Refused(f"{self.path.name}: {why}")
