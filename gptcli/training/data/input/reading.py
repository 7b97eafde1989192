"""The text of a file, piece by piece, and the digest of its bytes as they were read.

What is no text is refused by its name and place: a PDF or an archive, UTF-16, a NUL byte, a byte
that is not UTF-8. Line ends of Windows become LF, a byte order mark goes.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable, Iterator
from itertools import chain

from gptcli.errors import BadInput
from gptcli.inputs.compressed import MAGIC, SUFFIXES, packing_of, unpacked
from gptcli.inputs.encoding import checked
from gptcli.options.shared import Errors
from gptcli.system.regular_files import open_regular
from gptcli.training.data.input.files import DataFile, errors_of

READ_BYTES = 1 << 20  # at a time
HEAD_BYTES = 16  # that tell a kind of file
BINARY = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive, such as .docx, .epub or .odt",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"{\\rtf": "an RTF document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"RIFF": "sound, video or a picture",
    b"OggS": "sound or video",
    b"ID3": "sound",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
    b"SQLite format 3\0": "a database",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ\0": "packed by xz",
    b"7z\xbc\xaf": "packed by 7-Zip",
    b"Rar!": "packed by RAR",
    b"PAR1": "Parquet, and its name does not end in .parquet",
}
_HOW = "Save or convert it as plain text in UTF-8, and name that."
Seen = Callable[[int], object]
"""Takes the bytes that were read since it was called last."""


class DataSource:
    """A file that is read once; then `sha256` and `bytes` say what was read."""

    def __init__(self, file: DataFile, errors: Errors, seen: Seen) -> None:
        self.file, self.name = file, file.name
        self.bytes = 0
        self.carriage_returns = False  # whether lines end as those of Windows
        self.replaced = 0  # places that are not UTF-8
        self._errors, self._seen = errors, seen
        self._hashed, self._sha256 = hashlib.sha256(), ""

    @property
    def sha256(self) -> str:
        """Of the bytes that were read."""
        return self._sha256 or self._hashed.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """The bytes of a text or table, unpacked. Raises BadInput, MissingInput, Unavailable."""
        raw: Iterator[bytes | None] = self._raw()
        head, raw = _head(raw, max(map(len, MAGIC)))
        packing = packing_of(head)
        if packing is not None:
            raw = unpacked(raw, packing, self.name)
        elif self.file.path.suffix.lower() in SUFFIXES:
            kind = SUFFIXES[self.file.path.suffix.lower()]
            raise BadInput(self.name, f"it is not packed by {kind}", "Take the suffix off.")
        head, raw = _head(raw, HEAD_BYTES)
        for magic, what in BINARY.items():
            if head.startswith(magic):
                raise BadInput(self.name, f"it is no text: {what}", _HOW)
        at = 0
        for piece in checked(raw, self.name):
            if not piece:
                continue
            if (null := piece.find(b"\0")) >= 0:
                raise BadInput(self.name, f"it is no text: a NUL byte at byte {at + null}", _HOW)
            at += len(piece)
            yield piece

    def texts(self) -> Iterator[str]:
        """The text, in pieces, with LF at the end of lines. Raises as `pieces`."""
        held = ""
        for text in self._decoded():
            text = held + text
            held = "\r" if text.endswith("\r") else ""
            text = text[:-1] if held else text
            if "\r\n" in text:
                self.carriage_returns = True
                text = text.replace("\r\n", "\n")
            if text:
                yield text
        if held:
            yield held

    def took(self, sha256: str) -> None:
        """Say what was read by another reader: a file of this digest."""
        self._sha256 = sha256
        with errors_of(self.name):
            self.bytes = self.file.path.stat().st_size
        self._seen(self.bytes)

    def _raw(self) -> Iterator[bytes]:
        with errors_of(self.name), open_regular(self.file.path) as file:
            while piece := file.read(READ_BYTES):
                self._hashed.update(piece)
                self.bytes += len(piece)
                self._seen(len(piece))
                yield piece

    def _decoded(self) -> Iterator[str]:
        rest, at, line = b"", 0, 1
        foreign = False  # whether anything but ASCII was there
        for piece in chain(self.pieces(), (None,)):
            data = rest + (piece or b"")
            if at == 0 and (len(data) > 2 or piece is None):
                bare = data.removeprefix(codecs.BOM_UTF8)
                at, data = len(data) - len(bare), bare
            try:
                text, used = codecs.utf_8_decode(data, self._errors, piece is None)
            except UnicodeDecodeError as error:
                lines = line + data.count(b"\n", 0, error.start)
                before = foreign or not data[: error.start].isascii()
                raise self._bad(at + error.start, lines, data[error.start], before) from None
            line += data.count(b"\n", 0, used)
            foreign = foreign or not text.isascii()
            if self._errors == "replace" and not text.isascii():
                self.replaced += text.count("\ufffd")
            rest, at = data[used:], at + used
            if text:
                yield text

    def _bad(self, at: int, line: int, byte: int, mixed: bool) -> BadInput:
        why = f"invalid UTF-8 at byte {at} (0x{byte:02x}, line {line})"
        if mixed:
            why += "; before it there is UTF-8: encodings are mixed"
        hint = "Convert it with iconv, or replace such bytes with --errors replace."
        return BadInput(self.name, why, hint)


def _head(pieces: Iterator[bytes | None], count: int) -> tuple[bytes, Iterator[bytes | None]]:
    """So many first bytes, and all pieces with them."""
    head = b""
    for piece in pieces:
        head += piece or b""
        if len(head) >= count:
            break
    return head, chain([head] if head else [], pieces)
