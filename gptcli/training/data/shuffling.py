"""An order of pieces that needs no memory: the place of each is computed from the seed.

A small table is sorted by a hash of each number. A large one is permuted by a Feistel network whose
rounds are keyed by the seed, walked on until a number is in the table. Both give the same order on
any machine and with any version of NumPy, whose own shuffle may change.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SORTED = 1 << 20  # a table of so many or fewer is sorted
ROUNDS = 6
_MASK = (1 << 64) - 1


class Shuffle:
    """The numbers below `count` in an order that depends on the seed and the epoch alone."""

    def __init__(self, count: int, seed: int, epoch: int, sorted_up_to: int = SORTED) -> None:
        self.count = count
        self._sorts = count <= sorted_up_to
        self._half = max((count - 1).bit_length() + 1, 2) // 2  # bits of each half
        key = mixed(mixed(seed) ^ epoch)
        self._keys = [mixed(key + number + 1) for number in range(ROUNDS)]

    def between(self, first: int, end: int) -> NDArray[np.int64]:
        """The numbers at the places from `first` to before `end`."""
        import numpy as np

        if self._sorts:
            return self._all[first:end]
        places = np.arange(first, end, dtype=np.uint64)
        found = self._permuted(places)
        while (beyond := np.flatnonzero(found >= self.count)).size:
            found[beyond] = self._permuted(found[beyond])
        return found.astype(np.int64)

    @cached_property
    def _all(self) -> NDArray[np.int64]:
        import numpy as np

        numbers = np.arange(self.count, dtype=np.uint64)
        return np.argsort(mixed_all(numbers, self._keys[0]), kind="stable").astype(np.int64)

    def _permuted(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        import numpy as np

        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = numbers >> half, numbers & mask
        for key in self._keys:
            left, right = right, left ^ (mixed_all(right, key) & mask)
        return (left << half) | right


def mixed(number: int) -> int:
    """A 64-bit hash of a number: the finalizer of SplitMix64 (Steele et al. 2014)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def mixed_all(numbers: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """The same of many numbers at once, each with a key."""
    import numpy as np

    found = numbers ^ np.uint64(key)
    found += np.uint64(0x9E3779B97F4A7C15)
    found ^= found >> np.uint64(30)
    found *= np.uint64(0xBF58476D1CE4E5B9)
    found ^= found >> np.uint64(27)
    found *= np.uint64(0x94D049BB133111EB)
    found ^= found >> np.uint64(31)
    return found
