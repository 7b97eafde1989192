"""What an input is known by: the SHA-256 of its contents, so that a moved file is the same one.

Here, and not beside the manifest that stores it, because the input knows nothing of the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gptcli.batch.input.paths import errors_of
from gptcli.system.checksums import file_digest


@dataclass(frozen=True)
class Fingerprint:
    """An input: its name, size in bytes and SHA-256 in hexadecimal.

    Of what can be read only once, such as standard input, size and SHA-256 are None.
    """

    name: str
    size: int | None
    sha256: str | None


def fingerprint(path: Path, name: str) -> Fingerprint:
    """Read a whole file for its SHA-256; about a second a gigabyte.

    Raises MissingInput, UsageError (a name with a NUL character).
    """
    with errors_of(name):
        sha256, size = file_digest(path, "sha256")
    return Fingerprint(name, size, sha256)
