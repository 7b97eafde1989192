"""Minimal pairs: of two sentences that differ in one point, does the model prefer the good one?

As in BLiMP (Warstadt et al. 2020, arXiv 1912.00582): a pair is correct where the good sentence has
the higher log-probability as a whole; lengths are not normalised. A tie, which float32 cannot tell
apart, counts half. The accuracy has Wilson's interval (Wilson 1927), which stays inside 0 and 1
for few pairs and for accuracies near either end.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gptcli.errors import GptcliError
from gptcli.protocol import Engine
from gptcli.scoring.options import Scoring
from gptcli.scoring.scorer import TextToScore, score
from gptcli.scoring.scores import BITS_PER_NAT, JsonRow, TextScore, bits

TIE_NATS = 1e-4  # how exact a score is
Z_95 = 1.959963984540054  # standard deviations of the normal distribution, for 95 %


@dataclass(frozen=True)
class Pair:
    """Two sentences, or the error of their row."""

    id: str
    good: str = ""
    bad: str = ""
    error: GptcliError | None = None
    carried: Mapping[str, object] = field(default_factory=dict)  # other columns of its row


@dataclass(frozen=True)
class PairScore:
    """A pair with the log-probability (nats) of each sentence as a whole."""

    id: str
    good: str
    bad: str
    logprob_good: float | None = None
    logprob_bad: float | None = None
    error: GptcliError | None = None
    carried: Mapping[str, object] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()  # parts of both that the vocabulary lacks

    @property
    def difference_bits(self) -> float | None:
        """The surprisal of the bad sentence minus that of the good one: above 0 is correct."""
        if self.logprob_good is None or self.logprob_bad is None:
            return None
        return (self.logprob_good - self.logprob_bad) * BITS_PER_NAT

    @property
    def correct(self) -> float | None:
        """1 where the good one is likelier, 0.5 for a tie, else 0."""
        if self.difference_bits is None:
            return None
        if abs(self.difference_bits) < TIE_NATS * BITS_PER_NAT:
            return 0.5
        return float(self.difference_bits > 0)

    def to_dict(self) -> JsonRow:
        """As a row."""
        return {
            "id": self.id,
            "good": self.good,
            "bad": self.bad,
            "logprob_good": self.logprob_good,
            "logprob_bad": self.logprob_bad,
            "surprisal_good_bits": bits(self.logprob_good),
            "surprisal_bad_bits": bits(self.logprob_bad),
            "difference_bits": self.difference_bits,
            "correct": self.correct,
            "error": self.error.to_dict() if self.error else None,
        }


@dataclass
class Accuracy:
    """How many pairs are correct so far; a tie counts half, a pair with an error not at all."""

    pairs: int = 0
    correct: float = 0.0
    ties: int = 0

    def add(self, pair: PairScore) -> None:
        """Count a pair."""
        if pair.correct is not None:
            self.pairs += 1
            self.correct += pair.correct
            self.ties += pair.correct == 0.5

    @property
    def share(self) -> float | None:
        """The correct share, from 0 to 1; None where there is no pair."""
        return self.correct / self.pairs if self.pairs else None

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval, for one pair or more."""
        return wilson(self.correct, self.pairs)

    def to_dict(self) -> JsonRow:
        """The share with its interval; null where there is no pair."""
        low, high = self.interval if self.pairs else (None, None)
        return {
            "accuracy": self.share,
            "low": low,
            "high": high,
            "pairs": self.pairs,
            "correct": self.correct,
            "ties": self.ties,
        }


def wilson(correct: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval for `correct` of `count` (1 or more): (p + z2/2n -+ e) / (1 + z2/n).

    p = correct / n, z2 = 1.96^2, e = z sqrt(p (1 - p) / n + z2 / 4n^2).
    """
    share, square = correct / count, Z_95**2
    middle = share + square / (2 * count)
    error = Z_95 * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    whole = 1 + square / count
    return max(0.0, (middle - error) / whole), min(1.0, (middle + error) / whole)


def score_pairs(
    engine: Engine, pairs: Iterable[Pair], scoring: Scoring, batch_size: int = 1
) -> Iterator[PairScore]:
    """A PairScore for each pair, in order. Raises at once as `gptcli.scoring.scorer.score`."""
    waiting: deque[Pair] = deque()

    def texts() -> Iterator[TextToScore]:
        for pair in pairs:
            waiting.append(pair)
            yield from texts_of(pair)

    return paired(waiting, score(engine, texts(), scoring, batch_size=batch_size))


def texts_of(pair: Pair) -> tuple[TextToScore, TextToScore]:
    """The texts of a pair, the good one first."""
    return (
        TextToScore(pair.id, pair.good, pair.error),
        TextToScore(pair.id, pair.bad, pair.error),
    )


def paired(waiting: deque[Pair], scores: Iterator[TextScore]) -> Iterator[PairScore]:
    """The scores of the `waiting` pairs, from those of their texts."""
    for good in scores:
        bad, pair = next(scores), waiting.popleft()
        error = good.error or bad.error
        sums = (None, None) if error else (good.logprob, bad.logprob)
        unknown = (*good.unknown, *bad.unknown)
        yield PairScore(pair.id, pair.good, pair.bad, *sums, error, pair.carried, unknown)
