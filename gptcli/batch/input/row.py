"""One row of a batch: what is read from the input, before anything is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from gptcli.errors import GptcliError
from gptcli.protocol import TextOrIds


@dataclass(frozen=True)
class Row:
    """An input row; `error` where it cannot be used, and then `text` is empty.

    A row is known by its number and the SHA-256 of its raw bytes together: a count alone would
    take an edited file for the same one.
    """

    number: int  # from 0, in input order
    digest: str  # SHA-256 of the raw record, hexadecimal
    id: str  # its own, else its number, or row:NUMBER where others have ids of their own
    text: TextOrIds  # the prompt, or a task's input
    overrides: Mapping[str, object] = field(default_factory=dict)  # fields of Sampling
    error: GptcliError | None = None
    carried: Mapping[str, object] = field(default_factory=dict)  # other columns, for the output

    @property
    def key(self) -> str:
        """What the output calls it: `12:0f3a5c7e9b1d2f40`."""
        return f"{self.number}:{self.digest[:16]}"


def digest(raw: bytes) -> str:
    """The SHA-256 of a raw record, hexadecimal."""
    return hashlib.sha256(raw).hexdigest()
