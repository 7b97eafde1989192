"""How many sequences are computed at a time: as given, or what turns out to be fastest here.

A wider batch reads the weights less often, until arithmetic is the limit, and where that is depends
on model and machine. So with `auto` the width is doubled while that pays, by the tokens that are
written anyway; texts do not depend on it. Memory bounds it, see `gptcli.batch.run.identity`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter

FIRST_WIDTH = 8
MIN_GAIN = 1.07  # a doubled width must write so many times the tokens
STEPS_MEASURED = 12  # steps at full width that make a measurement


@dataclass
class Width:
    """How many sequences may be in flight; `limit` changes while it is being found out."""

    limit: int
    most: int
    settled: bool = True
    clock: object = field(default=perf_counter, repr=False)
    _tokens: int = 0
    _begun: float | None = None
    _before: float = 0.0  # tokens per second at half the width

    def written(self, tokens: int, in_flight: int) -> None:
        """Count tokens that were written while `in_flight` sequences were."""
        if self.settled:
            return
        if in_flight < self.limit:  # not full: says nothing about this width
            self._begun = None
            return
        now = self.clock()  # type: ignore[operator]
        if self._begun is None:
            self._begun, self._tokens = now, 0
            return
        self._tokens += tokens
        if self._tokens >= STEPS_MEASURED * self.limit:
            self._decide(self._tokens / max(now - self._begun, 1e-9))
            self._begun = None

    def _decide(self, speed: float) -> None:
        if speed < self._before * MIN_GAIN:
            self.limit, self.settled = self.limit // 2, True
        elif self.limit * 2 > self.most:
            self.settled = True
        else:
            self._before, self.limit = speed, self.limit * 2


def width(batch_size: int | None, most: int) -> Width:
    """The width asked for, or with None one that is found out, of at most `most`."""
    if batch_size is not None:
        return Width(batch_size, batch_size)
    return Width(min(FIRST_WIDTH, most), most, settled=False)
