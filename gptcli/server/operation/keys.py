"""API keys from a file: one a line, # begins a comment.

Only digests are kept. A comparison looks at every key, in constant time for each, so that its time
says nothing. No message quotes a key. There is no flag for a key itself, which every user of the
machine could read in the list of processes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest

from gptcli.errors import BadInput, MissingInput
from gptcli.system.os_errors import reason

MAX_BYTES = 2**20
FLAG = "--api-key-file"


@dataclass(frozen=True)
class Keys:
    """The digests of the keys; none: everyone may ask."""

    digests: tuple[bytes, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.digests)

    def allow(self, authorization: bytes | None) -> bool:
        """Whether a header says `Bearer KEY` with one of the keys; without keys, always."""
        if not self.digests:
            return True
        scheme, _, key = (authorization or b"").partition(b" ")
        given = sha256(key.strip()).digest()
        found = [compare_digest(given, digest) for digest in self.digests]
        return any(found) and scheme.lower() == b"bearer"


def read_keys(path: str, note: Callable[[str], None]) -> Keys:
    """The keys of a file; `note` is told where others can read it.

    Raises MissingInput, and BadInput, naming the line.
    """
    try:
        with open(os.path.expanduser(path), "rb") as stream:  # noqa: PTH111, PTH123 - may be a pipe
            status = os.fstat(stream.fileno())
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise MissingInput(path, why, f"Name a file that holds keys with {FLAG}") from None
    if len(data) > MAX_BYTES:
        raise BadInput(path, f"a file of keys has at most {MAX_BYTES} bytes", "Name another file")
    if stat.S_ISREG(status.st_mode) and os.name == "posix" and status.st_mode & 0o044:
        note(f"{path} can be read by other users of this machine; chmod 600 keeps them out")
    return Keys(tuple(sha256(key).digest() for key in _keys(path, data)))


def _keys(path: str, data: bytes) -> list[bytes]:
    found = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        key = line.strip()
        if not key or key.startswith(b"#"):
            continue
        if not all(33 <= byte < 127 for byte in key):
            why = f"line {number} is no key: a key is printable ASCII without spaces"
            raise BadInput(path, why, "Write one key a line")
        found.append(key)
    if not found:
        raise BadInput(path, "it holds no key", "Write one key a line")
    return found
