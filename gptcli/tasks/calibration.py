"""Calibration of a classification: from the labels' log-probabilities to probabilities.

The favourite label of a small model says more about the prompt than about the input. Two
corrections remove what the model says without an input. Everything is computed with logarithms,
which stay exact where probabilities underflow. The log-probabilities are those of a ChoiceLogprobs:
natural, one a label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def probabilities(logprobs: Sequence[float]) -> list[float]:
    """The labels' probabilities, given that it is one of them: they sum to 1 (a softmax).

    Minus infinity is allowed. If all are minus infinity, all labels are equally likely.
    """
    return [math.exp(value) for value in _normalised(logprobs)]


def contextual(logprobs: Sequence[float], content_free: Sequence[Sequence[float]]) -> list[float]:
    """Contextual calibration: divide by the probabilities for inputs without content.

    Zhao et al. 2021 (arXiv:2102.09690), section 5, with W = diag(p_cf)^-1 and b = 0. p are the
    probabilities over the labels, p_cf their mean over the rows of `content_free` (one row of
    log-probabilities an input, in the labels' order; without rows nothing is corrected). The result
    sums to 1.
    """
    if not content_free:
        return probabilities(logprobs)
    rows = [_normalised(row) for row in content_free]
    means = [
        _log_sum(column) for column in zip(*rows, strict=True)
    ]  # times len(rows), which cancels
    return probabilities(_differences(_normalised(logprobs), means))


def pmi(logprobs: Sequence[float], domain: Sequence[float]) -> list[float]:
    """Domain conditional pointwise mutual information, as probabilities over the labels.

    Holtzman et al. 2021 (arXiv:2104.08315), section 3: log P(y|x, domain) - log P(y|domain). The
    order is the paper's. The softmax that follows, so that the values sum to 1, is for display.
    """
    return probabilities(_differences(logprobs, domain))


def _differences(upper: Sequence[float], lower: Sequence[float]) -> list[float]:
    """Element by element; minus infinity stays minus infinity, even less minus infinity."""
    return [
        a if a == -math.inf else a - b for a, b in zip(upper, lower, strict=True)
    ]  # a - -inf = inf: this label gets all, the limit of the quotient


def _normalised(logprobs: Sequence[float]) -> list[float]:
    """Log-probabilities that sum, as probabilities, to 1."""
    most = max(logprobs)
    if math.isinf(most):  # certain labels share it; so do all if all are impossible
        certain = [value == most for value in logprobs]
        return [-math.log(sum(certain)) if alike else -math.inf for alike in certain]
    total = _log_sum(logprobs)
    return [value - total for value in logprobs]


def _log_sum(logprobs: Sequence[float]) -> float:
    """The logarithm of the sum of the probabilities."""
    most = max(logprobs)
    if math.isinf(most):
        return most
    return most + math.log(math.fsum(math.exp(value - most) for value in logprobs))
