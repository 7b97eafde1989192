"""Intervals and tests give the numbers of scipy, statsmodels and the papers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gptcli.audit.statistics import (
    Estimate,
    holm,
    mcnemar,
    mean,
    paired_shares,
    resampled_means,
    share,
    sign_flips,
)

SEVEN = [0.3, -0.2, 0.9, 1.4, -0.1, 0.7, 0.25]
SIXTY = [
    *(0.326, 0.068, 0.84, 0.305, -0.336, 0.562, 1.504, 1.147, -0.504, -1.065, -0.423, 0.241),
    *(-2.125, -0.019, -1.046, -0.532, -0.344, -0.116, 0.612, 1.243, 0.071, 1.566, -0.465, 0.552),
    *(1.103, 0.294, -0.543, -0.722, -0.258, 0.42, -0.81, -0.009, 0.041, 0.741, 0.415, 0.555),
    *(-0.454, 0.07, 0.984, 1.693, -1.059, 1.714, 1.546, 0.981, 0.464, -0.114, 1.658, 2.16),
    *(2.002, 1.515, 0.557, -1.008, 0.196, 0.856, -1.088, 0.595, 0.63, 0.896, -0.984, -0.462),
]


@pytest.mark.parametrize(
    ("part", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.27753279986288926),
        (3, 10, 0.10779126740630102, 0.6032218525388546),
        (45, 120, 0.293524297864468, 0.46423049374020786),
        (120, 120, 0.9689808335812965, 1.0),
        (724, 1508, 0.4549728174854043, 0.5053404814720124),
    ],
)
def test_a_share_has_the_interval_of_scipys_proportion_ci(
    part: int, count: int, low: float, high: float
) -> None:
    found = share(part, count)
    assert (found.value, found.low, found.high) == pytest.approx((part / count, low, high))


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (12, 2, 0.012939453125),
        (1, 9, 0.021484375),
        (30, 18, 0.11140289106101878),
        (0, 5, 0.0625),
        (200, 150, 0.008720036530555947),
        (5, 5, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemars_p_is_that_of_scipys_binomtest(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == mcnemar(second, first) == pytest.approx(p)


def test_paired_shares_have_newcombes_interval() -> None:
    # Newcombe 1998, method 10, for the table 36, 12, 2, 0: 0.0569 to 0.3404.
    found = paired_shares(36, 2, 12, 0)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    other = paired_shares(36, 12, 2, 0)
    assert (other.value, other.low, other.high) == pytest.approx((-0.2, -0.3404, -0.0569), abs=5e-5)


def test_shares_that_are_the_same_pair_by_pair_still_have_an_interval() -> None:
    found = paired_shares(54, 0, 0, 0)
    assert found.value == 0
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.05 < 0.05 < found.high


def test_flipped_signs_give_the_p_of_scipys_permutation_test() -> None:
    assert sign_flips(SEVEN, "any") == pytest.approx(0.09375)  # exact
    assert sign_flips(SIXTY, "any") == pytest.approx(0.02225, abs=0.004)  # of 200,000 flips
    assert sign_flips([0.0] * 20, "any") == 1.0


def test_the_bootstraps_interval_is_that_of_scipy() -> None:
    found = mean(SIXTY, "any")  # scipy's, of 200,000 resamples: 0.0504 to 0.5044
    assert (found.value, found.low, found.high) == pytest.approx(
        (0.277283, 0.0504, 0.5044), abs=0.012
    )


def test_the_same_seed_gives_the_same_numbers_and_another_one_others() -> None:
    assert mean(SIXTY, "0:a") == mean(SIXTY, "0:a")
    assert mean(SIXTY, "0:a") != mean(SIXTY, "1:a")
    assert sign_flips(SIXTY, "0:a") == sign_flips(SIXTY, "0:a")


def test_a_seed_draws_the_same_rows_whatever_the_machine() -> None:
    first, second = resampled_means([[0.0, 1.0, 2.0], [0.0, 10.0, 20.0]], "0:a")
    assert [round(float(value), 6) for value in first[:4]] == FIRST_MEANS
    assert list(second[:4]) == pytest.approx([10 * value for value in first[:4]])


FIRST_MEANS = [1.333333, 1.0, 1.333333, 1.0]


def test_one_value_has_no_interval() -> None:
    assert mean([2.5], "any") == Estimate(2.5, None, None)


@pytest.mark.parametrize(
    ("chances", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005, 0.2], [0.04, 0.09, 0.09, 0.025, 0.2]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holms_correction_is_that_of_statsmodels(
    chances: Sequence[float], adjusted: Sequence[float]
) -> None:
    assert holm(chances) == pytest.approx(adjusted)
