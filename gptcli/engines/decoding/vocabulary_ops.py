"""Operations on a row of logits, float32 (V,), as long as the vocabulary.

All that takes time after the network is here, so that a kernel can take the place of a function:
each says exactly what it returns. Rows are read, not changed. A row of GPT-2 takes 200 kB, so the
work stays in the processor's cache.

Infinities are ordinary here, as -inf bans a token, and so are NaNs of a broken model: callers turn
NumPy's warnings off with `silent`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gptcli import native

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Words = NDArray[np.uint64]

silent = np.errstate(all="ignore")  # as a decorator: each call and thread has its own state
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: SplitMix64's step
GROUPS = 1024  # of a row: the largest of each tell how large the k largest of the row are at least
SMALL = 4096  # elements; what takes more time for each, but fewer passes or exact sums
AS_BEFORE = 0  # threads of a kernel: as many as the last step had
ONE_THREAD_NUMBERS = 2**18  # logits that one thread sums up in a tenth of a millisecond
SLACK = 1 + 1e-5  # of a bound in float32, more than its rounding


def finite(row: Floats) -> bool:
    """Whether the row is free of NaN and infinities."""
    return math.isfinite(row.max()) and math.isfinite(row.min())


def kth_largest(row: Floats, count: int) -> np.float32:
    """The `count`-th largest value, 1 <= count <= V; -inf where NaN hides it."""
    few = row[at_least(row, _bound(row, count))]
    if len(few) < count:
        return np.float32(-np.inf)
    place = len(few) - count
    value: np.float32 = np.partition(few, place)[place]
    return value


def largest(row: Floats, count: int) -> Ids:
    """Ids of the `count` largest values (V at most), the largest first; of equal ones the lower."""
    count = min(count, len(row))
    if not count:
        return np.empty(0, np.int64)
    ids = at_least(row, kth_largest(row, count))
    return ids[np.argsort(-row[ids], kind="stable")[:count]]


def at_least(row: Floats, limit: np.float32) -> Ids:
    """Ids of the values that are not below `limit`, in order."""
    return np.flatnonzero(row >= limit)


def _bound(row: Floats, count: int) -> np.float32:
    """A number that at least `count` values are not below, and few more where `count` is small.

    The `count`-th largest of the maxima of groups; of a NaN, -inf.
    """
    if 4 * count > GROUPS or len(row) < 4 * GROUPS:
        bound: np.float32 = np.partition(row, len(row) - count)[len(row) - count]
    else:
        depth = len(row) // GROUPS
        maxima = row[: depth * GROUPS].reshape(depth, GROUPS).max(0)
        bound = np.partition(maxima, GROUPS - count)[GROUPS - count]
    return np.float32(-np.inf) if np.isnan(bound) else bound


def exp(row: Floats) -> Floats:
    """exp(row). A short row is rounded from float64, as the tests of exact borders need.

    torch, too, rounds nearly all exponentials to the nearest float32; NumPy in float32 only most.
    """
    if len(row) > SMALL:
        powers: Floats = np.exp(row)
        return powers
    return np.exp(row, dtype=np.float64).astype(np.float32)


def exponentials(row: Floats) -> tuple[Floats, np.float32]:
    """exp(row - max(row)), and the sum."""
    powers = exp(row - row.max())
    return powers, powers.sum()


def softmax(row: Floats) -> Floats:
    """exp(row) over its sum."""
    powers, total = exponentials(row)
    powers *= np.float32(1) / total
    return powers


def log_softmax(row: Floats) -> Floats:
    """The logarithm of softmax(row)."""
    _, total = exponentials(row)
    logs: Floats = row - row.max() - np.float32(math.log(max(float(total), 1.0)))  # rounded once
    return logs


def sum_in_lanes(row: Floats) -> np.float32:
    """The sum, added up in the order of torch on a CPU where the row is short.

    Eight lanes, each in four parts; then what is behind the last whole lane, and the lanes.
    """
    if len(row) > SMALL:
        return np.float32(row.sum())
    if 4 < len(row) < 8:  # one lane: the fifth and the following are added to the first
        row = np.concatenate([row[:1], row[4:], row[1:4]])
    whole = len(row) // 8
    lanes, end = row[: whole * 8].reshape(whole, 8), row[whole * 8 :]
    inner = whole // 4 * 4
    parts = lanes[:inner].reshape(-1, 4, 8).sum(0)
    order = np.concatenate([parts[:1], lanes[inner:], parts[1:]]).sum(0)
    return np.float32(np.cumsum(np.concatenate([end, order]), dtype=np.float32)[-1])


class LogSumExp(NamedTuple):
    """log sum exp(row) in two parts, so that large logits cost no digits."""

    highest: float  # the largest value
    more: float  # what is added to it, at least 0

    def logprob(self, logit: np.float32) -> float:
        """The natural log-probability of a token by its logit."""
        return float(logit) - self.highest - self.more


def log_sum_exps(rows: Floats) -> list[LogSumExp]:
    """log sum exp(row) of each row, (N, V); by the kernels, where they are, on several threads."""
    library = native.library()
    highest, sums = np.empty(len(rows), np.float32), np.empty(len(rows))
    if library is None or not rows.size:
        highest[:] = rows.max(-1, initial=-np.inf)
        for row, value, place in zip(rows, highest, range(len(rows)), strict=True):
            powers = row - value
            sums[place] = np.exp(powers, out=powers).sum()
    else:
        rows = np.ascontiguousarray(rows)
        threads = AS_BEFORE if rows.size > ONE_THREAD_NUMBERS else 1
        parts = (part.ctypes.data for part in (highest, sums))
        library.log_sum_exps(rows.ctypes.data, *rows.shape, *parts, threads)
    logs = np.log(np.maximum(sums, 1.0))
    return [LogSumExp(*both) for both in zip(highest.tolist(), logs.tolist(), strict=True)]


def entropy(row: Floats) -> float:
    """Of the distribution softmax(row), in nats; the row is finite."""
    logs = row - row.max()
    powers = np.exp(logs)
    total = float(powers.sum())
    np.multiply(powers, logs, out=powers)
    return math.log(total) - float(powers.sum()) / total


def race(key: int, ids: Ids | None, weights: Floats) -> int:
    """The place that arrives first: time -log1p(-u) / weight, where u = `uniform` of key and id.

    `ids` (K,) of the `weights` (K,), or None for all ids from 0 on. At least one weight is above 0;
    a place of weight 0 does not win. Of equal times, the first place.
    """
    words = hashed(key, _steps(len(weights)) if ids is None else _step(ids))
    if len(words) <= SMALL:
        return int(_times(words, weights).argmin())
    # time >= u / weight, so only places whose bound is below the time of some place can win. The
    # place of the least bound is near the winner: next to none is left.
    bounds = words.view(np.uint32)[_HIGH::2].astype(np.float32)
    bounds += np.float32(2.0**-21)  # u of the word 0, in units of 2**-32
    np.divide(bounds, weights, out=bounds)
    best = int(bounds.argmin())
    time = float(_times(words[best : best + 1], weights[best : best + 1])[0])
    few = np.flatnonzero(bounds <= np.float32(time * 2.0**32 * SLACK))
    return int(few[_times(words[few], weights[few]).argmin()]) if len(few) else best


_HIGH = 1 if np.little_endian else 0  # the upper half of a word


def hashed(key: int, steps: Words) -> Words:
    """The outputs of the SplitMix64 generator whose state is the key (Steele, Lea and Flood, OOPSLA
    2014) after the steps, see `_step`.
    """
    z = steps + np.uint64(key % 2**64)
    shifted = z >> np.uint64(30)
    z ^= shifted
    z *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(z, np.uint64(27), out=shifted)
    z ^= shifted
    z *= np.uint64(0x94D049BB133111EB)
    np.right_shift(z, np.uint64(31), out=shifted)
    z ^= shifted
    return z


def uniform(words: Words) -> NDArray[np.float64]:
    """A number in (0, 1) for each word, by its upper 52 bits."""
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _times(words: Words, weights: Floats) -> NDArray[np.float64]:
    # log1p keeps small values exact, and small values win the race.
    return -np.log1p(-uniform(words)) / weights


def _step(ids: Ids) -> Words:
    """How far id's output is from the key: id + 1 steps, modulo 2**64."""
    steps: Words = (ids + 1).view(np.uint64) * GOLDEN_GAMMA
    return steps


@lru_cache(maxsize=4)
def _steps(size: int) -> Words:
    """Those of all ids below `size`."""
    return _step(np.arange(size))
