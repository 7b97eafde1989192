"""Which documents are kept for validation: by their contents, so that copies stand on one side.

The share is one of tokens, in whole documents, chosen by a hash of seed and contents. Where no
document is short enough for that share, the last part of the longest one is kept instead. In a
million documents or more the hash decides alone, without a list of them in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.training.data.shuffling import mixed, mixed_all
from gptcli.training.data.store import blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LISTED = 1 << 20  # documents that are listed to choose from
LEAST_TOKENS = 16  # a loss of fewer says nothing
ENOUGH, MOST = 0.75, 1.25  # of the share that is asked for
ONE_ALONE = 4.0  # of it, if it is a single document
LEAST_SHARE = 0.25  # of it, that whole documents must give
BUCKET = 1 << 22  # hashes that are compared at a time


@dataclass(frozen=True)
class Tail:
    """The document whose last part is kept: its hash, and the tokens that are trained on."""

    hash: int
    trained: int
    tokens: int  # that are kept


@dataclass(frozen=True)
class Split:
    """How documents are told apart. `tokens` are kept for validation; 0 is none."""

    key: int = 0
    chosen: NDArray[np.uint64] | None = None  # hashes, sorted
    below: int = 0  # where they are not listed: mixed hashes up to here
    longest: int = 0  # and no longer than this
    tail: Tail | None = None
    tokens: int = 0

    def valid(self, hashes: NDArray[np.uint64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these documents are kept whole."""
        import numpy as np

        if self.chosen is not None:
            return np.isin(hashes, self.chosen)
        found = mixed_all(hashes, self.key) < np.uint64(self.below)
        return found & (lengths <= self.longest)


def split(
    lengths: Path, hashes: Path, muted: Path, documents: int, tokens: int, share: float, seed: int
) -> Split:
    """Choose among the first documents of these files. Raises OSError."""
    wanted = share * tokens
    key = mixed(seed)
    if wanted < LEAST_TOKENS:
        return Split()
    if documents > LISTED:
        longest = max(int(wanted * LEAST_SHARE), 1)
        return Split(key, below=int(share * 2**64), longest=longest, tokens=int(wanted))
    size = next(blocks(lengths, "<i8", documents))
    names = next(blocks(hashes, "<u8", documents))
    prompts = next(blocks(muted, "<i4", documents))
    return _listed(size, names, prompts, wanted, key)


def _listed(
    lengths: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    muted: NDArray[np.int32],
    wanted: float,
    key: int,
) -> Split:
    import numpy as np

    known, first, copies = np.unique(hashes, return_index=True, return_counts=True)
    size = lengths[first] * copies
    chosen: list[int] = []
    taken = 0
    for one in np.argsort(mixed_all(known, key), kind="stable").tolist():
        more = int(size[one])
        if taken + more <= wanted * (MOST if taken else ONE_ALONE) and len(chosen) + 1 < len(known):
            chosen.append(one)
            taken += more
        if taken >= wanted * ENOUGH:
            break
    if taken >= max(wanted * LEAST_SHARE, LEAST_TOKENS):
        return Split(key, chosen=known[sorted(chosen)], tokens=taken)
    longest = int(lengths.argmax())
    kept = int(wanted)
    if muted[longest] or lengths[longest] <= 2 * kept:
        return Split()
    tail = Tail(int(hashes[longest]), int(lengths[longest]) - kept, kept)
    return Split(key, chosen=known[:0], tail=tail, tokens=kept)


def copies(hashes: Path, documents: int) -> int:
    """How many of the first documents stand before already. Raises OSError."""
    import numpy as np

    parts = -(-documents // BUCKET)
    unique = 0
    for part in range(parts):
        low, high = part * 2**64 // parts, (part + 1) * 2**64 // parts - 1
        held, left = [], documents
        for block in blocks(hashes, "<u8", 1 << 18):
            block = block[:left]
            left -= block.size
            held.append(block[(block >= np.uint64(low)) & (block <= np.uint64(high))])
        found = np.sort(np.concatenate(held))  # NumPy 2.4's unique, by a hash table, is far slower
        unique += int(np.count_nonzero(found[1:] != found[:-1])) + bool(found.size)
    return documents - unique
