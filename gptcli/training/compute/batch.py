"""Pieces packed for one pass: their tokens one after another, without padding.

Only attention knows the pieces' borders (`attention.py`); all else works on tokens. Pieces are
sorted by length, so that attention can take those of about the same length together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptcli.training.data.pieces import PieceTable

IGNORED = -100  # a target that does not count


@dataclass(frozen=True)
class PackedBatch:
    """ids, targets, positions: (T,) int64; lengths: of the pieces, which follow one another."""

    ids: Tensor
    targets: Tensor
    positions: Tensor
    lengths: tuple[int, ...]

    def to(self, device: torch.device) -> PackedBatch:
        """The same on a device."""
        return PackedBatch(
            self.ids.to(device), self.targets.to(device), self.positions.to(device), self.lengths
        )


def packed(table: PieceTable, pieces: Sequence[int] | NDArray[np.int64]) -> PackedBatch:
    """Some pieces as one batch, the longest first."""
    lengths = table.lengths[pieces]
    pieces = np.asarray(pieces)[np.argsort(-lengths, kind="stable")]
    spans = zip(table.starts[pieces].tolist(), table.lengths[pieces].tolist(), strict=True)
    rows = [table.ids[start : start + length + 1].astype(np.int64) for start, length in spans]
    targets = [row[1:].copy() for row in rows]
    if table.muted is not None:
        for target, muted in zip(targets, table.muted[pieces], strict=True):
            target[:muted] = IGNORED
    ids = np.concatenate([row[:-1] for row in rows])
    positions = np.concatenate([np.arange(len(row) - 1) for row in rows])
    return PackedBatch(
        torch.from_numpy(ids),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(positions),
        tuple(len(row) - 1 for row in rows),
    )


def counted(table: PieceTable, pieces: NDArray[np.int64]) -> int:
    """The targets of pieces that count in the loss."""
    muted = 0 if table.muted is None else int(table.muted[pieces].sum(dtype=np.int64))
    return int(table.lengths[pieces].sum(dtype=np.int64)) - muted


def micro_batches(
    table: PieceTable, pieces: NDArray[np.int64], micro_tokens: int
) -> Iterator[NDArray[np.int64]]:
    """Pieces of a step in groups of at most `micro_tokens` tokens, or of one piece.

    They are sorted by length first, which costs the order inside a step and saves work in
    attention.
    """
    ordered = pieces[np.argsort(-table.lengths[pieces], kind="stable")]
    filled, first = 0, 0
    for place, length in enumerate(table.lengths[ordered].tolist()):
        if filled and filled + length > micro_tokens:
            yield ordered[first:place]
            filled, first = 0, place
        filled += length
    yield ordered[first:]
