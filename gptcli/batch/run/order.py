"""Reorder buffer: rows are computed in any order and written in the order of the input.

A slow row holds back those after it. The number of waiting rows is bounded: when the buffer is
full, no more rows go in. Rows that are in the output already skip it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gptcli.batch.input.row import Row
from gptcli.batch.output.journal import Journal
from gptcli.batch.output.stream import Stream
from gptcli.batch.run.work import Done
from gptcli.multiplex import InOrder

MAX_SKIPPED_ROWS = 100_000  # rows that are there already and lie after one that is under way
ROUNDS_AHEAD = 4  # rows under way or waiting, as a multiple of those computed at a time


@dataclass
class RowWindow:
    """The rows that are under way or wait for an earlier one, at most `size`."""

    journal: Journal | Stream
    size: int
    skipped: int = 0
    _under_way: int = 0
    _order: InOrder[Done] = field(default_factory=InOrder)

    @property
    def due(self) -> int:
        """The number of the row that is written next."""
        return self._order.due

    def rows(self, rows: Iterator[Row | None]) -> Iterator[Row | None]:
        """The rows that are to be computed, as long as there is room. Raises BadInput."""
        for row in rows:
            while self._under_way >= self.size or self._order.skipped > MAX_SKIPPED_ROWS:
                yield None
            if row is not None and self.journal.skip(row):
                self.skipped += 1
                self._order.skip(row.number)
                continue
            self._under_way += row is not None
            yield row

    def ordered(self, finished: Iterator[Done]) -> Iterator[Done]:
        """The same in the order of the input, each as soon as those before it are there."""
        for done in finished:
            for one in self._order.put(done.row.number, done):
                yield one
                self._under_way -= 1
