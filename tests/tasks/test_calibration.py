"""The arithmetic of classification, against examples worked by hand."""

from __future__ import annotations

from math import inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptcli.errors import UsageError
from gptcli.tasks.calibration import contextual, pmi, probabilities
from gptcli.tasks.definition.labels import check_labels

LOGPROBS = st.lists(st.floats(-1e4, 0) | st.just(-inf), min_size=3, max_size=3)


def logs(*values: float) -> list[float]:
    return [log(value) for value in values]


def test_probabilities_are_shares_of_what_the_labels_have() -> None:
    assert probabilities(logs(0.03, 0.01)) == pytest.approx([0.75, 0.25])


def test_probabilities_are_exact_where_a_float_would_be_zero() -> None:
    assert probabilities([-9999.0, -9999.0 + log(3)]) == pytest.approx([0.25, 0.75])


def test_an_impossible_label_has_no_probability() -> None:
    assert probabilities([-inf, -2.0, -2.0]) == pytest.approx([0, 0.5, 0.5])


def test_where_all_is_impossible_all_is_alike() -> None:
    assert probabilities([-inf, -inf]) == pytest.approx([0.5, 0.5])


def test_contextual_calibration_divides_by_the_answer_to_nothing() -> None:
    # p_cf = (.8, .2). p = (.8, .2) adds nothing; p = (.6, .4) gives (.75, 2), summing to 2.75.
    assert contextual(logs(0.4, 0.1), [logs(0.08, 0.02)]) == pytest.approx([0.5, 0.5])
    assert contextual(logs(0.3, 0.2), [logs(0.08, 0.02)]) == pytest.approx([3 / 11, 8 / 11])


def test_contextual_calibration_takes_the_mean_of_normalised_probabilities() -> None:
    # (.9, .1) and (.5, .5): the mean is (.7, .3), however likely the labels are as a whole.
    rows = [logs(0.9, 0.1), logs(0.0005, 0.0005)]
    assert contextual(logs(0.7, 0.3), rows) == pytest.approx([0.5, 0.5])


def test_without_content_free_inputs_nothing_is_corrected() -> None:
    assert contextual(logs(0.3, 0.1), []) == pytest.approx([0.75, 0.25])


def test_pmi_divides_by_the_probability_in_the_domain() -> None:
    # .02 / .04 = 1/2 and .01 / .005 = 2: a fifth and four fifths.
    assert pmi(logs(0.02, 0.01), logs(0.04, 0.005)) == pytest.approx([0.2, 0.8])


def test_pmi_takes_a_label_that_only_the_input_makes_possible() -> None:
    assert pmi([-5.0, -1.0, -inf], [-inf, -1.0, -inf]) == [1, 0, 0]


@pytest.mark.parametrize(
    "function", [lambda p, q: contextual(p, [q]), lambda p, q: contextual(p, [q, q]), pmi]
)
@given(LOGPROBS, LOGPROBS)
def test_the_result_is_always_a_distribution(function, logprobs, other) -> None:  # type: ignore[no-untyped-def]
    result = function(logprobs, other)
    assert all(0 <= value <= 1 for value in result)
    assert sum(result) == pytest.approx(1)


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        contextual([-1.0, -2.0], [[-1.0, -2.0, -3.0]])


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([], "nothing to choose"),
        (["one"], "nothing to choose"),
        (["yes", "no", "yes"], "twice"),
        (["yes", " YES "], "twice"),
        (["yes", ""], "empty"),
        (["yes", " "], "empty"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_labels(labels)


def test_good_labels_are_accepted() -> None:
    check_labels(["yes", "no", "yes and no"])
