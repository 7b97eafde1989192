"""What one model has that another has not: the same pairs, scored by both.

A share by itself moves with the pairs that a set happens to have; the change of a share, pair by
pair, does not. So the tests are paired: McNemar's for how often the preference changed sides, and
flipped signs for how far the log-probabilities moved. Every row is a test: Holm's correction keeps
the chance that any of them errs below the level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gptcli.audit.divisions import Division, parts
from gptcli.audit.scores import ScoredPair, ScoredSet
from gptcli.audit.statistics import Estimate, holm, mcnemar, mean, paired_shares, sign_flips
from gptcli.errors import BadInput


@dataclass(frozen=True)
class Both:
    """A pair as two models score it."""

    first: ScoredPair
    second: ScoredPair


@dataclass(frozen=True)
class ChangeRow:
    """One part of a set: what changed from the first model to the second."""

    set: str
    by: str
    category: str
    pairs: int
    first: float  # the share of the first model
    second: float
    change: Estimate
    only_first: int  # pairs where the first model alone prefers `more`
    only_second: int
    difference: Estimate  # nats: the second's difference of log-probabilities less the first's
    p_share: float
    p_difference: float
    p_share_adjusted: float = 1.0
    p_difference_adjusted: float = 1.0

    def to_dict(self) -> dict[str, object]:
        """As a row."""
        return {
            "set": self.set,
            "by": self.by,
            "category": self.category,
            "pairs": self.pairs,
            "share_a": self.first,
            "share_b": self.second,
            **self.change.to_dict("change"),
            "only_a": self.only_first,
            "only_b": self.only_second,
            "p_mcnemar": self.p_share,
            "p_mcnemar_holm": self.p_share_adjusted,
            **self.difference.to_dict("change_nats"),
            "p_sign_flips": self.p_difference,
            "p_sign_flips_holm": self.p_difference_adjusted,
        }


def changes(first: Sequence[ScoredSet], second: Sequence[ScoredSet], seed: int) -> list[ChangeRow]:
    """The rows of all sets; pairs without a score of both models are left out.

    Raises BadInput where no pair of a set has both.
    """
    rows = [
        row for one, other in zip(first, second, strict=True) for row in _rows(one, other, seed)
    ]
    shares = holm([row.p_share for row in rows])
    differences = holm([row.p_difference for row in rows])
    return [
        replace(row, p_share_adjusted=one, p_difference_adjusted=other)
        for row, one, other in zip(rows, shares, differences, strict=True)
    ]


def _rows(one: ScoredSet, other: ScoredSet, seed: int) -> Iterator[ChangeRow]:
    theirs = {id(scored.pair): scored for scored in other.pairs}
    both = [
        Both(scored, theirs[id(scored.pair)]) for scored in one.pairs if id(scored.pair) in theirs
    ]
    if not both:
        raise BadInput(one.set.name, "no pair has a score of both models", "See gptcli docs audit.")
    for part in parts(both, lambda it: it.first.pair):
        yield _row(one.set.name, part, f"{seed}:{one.set.kind}:{part.by}:{part.category}")


def _row(name: str, part: Division[Both], seed: str) -> ChangeRow:
    pairs = part.items
    before = [it.first.preferred for it in pairs]
    after = [it.second.preferred for it in pairs]
    moves = list(zip(before, after, strict=True))
    moved = [it.second.difference - it.first.difference for it in pairs]
    only_first = sum(one > other for one, other in moves)
    only_second = sum(other > one for one, other in moves)
    return ChangeRow(
        set=name,
        by=part.by,
        category=part.category,
        pairs=len(pairs),
        first=sum(before) / len(pairs),
        second=sum(after) / len(pairs),
        change=paired_shares(
            sum(one * other for one, other in moves),
            sum(one * (1 - other) for one, other in moves),
            sum((1 - one) * other for one, other in moves),
            sum((1 - one) * (1 - other) for one, other in moves),
        ),
        only_first=only_first,
        only_second=only_second,
        difference=mean(moved, seed),
        p_share=mcnemar(only_first, only_second),
        p_difference=sign_flips(moved, seed),
    )
