"""Intervals and tests, each a small function of its numbers and a seed.

Shares: Wilson's interval (`gptcli.scoring.pairs.wilson`); the difference of two shares of the same
pairs: Newcombe (1998), method 10; whether they differ: McNemar's exact test. Means: the percentile
interval of the bootstrap (Efron 1979); paired differences: the test that flips signs (Fisher 1935).
Several tests at once: Holm (1979).

All that is drawn at random is a function of the seed: the bits of Python's Mersenne Twister, which
are the same on every machine and in every version.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

from gptcli.scoring.pairs import wilson

RESAMPLES = 5000
FLIPS = 10_000  # of signs, where all of them are too many
MAX_EXACT = 12  # values whose signs are flipped in every way
TAIL = 0.025  # on either side of an interval of 95 %
_DRAWN_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95 % interval; None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_dict(self, name: str) -> dict[str, object]:
        """Three keys of a row."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def share(part: float, count: int) -> Estimate:
    """A share of `count`, 1 or more, with Wilson's interval."""
    return Estimate(part / count, *wilson(part, count))


def mean(values: Sequence[float], seed: str) -> Estimate:
    """Their mean with the bootstrap's interval, which one value does not have."""
    middle = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(middle)
    [means] = resampled_means([values], seed)
    return Estimate(middle, *percentiles(means))


def resampled_means(columns: Sequence[Sequence[float]], seed: str) -> list[Any]:
    """For each column the means of RESAMPLES resamples; a resample draws the same rows of each."""
    import numpy as np

    data = np.asarray(columns, dtype=np.float64)
    count = data.shape[1]
    random, step = Random(seed), max(_DRAWN_AT_ONCE // count, 1)
    parts = []
    for begin in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - begin)
        bits = np.frombuffer(random.randbytes(4 * rows * count), dtype="<u4").astype(np.uint64)
        drawn = ((bits * np.uint64(count)) >> np.uint64(32)).reshape(rows, count)
        parts.append(np.stack([column[drawn].mean(axis=1) for column in data]))
    return list(np.concatenate(parts, axis=1))


def percentiles(values: Any) -> tuple[float, float]:
    """The ends of the middle 95 % of numpy values, by linear interpolation."""
    import numpy as np

    low, high = np.quantile(values, [TAIL, 1 - TAIL])
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p that both kinds of discordant pairs are equally likely."""
    count, least = only_first + only_second, min(only_first, only_second)
    term, tail = 1, 0
    for k in range(least + 1):
        tail += term
        term = term * (count - k) // (k + 1)
    return min(1.0, float(2 * tail / 2**count))


def paired_shares(both: float, first: float, second: float, neither: float) -> Estimate:
    """The second share less the first, of the same pairs: Newcombe's method 10.

    `first` pairs count for the first share alone. Of his correction for continuity, which keeps the
    correlation small in small samples, the pairs' number is in the numerator.
    """
    count = both + first + second + neither
    one, other = (both + first) / count, (both + second) / count
    low1, high1 = _wilson(both + first, count)
    low2, high2 = _wilson(both + second, count)
    rest = _correlation(both, first, second, neither)
    change = other - one
    down = _square(other - low2, high1 - one, rest)
    up = _square(high2 - other, one - low1, rest)
    return Estimate(change, change - down, change + up)


def _wilson(part: float, count: float) -> tuple[float, float]:
    return wilson(min(part, count), round(count))


def _square(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))


def _correlation(both: float, first: float, second: float, neither: float) -> float:
    """Phi of a table, corrected for continuity where it is positive."""
    edges = (both + first) * (second + neither) * (both + second) * (first + neither)
    if edges <= 0:
        return 0.0
    product = both * neither - first * second
    if product > 0:
        product = max(product - (both + first + second + neither) / 2, 0.0)
    return product / math.sqrt(edges)


def sign_flips(values: Sequence[float], seed: str) -> float:
    """The two-sided p that paired differences have a mean of 0: signs are flipped at random.

    In every way for few values; else FLIPS times, and the values as they are count as one more.
    """
    import numpy as np

    data = np.asarray(values, dtype=np.float64)
    least = abs(data.sum()) * (1 - 1e-12)  # the same sum in another order is as large
    if len(values) <= MAX_EXACT:
        signs = np.array([*product((1.0, -1.0), repeat=len(values))])
        return float((np.abs(signs @ data) >= least).mean())
    random, beyond = Random(seed), 0
    width = (len(values) + 7) // 8
    step = max(_DRAWN_AT_ONCE // len(values), 1)
    for begin in range(0, FLIPS, step):
        rows = min(step, FLIPS - begin)
        bits = np.frombuffer(random.randbytes(rows * width), dtype=np.uint8).reshape(rows, width)
        signs = np.unpackbits(bits, axis=1)[:, : len(values)].astype(np.float64) * 2 - 1
        beyond += int((np.abs((signs * data).sum(axis=1)) >= least).sum())
    return (beyond + 1) / (FLIPS + 1)


def holm(chances: Sequence[float]) -> list[float]:
    """The p of several tests, adjusted so that all of them together err with the chance named."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    adjusted, least = [0.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, chances[place] * (len(chances) - rank)))
        adjusted[place] = least
    return adjusted
