"""What a step runs: new tokens of one sequence, after those that the cache holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """`length` new tokens of the sequence in `slot`, after `start` tokens already in the cache."""

    slot: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """How many tokens the slot holds afterwards."""
        return self.start + self.length
