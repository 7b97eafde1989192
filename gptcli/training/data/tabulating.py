"""Documents on the disk become two tables of pieces there: to train on, and to validate on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.training.data.splitting import Split
from gptcli.training.data.store import ArrayFile, blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DOCUMENTS = 1 << 14  # at a time
COLUMNS = {"starts": "<i8", "lengths": "<i4", "muted": "<i4"}
DOCUMENT_COLUMNS = {"lengths": "<i8", "hashes": "<u8", "muted": "<i4"}


@dataclass(frozen=True)
class Spans:
    """Parts of documents: where their first input lies, how many inputs, how many muted."""

    starts: NDArray[np.int64]
    inputs: NDArray[np.int64]
    muted: NDArray[np.int64]

    def where(self, which: NDArray[np.bool_]) -> Spans:
        """Some of them."""
        return Spans(self.starts[which], self.inputs[which], self.muted[which])

    def cut(self, context: int) -> Spans:
        """Pieces, each at most the context long."""
        import numpy as np

        counts = -(-self.inputs // context)
        before = np.cumsum(counts) - counts
        offset = (np.arange(int(counts.sum())) - np.repeat(before, counts)) * context
        length = np.minimum(np.repeat(self.inputs, counts) - offset, context)
        muted = np.clip(np.repeat(self.muted, counts) - offset, 0, length)
        return Spans(np.repeat(self.starts, counts) + offset, length, muted)


class TableWriter:
    """The files of one table. Methods raise OSError."""

    def __init__(self, folder: Path, name: str) -> None:
        self.files = {
            column: ArrayFile(folder / f"{name}.{column}.bin", dtype)
            for column, dtype in COLUMNS.items()
        }
        self.tokens = self.muted = 0

    def add(self, pieces: Spans) -> None:
        """Write pieces behind the others."""
        self.tokens += int(pieces.inputs.sum())
        self.muted += int(pieces.muted.sum())
        for column, values in zip(
            COLUMNS, (pieces.starts, pieces.inputs, pieces.muted), strict=True
        ):
            self.files[column].append(values)

    def close(self) -> None:
        """Flush all to the disk."""
        for file in self.files.values():
            file.close()


def tabulate(
    folder: Path, own: int, split: Split, context: int
) -> tuple[TableWriter, TableWriter, int]:
    """Write both tables; gives also how many documents are left out.

    own: so many documents are those of the data, and the others were given to validate on; one of
    the data that stands among those is left out. Raises OSError.
    """
    import numpy as np

    train, valid = TableWriter(folder, "train"), TableWriter(folder, "valid")
    given = _hashes_from(folder, own)
    place = number = dropped = 0
    tail = split.tail
    columns = [
        blocks(document_file(folder, name), kind, DOCUMENTS)
        for name, kind in DOCUMENT_COLUMNS.items()
    ]
    for lengths, hashes, muted in zip(*columns, strict=True):
        ends = place + np.cumsum(lengths + 1)
        spans = Spans(ends - lengths - 1, lengths + 1, muted.astype(np.int64))
        place = int(ends[-1])
        held_back = np.arange(number, number + len(lengths)) >= own
        number += len(lengths)
        kept = split.valid(hashes, lengths) if split.tokens else np.zeros(len(lengths), bool)
        doubled = np.isin(hashes, given) & ~held_back
        dropped += int(doubled.sum())
        cut = np.zeros(len(lengths), bool)
        if tail is not None:
            cut = (hashes == np.uint64(tail.hash)) & ~held_back
            spans.inputs[cut] = tail.trained
        train.add(spans.where(~(held_back | kept | doubled)).cut(context))
        if tail is not None and cut.any() and not valid.tokens:
            at = int(spans.starts[cut][0]) + tail.trained + 1  # the token at `at` is no input above
            one = np.array([at]), np.array([tail.tokens]), np.array([0])
            valid.add(Spans(*one).cut(context))
        valid.add(spans.where(held_back | (kept & ~doubled)).cut(context))
    train.close()
    valid.close()
    return train, valid, dropped


def document_file(folder: Path, column: str) -> Path:
    """The file of a column of the documents, which is there while tables are made."""
    return folder / f"documents.{column}.bin"


def _hashes_from(folder: Path, first: int) -> NDArray[np.uint64]:
    """The hashes of the documents from a number on, sorted."""
    import numpy as np

    found: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
    at = 0
    for block in blocks(document_file(folder, "hashes"), "<u8", DOCUMENTS):
        if at + block.size > first:  # an empty part would keep its block in memory
            found.append(block[max(first - at, 0) :])
        at += block.size
    return np.unique(np.concatenate(found))
