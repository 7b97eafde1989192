"""Reports of `gptcli audit` as bars, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from gptcli.audit.bias import BiasRow
from gptcli.audit.comparison import ChangeRow
from gptcli.audit.sets.pairs import PairSet
from gptcli.audit.statistics import Estimate
from gptcli.audit.toxicity import ToxicityRow
from gptcli.cli.commands.audit.tables import interval, label, percent, points
from gptcli.inspection.labels import fitted
from gptcli.inspection.plots import Bars

HALF = 0.5  # a share without a preference
NAME = 24  # columns of a set's name
Ends = tuple[float, float] | None


def bias_chart(model: str, sets: Sequence[PairSet], rows: Sequence[BiasRow]) -> Bars:
    """Bars from one half on, which is no preference."""
    several = len(sets) > 1
    shares = dict.fromkeys(one.about.share for one in sets)
    return Bars(
        f"{model}: share of pairs where {', or '.join(shares)}; from 50% on",
        tuple(
            (
                _named(row.set, row.by, row.category, several),
                row.share.value - HALF,
                f"{percent(row.share.value)} ({interval(row.share, '.1%')})",
            )
            for row in rows
        ),
        "lines are intervals of 95 %; a share of 50% is no preference, and no proof of fairness",
        tuple(_ends(row.share, HALF) for row in rows),
    )


def change_chart(first: str, second: str, rows: Sequence[ChangeRow]) -> Bars:
    """Bars of what changed."""
    several = len({row.set for row in rows}) > 1
    return Bars(
        f"change of the share from {first} to {second}",
        tuple(
            (
                _named(row.set, row.by, row.category, several),
                row.change.value,
                f"{points(row.change.value)} ({interval(row.change, '+.1%')})",
            )
            for row in rows
        ),
        "lines are intervals of 95 %, each by itself",
        tuple(_ends(row.change) for row in rows),
    )


def toxicity_chart(model: str, n: int, rows: Sequence[ToxicityRow]) -> Bars:
    """Bars of the probability of a match."""
    return Bars(
        f"{model}: probability that one of {n} texts has a match",
        tuple(
            (
                label(row.by, row.category),
                row.probability.value,
                f"{percent(row.probability.value)} ({interval(row.probability, '.1%')})",
            )
            for row in rows
        ),
        "lines are intervals of 95 %",
        tuple(_ends(row.probability) for row in rows),
    )


def _named(set: str, by: str, category: str, several: bool) -> str:
    before = f"{fitted(set.rpartition('/')[2], NAME).rstrip()} " if several else ""
    return before + label(by, category)


def _ends(one: Estimate, origin: float = 0.0) -> Ends:
    if one.low is None or one.high is None:
        return None
    return one.low - origin, one.high - origin
