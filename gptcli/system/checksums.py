"""Checksums of files as the Hub has them: SHA-256 of large files, git's SHA-1 of small ones.

The length of a checksum tells which of the two it is. Not here: downloads are checked in
`gptcli.checkpoints.hub`, cached models in `gptcli.models.verification`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from gptcli.system.regular_files import open_regular

Algorithm = Literal["sha256", "git-sha1"]
CHECKSUM = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
CHUNK_BYTES = 2**20


def algorithm_of(checksum: str) -> Algorithm:
    """The algorithm of a checksum of 64 or 40 hexadecimal digits."""
    return "sha256" if len(checksum) == 64 else "git-sha1"


def file_digest(
    path: Path, algorithm: Algorithm, progress: Callable[[int], None] | None = None
) -> tuple[str, int]:
    """A file's digest in hexadecimal digits, and its size in bytes. Raises OSError.

    git-sha1 is that of git's blob object: of "blob SIZE", a zero byte, and the content. `progress`
    gets the bytes read so far.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if algorithm == "sha256":
            found = hashlib.sha256()
        else:
            found = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        done = 0
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
            done += len(chunk)
            if progress:
                progress(done)
    return found.hexdigest(), done
