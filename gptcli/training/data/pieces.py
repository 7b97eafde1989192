"""Pieces: what the network reads at a time, at most the context long, never of two documents.

The ids of all documents lie one after another in one file, with the end token before the first and
after each. A piece reads the ids [start, start + length) and predicts each one's next, so every
token of a document and its end token are a target once an epoch, and nothing is left over: a
document that is longer than the context is cut into several pieces, and the last may be short.

The order of an epoch depends only on the seed and the epoch's number, so it needs no state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gptcli.training.data.shuffling import Shuffle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1 << 16  # pieces of an order that are in memory at a time


@dataclass(frozen=True)
class PieceTable:
    """Pieces of some documents. `ids` may be a mapped file; the other arrays are (pieces,).

    muted: so many targets at a piece's beginning that do not count in the loss (a prompt's).
    """

    ids: NDArray[np.unsignedinteger]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int32]
    muted: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def tokens(self) -> int:
        """Input tokens of all pieces."""
        return int(self.lengths.sum(dtype="int64"))

    @cached_property
    def targets(self) -> int:
        """Tokens that count in the loss."""
        return self.tokens - (0 if self.muted is None else int(self.muted.sum(dtype="int64")))

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """The pieces of an epoch (from 0), shuffled."""
        return Shuffle(len(self), seed, epoch).between(0, len(self))

    def steps(
        self, seed: int, epoch: int, batch_tokens: int, first: int = 0
    ) -> Iterator[NDArray[np.int64]]:
        """The pieces of each step of an epoch, from piece `first` of its order on.

        A step ends with the piece that fills it, so it can be longer by less than a piece; the last
        of an epoch can be shorter. No piece is left out. Memory holds a block of the order.
        """
        import numpy as np

        shuffle = Shuffle(len(self), seed, epoch)
        held = np.empty(0, np.int64)
        for at in range(first, len(self), BLOCK):
            block = shuffle.between(at, min(at + BLOCK, len(self)))
            held = np.concatenate([held, block])
            filled = np.cumsum(self.lengths[held], dtype=np.int64)
            begin = before = 0
            while (end := int(np.searchsorted(filled, before + batch_tokens)) + 1) <= len(held):
                yield held[begin:end]
                begin, before = end, int(filled[end - 1])
            held = held[begin:]
        if len(held):
            yield held

    def steps_of_epoch(self, seed: int, epoch: int, batch_tokens: int) -> int:
        """How many steps an epoch has."""
        return sum(1 for _ in self.steps(seed, epoch, batch_tokens))
