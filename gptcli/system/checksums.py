"""Checksums of files as the Hub has them: SHA-256 of large files, git's SHA-1 of small ones.

Which of the two one is, its length says. Left out: what they are compared with, see
`gptcli.checkpoints.hub` for downloads and `gptcli.models.verification` for what is on the machine.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Algorithm = Literal["sha256", "git-sha1"]
CHECKSUM = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
CHUNK = 2**20  # bytes


def algorithm_of(checksum: str) -> Algorithm:
    """What a checksum of 64 or 40 hexadecimal digits was made with."""
    return "sha256" if len(checksum) == 64 else "git-sha1"


def file_digest(
    path: Path, algorithm: Algorithm, progress: Callable[[int], None] | None = None
) -> tuple[str, int]:
    """A file's digest in hexadecimal digits, and its size in bytes. Raises OSError.

    git-sha1 is that of git's object: of "blob SIZE", a zero byte, and the content.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if algorithm == "sha256":
            found = hashlib.sha256()
        else:
            found = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        done = 0
        while chunk := file.read(CHUNK):
            found.update(chunk)
            done += len(chunk)
            if progress:
                progress(done)
    return found.hexdigest(), done
