"""What is there of an output, and how it goes on: plain data between two modules.

`gptcli.batch.output.opening` decides it, `gptcli.batch.output.journal` does it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gptcli.batch.output.records import Found


@dataclass(frozen=True, kw_only=True)
class Start:
    """How an output is opened.

    new: nothing is there. over: what is there goes with the first new row. append: after the rows
    that are there. rewrite: into a second file, which takes over rows of the first. nothing: it is
    complete.
    """

    kind: Literal["new", "over", "append", "rewrite", "nothing"]
    found: Found = field(default_factory=Found)  # rows in the file that is appended to
    old: Found = field(default_factory=Found)  # to rewrite: rows of the output
    by_content: bool = False  # to rewrite: take rows of the same contents, whatever their number
    rows: int | None = None  # how many rows there are, where the output is complete
    failed: int = 0  # how many of these are errors, where the rows cannot be read
    replaces: bool = False  # whether the file in the output's place is ours

    @property
    def recovered(self) -> int:
        """How many rows need not be computed, as far as that is known beforehand."""
        if self.kind == "nothing":
            return self.rows or 0
        if self.by_content:
            return len(self.found)
        later = range(len(self.found), len(self.old))
        return len(self.found) + sum(number not in self.old.failed for number in later)

    @property
    def least(self) -> int:
        """How many rows the input must have."""
        return max(len(self.found), 0 if self.by_content else len(self.old), self.rows or 0)

    def by_digest(self) -> dict[int, list[int]]:
        """To rewrite by content: the numbers of the old rows of each digest, the first one last."""
        found: dict[int, list[int]] = {}
        if self.by_content:
            for number in range(len(self.old) - 1, -1, -1):
                found.setdefault(self.old.digests[number], []).append(number)
        return found
