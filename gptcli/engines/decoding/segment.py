"""New tokens of one sequence in a step, after the tokens that the KV cache holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """`length` new tokens of the sequence in `slot`, after `start` tokens in the KV cache."""

    slot: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """How many tokens the slot holds after the step."""
        return self.start + self.length
