"""Products of packed matrices: as exact as promised on every kind of processor.

Not here: check_kernels.c compares many more shapes, and all kinds of faulty numbers.
"""

from __future__ import annotations

import platform
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from support.native import DTYPES, one, packed, packer, product

from gptcli import native
from gptcli.engines.gpt2.on_cpu.memory import Floats
from gptcli.engines.gpt2.on_cpu.packing import PackedMatrix
from gptcli.native import Library
from gptcli.native.structures import BLOCK, GROUP


def matrix(out: int = 70, width: int = 48) -> tuple[Floats, Floats]:
    """A weight (out, in) and a bias (out,)."""
    made = np.random.default_rng(out)
    return made.standard_normal((out, width), np.float32), made.standard_normal(out, np.float32)


def inputs(rows: int, width: int = 48) -> Floats:
    """Activations as GPT-2's: one column is many times as large as the others."""
    x = np.random.default_rng(1).standard_normal((rows, width), np.float32)
    x[:, 3 % width] *= 100
    return x


def rounded(weight: Floats, dtype: str) -> Floats:
    """The numbers that a data type keeps of these, but int8."""
    if dtype == "F16":
        return weight.astype(np.float16).astype(np.float32)
    if dtype == "F32":
        return weight
    bits = weight.view(np.uint32)
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return kept.astype(np.uint32).view(np.float32)


def integers_of(found: PackedMatrix) -> Floats:
    """What int8 blocks stand for: in/4 x BLOCK x 4 integers, times the scale of an output."""
    out, width = found.shape
    whole = -(-width // GROUP) * GROUP
    blocks = found.blocks.reshape(-1, whole // 4, BLOCK, 4).transpose(0, 2, 1, 3)
    assert found.scale is not None
    return blocks.reshape(-1, whole)[:out, :width] * found.scale[:, None]


@pytest.mark.parametrize("rows", [1, 2, 7, 33, 300])
@pytest.mark.parametrize(("out", "width"), [(1, 2), (31, 48), (32, 770), (129, 3001)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_are_those_of_the_rounded_weights(
    library: Library, tmp_path: Path, dtype: str, out: int, width: int, rows: int
) -> None:
    weight, bias = matrix(out, width)
    x = inputs(rows, width)
    found = packed(library, tmp_path, weight, dtype, bias)
    kept = integers_of(found) if dtype == "I8" else rounded(weight, dtype)
    exact = x.astype(np.float64) @ kept.T.astype(np.float64) + bias
    bound = 2e-6 * (np.abs(x) @ np.abs(kept).T + np.abs(bias))
    if dtype == "I8":  # half a step of each group of activations, and of the weights
        assert found.scale is not None
        assert (np.abs(kept - weight) <= 0.5001 * found.scale[:, None]).all()
        padded = np.pad(np.abs(x), ((0, 0), (0, -width % GROUP))).reshape(rows, -1, GROUP)
        steps = np.repeat(padded.max(2) / 127, GROUP, 1)[:, :width]
        bound += 0.5001 * steps @ np.abs(kept).T
    assert (np.abs(product(library, found, x) - exact) <= bound).all()


@pytest.mark.parametrize("rows", [2, 5, 13, 300])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_the_same_to_the_bit_alone_and_in_a_batch(
    library: Library, tmp_path: Path, dtype: str, rows: int
) -> None:
    found = packed(library, tmp_path, *matrix(70, 770)[:1], dtype)
    x = inputs(rows, 770)
    alone = [product(library, found, x[row : row + 1], 1) for row in range(rows)]
    assert np.array_equal(product(library, found, x, 3), np.concatenate(alone))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_processor_gives_the_same(tmp_path: Path, dtype: str) -> None:
    """To the bit where multiply-adds are fused; the oldest x86-64 does not fuse them."""
    oldest = "baseline" if platform.machine() == "x86_64" else None
    fused = [kind for kind in native.kinds() if kind != oldest]
    weight, x = matrix(70, 3001)[0], inputs(9, 3001)
    found = {}
    for kind in native.kinds():
        library = native.opened(kind)
        assert library is not None
        found[kind] = product(library, packed(library, tmp_path, weight, dtype), x)
    assert all(np.array_equal(found[kind], found[fused[-1]]) for kind in fused)
    for values in found.values():
        np.testing.assert_allclose(values, found[native.kinds()[-1]], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_numbers_do_not_overflow(library: Library, tmp_path: Path, dtype: str) -> None:
    found = packed(library, tmp_path, np.full((40, 4096), 2, np.float32), dtype)
    y = product(library, found, np.full((3, 4096), -5, np.float32))
    np.testing.assert_allclose(y, np.full((3, 40), -40960, np.float32), rtol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_broken_row_stays_broken_and_spoils_no_other(
    library: Library, tmp_path: Path, dtype: str, poison: float
) -> None:
    found = packed(library, tmp_path, matrix()[0], dtype)
    sound, x = inputs(3), inputs(3)
    x[1, 5] = poison
    y = product(library, found, x)
    assert not np.isfinite(y[1]).any()
    assert np.array_equal(y[::2], product(library, found, sound)[::2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_zeros_gives_the_bias(library: Library, tmp_path: Path, dtype: str) -> None:
    weight, bias = matrix()
    found = packed(library, tmp_path, weight, dtype, bias)
    assert np.array_equal(product(library, found, np.zeros((2, 48), np.float32))[1], bias)
    tiniest = np.full((1, 48), 1e-45, np.float32)
    np.testing.assert_allclose(product(library, found, tiniest)[0], bias)


@pytest.mark.parametrize("largest", [1e5, 1e-4, np.nan, np.inf])
def test_a_matrix_that_half_floats_cannot_hold_stays_in_float32(
    library: Library, tmp_path: Path, largest: float
) -> None:
    weight = matrix()[0].clip(-abs(largest), abs(largest))
    weight[0, 0] = largest
    found = packed(library, tmp_path, weight, "F16")
    assert found.kind == "F32"
    assert packed(library, tmp_path, np.zeros_like(weight), "F16").kind == "F16"
    y = product(library, found, inputs(2))
    exact = inputs(2).astype(np.float64) @ weight.T.astype(np.float64)
    np.testing.assert_allclose(y[:, 1:], exact[:, 1:], rtol=1e-4, atol=1e-4 * min(largest, 1))
    assert np.isfinite(y[:, 0]).all() == np.isfinite(largest)


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 64])
def test_the_number_of_threads_does_not_show(
    library: Library, tmp_path: Path, threads: int
) -> None:
    weight, x = matrix(300, 770)[0], inputs(9, 770)
    for dtype in DTYPES:
        expected = product(library, packed(library, tmp_path, weight, dtype), x, 1)
        many = one(packer(library, tmp_path, threads, w=weight), "w", dtype)
        assert np.array_equal(product(library, many, x, threads), expected)


def test_callers_may_come_at_the_same_time(library: Library, tmp_path: Path) -> None:
    found = [packed(library, tmp_path, *matrix(300, 300)[:1], dtype) for dtype in DTYPES]
    x = inputs(20, 300)
    expected = [product(library, one, x, 1) for one in found]
    equal: list[bool] = []

    def work(place: int) -> None:
        for number in range(50):
            y = product(library, found[place], x, 1 + number % 4)
            equal.append(np.array_equal(y, expected[place]))

    threads = [Thread(target=work, args=(place,)) for place in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(equal) == 200
    assert all(equal)
