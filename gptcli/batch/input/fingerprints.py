"""What an input is known by: the SHA-256 of its contents, so that a moved file is the same one.

Here, and not beside the manifest that stores it, because the input knows nothing of the output.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gptcli.batch.input.paths import errors_of
from gptcli.system.regular_files import open_regular

PIECE_BYTES = 1 << 20  # of a file, whose running digest is kept
MARK_BYTES = 16  # kept of each


@dataclass(frozen=True)
class Fingerprint:
    """An input: its name, size in bytes and SHA-256 in hexadecimal.

    Of what can be read only once, such as standard input, size and SHA-256 are None.
    """

    name: str
    size: int | None
    sha256: str | None


def marked(path: Path, name: str) -> tuple[Fingerprint, bytes]:
    """Read a whole file for its SHA-256; about a second a gigabyte.

    Gives also the beginning of the running digest after each MiB, of MARK_BYTES, to compare a part
    of the file with. Raises MissingInput, UsageError (a name with a NUL character).
    """
    hashed, size, marks = hashlib.sha256(), 0, bytearray()
    with errors_of(name), open_regular(path) as file:
        while piece := file.read(PIECE_BYTES):
            hashed.update(piece)
            size += len(piece)
            marks += hashed.copy().digest()[:MARK_BYTES]
    return Fingerprint(name, size, hashed.hexdigest()), bytes(marks)
