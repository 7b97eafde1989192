"""The longest passages that texts share with the text that a model learned, token for token.

One pass over the ids: the hash of each run of 8 tokens is looked up among those of the texts, and
what is found grows to both sides as far as tokens agree. Memory holds a block of ids. Of very much
text a pass may take too long: then blocks that are spread over all of it are looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gptcli.training.data.pieces import PieceTable

RUN = 8  # tokens: a shorter passage is not looked for
BLOCK = 1 << 20  # ids at a time
MOST_HITS = 20_000  # of a block
MOST_GROWN = 50  # of a text in a block
PIECES = 8  # before and behind, that are looked at
FILTER_BITS = 20
_FACTOR = 0x9E3779B97F4A7C15  # odd, 64 bits: 2**64 divided by the golden ratio


@dataclass(frozen=True)
class Overlap:
    """The longest passage of a text that stands in the training text: where, and how long.

    Its tokens are [start, start + tokens) of the text; tokens is 0 where no run of `RUN` is shared.
    """

    start: int = 0
    tokens: int = 0
    place: int = 0  # of its first token among the ids


@dataclass(frozen=True)
class Overlaps:
    """The overlap of each text, and how much of the training text was looked at, 0 to 1."""

    found: tuple[Overlap, ...]
    share: float


def overlaps(
    texts: Sequence[Sequence[int]],
    table: PieceTable,
    is_over: Callable[[], bool] = lambda: False,
) -> Overlaps:
    """Look for texts (of token ids) among the ids that are trained on; `is_over` ends the pass."""
    import numpy as np

    known = _Known(texts)
    best = [Overlap() for _ in texts]
    ids, looked_at = table.ids, 0
    for number in _spread(-(-len(ids) // BLOCK)) if known.count else ():
        if looked_at and is_over():
            break
        first = number * BLOCK
        block = np.asarray(ids[first : first + BLOCK + RUN - 1])
        looked_at += min(BLOCK, len(ids) - first)
        left = Counter(dict.fromkeys(range(len(texts)), MOST_GROWN))
        for place, text, start in known.hits(block):
            if not left[text] or best[text].tokens == len(texts[text]):
                continue
            left[text] -= 1
            grown = _grown(table, texts[text], first + place, start, best[text].tokens)
            if grown is not None:
                best[text] = grown
    return Overlaps((*best,), looked_at / len(ids) if known.count and len(ids) else 1.0)


class _Known:
    """The runs of some texts by their hashes."""

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        import numpy as np

        found: dict[int, list[tuple[int, int]]] = {}
        for number, text in enumerate(texts):
            seen: set[int] = set()
            for start, value in enumerate(hashes(np.array(text, np.uint64)).tolist()):
                if value not in seen:  # of a text that repeats itself, its first
                    seen.add(value)
                    found.setdefault(value, []).append((number, start))
        self.count = len(found)
        self._places = found
        self._sorted = np.array(sorted(found), np.uint64)
        self._filter = np.zeros(1 << FILTER_BITS, bool)
        self._filter[self._short(self._sorted)] = True

    def hits(self, block: NDArray[Any]) -> Iterator[tuple[int, int, int]]:
        """(place in the block, text, place in the text) of runs that both have: for each passage
        its first run, mostly.
        """
        import numpy as np

        values = hashes(block.astype(np.uint64))
        maybe = np.flatnonzero(self._filter[self._short(values)])
        at = np.searchsorted(self._sorted, values[maybe]).clip(0, self.count - 1)
        places = maybe[self._sorted[at] == values[maybe]][:MOST_HITS]
        before: dict[tuple[int, int], int] = {}
        for place in places.tolist():
            for text, start in self._places[int(values[place])]:
                diagonal = text, place - start
                if before.get(diagonal) != place - 1:
                    yield place, text, start
                before[diagonal] = place

    def _short(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        import numpy as np

        return values >> np.uint64(64 - FILTER_BITS)


def hashes(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A number for each run of `RUN` ids, shape (ids - RUN + 1,), modulo 2**64."""
    import numpy as np

    if len(ids) < RUN:
        return np.empty(0, np.uint64)
    found, size, factor = (ids + np.uint64(1)) * np.uint64(_FACTOR), 1, _FACTOR
    found ^= found >> np.uint64(29)
    while size < RUN:  # of 2, 4 and 8 ids
        left, right = found[: len(found) - size], found[size:]
        factor = factor * factor % 2**64
        found = left * np.uint64(factor | 1) + right
        size *= 2
    return found


def _grown(
    table: PieceTable, text: Sequence[int], place: int, start: int, least: int
) -> Overlap | None:
    """A run that both have, grown to both sides; None where it is not longer than `least`, or is
    not of what is trained on.
    """
    import numpy as np

    low, high = _piece_around(table, place)
    if low is None or place + RUN > high:
        return None
    words = np.array(text)
    back = min(start, place - low)
    ahead = min(len(text) - start, high - place)
    before = _agreeing(words[start - back : start][::-1], table.ids[place - back : place][::-1])
    after = _agreeing(words[start : start + ahead], table.ids[place : place + ahead])
    if after < RUN or before + after <= least:  # two runs of the same hash
        return None
    return Overlap(start - before, before + after, place - before)


def _piece_around(table: PieceTable, place: int) -> tuple[int | None, int]:
    """Where the text that is trained on begins and ends around an id: a document's pieces."""
    import numpy as np

    starts, lengths = table.starts, table.lengths
    last = int(np.searchsorted(starts, place, side="right")) - 1
    if last < 0 or place > starts[last] + lengths[last]:
        return None, 0
    near = slice(max(last - PIECES, 0), last + PIECES)  # in one document, pieces touch
    apart = np.flatnonzero(starts[near][1:] != (starts[near] + lengths[near])[:-1]) + near.start
    first = max((int(at) + 1 for at in apart if at < last), default=near.start)
    end = min((int(at) for at in apart if at >= last), default=near.start + len(starts[near]) - 1)
    return int(starts[first]), int(starts[end] + lengths[end]) + 1


def _agreeing(one: NDArray[Any], other: NDArray[Any]) -> int:
    """How many agree from the first on."""
    import numpy as np

    differing = np.flatnonzero(one != np.asarray(other))
    return int(differing[0]) if len(differing) else len(one)


def _spread(count: int) -> Iterator[int]:
    """The numbers below a count, each once, so that some of them are spread over all."""
    step = max(int(count * 0.618), 1)
    while count > 1 and gcd(step, count) > 1:
        step += 1
    yield from (number * step % count for number in range(count))
