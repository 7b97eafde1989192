"""Operations on rows of logits, against their definitions; and that they need no torch."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gptcli.engines.decoding import vocabulary_ops as ops
from gptcli.engines.decoding.sampler import SamplerState, TokenRules, sample
from gptcli.options import Sampling

SIZES = (1, 7, 1000, ops.SMALL, ops.SMALL + 1, 50257)


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


def random_row(size: int, seed: int = 0, spread: float = 3.0) -> ops.Floats:
    values = np.random.default_rng(seed).standard_normal(size) * spread
    return values.astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 5, 50, 300, 5000, 50257])
@pytest.mark.parametrize("steps", [None, 3, 40])
def test_the_largest_values_are_those_of_a_stable_sort(
    size: int, count: int, steps: int | None
) -> None:
    row = random_row(size) if steps is None else np.round(random_row(size) * steps) / steps
    row[::3] = -np.inf  # banned
    order = np.argsort(-row, kind="stable")
    assert ops.largest(row, count).tolist() == order[:count].tolist()
    assert ops.kth_largest(row, min(count, size)) == row[order[min(count, size) - 1]]


def test_none_are_the_largest_none() -> None:
    assert ops.largest(random_row(50), 0).tolist() == []


@pytest.mark.parametrize("place", [0, 777, 50256])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_found_anywhere(place: int, bad: float) -> None:
    row = random_row(50257)
    assert ops.finite(row)
    row[place] = bad
    assert not ops.finite(row)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0, 30.0])
def test_the_race_over_a_vocabulary_is_won_by_the_least_time(size: int, spread: float) -> None:
    weights = np.exp(random_row(size, spread=spread) - np.float32(80))
    weights[1::2] = 0 if size < 1000 else weights[1::2]
    steps = ops._step(np.arange(size))
    for key in range(-20, 20):
        times = ops._times(ops.hashed(key, steps), weights)
        assert ops.race(key, None, weights) == times.argmin()
        assert ops.race(key, np.arange(size), weights) == times.argmin()


def test_log_sums_and_entropies_are_those_of_float64() -> None:
    rows = np.stack([random_row(50257, seed) * 10**seed - 90 * seed for seed in range(3)])
    for row, whole in zip(rows, ops.log_sum_exps(rows), strict=True):
        exact = row.astype(np.float64)
        total = np.logaddexp.reduce(exact)
        assert whole.highest + whole.more == pytest.approx(total, abs=1e-5)
        assert whole.logprob(row[5]) == pytest.approx(exact[5] - total, abs=1e-5)
        expected = -np.sum(np.exp(exact - total) * (exact - total))
        assert ops.entropy(row) == pytest.approx(expected, abs=1e-4)


def test_rows_are_only_read() -> None:
    row = random_row(50257)
    row.flags.writeable = False
    for read in (ops.finite, ops.entropy, ops.exponentials, ops.softmax, ops.log_softmax):
        read(row)
    ops.largest(row, 5)
    ops.log_sum_exps(row[None])
    ops.race(3, None, np.abs(row))


def test_threads_draw_what_one_thread_draws() -> None:
    settings = [
        Sampling(top_k=0, top_p=1.0),
        Sampling(),
        Sampling(top_k=0, top_p=0.9),
        Sampling(top_k=0, top_p=1.0, min_p=0.05, repetition_penalty=1.2),
        Sampling(temperature=0),
    ]

    def drawn(n: int) -> list[int]:
        state = SamplerState(settings[n % len(settings)], n, 0, [1, 2], TokenRules())
        tokens = []
        for step in range(5):
            row = random_row(50257, step)
            row[n] = -np.inf
            tokens += sample(row[None], [state])
            state.accept(tokens[-1])
        return tokens

    alone = [drawn(n) for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(drawn, range(20))) == alone


def test_what_follows_the_network_needs_no_torch() -> None:
    code = (
        "import pkgutil, sys, importlib, gptcli.engines.decoding as room\n"
        "for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
