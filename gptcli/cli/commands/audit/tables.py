"""Reports of `gptcli audit` as text: a table for each set, and what was measured below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gptcli.audit.bias import BiasRow
from gptcli.audit.comparison import ChangeRow
from gptcli.audit.divisions import ALL
from gptcli.audit.sets.pairs import PairSet
from gptcli.audit.statistics import Estimate
from gptcli.audit.toxicity import ToxicityRow
from gptcli.cli.output.table import table

DIGITS = 12  # of a digest
_NUMBERS = set(range(1, 20))  # columns on the right
_LEVEL = 0.05


def bias_text(sets: Sequence[PairSet], rows: Sequence[BiasRow], record: Mapping[str, Any]) -> str:
    """The report of bias."""
    blocks = []
    for one in sets:
        mine = [row for row in rows if row.set == one.name]
        blocks.append(_heading(one) + table([BIAS, *map(_bias, mine)], _NUMBERS))
        if any(row.scores for row in mine):
            scores = [_scores(row) for row in mine if row.scores]
            blocks.append(table([SCORES, *scores], _NUMBERS))
    count = sum(2 if row.scores is None else 5 for row in rows)
    return "\n".join([*blocks, "".join(f"{line}\n" for line in (_chance(count), *_made(record)))])


def compare_text(
    sets: Sequence[PairSet], rows: Sequence[ChangeRow], record: Mapping[str, Any]
) -> str:
    """The report of a comparison."""
    blocks = []
    for one in sets:
        mine = [_change(row) for row in rows if row.set == one.name]
        blocks.append(_heading(one) + table([CHANGE, *mine], _NUMBERS))
    adjusted = [(row.p_share_adjusted, row.p_difference_adjusted) for row in rows]
    shares, means = (sum(p < _LEVEL for p in column) for column in zip(*adjusted, strict=True))
    told = (
        f"p is adjusted for {len(rows)} comparisons (Holm). Below 0.05: {shares} of the shares"
        f" (McNemar), {means} of the differences (sign flips)."
    )
    return "\n".join([*blocks, "".join(f"{line}\n" for line in (told, *_made(record)))])


def toxicity_text(rows: Sequence[ToxicityRow], record: Mapping[str, Any]) -> str:
    """The report of toxicity."""
    prompts, judge, n = record["prompts"], record["judge"], record["n"]
    told = [
        f"{prompts['name']}: {prompts['measured']} prompts, {n} texts each;"
        f" sha256 {prompts['sha256'][:DIGITS]}",
        *_judged_by(judge),
        "",
    ]
    lines = [
        "",
        "maximum: the mean over prompts of the greatest score; of a list it is the probability",
        f"probability: that one of {n} texts has a match; rate: that one text has",
        *_made(record),
    ]
    shown = table([TOXICITY, *map(_toxicity, rows)], _NUMBERS)
    return "".join(f"{line}\n" for line in told) + shown + "".join(f"{line}\n" for line in lines)


BIAS = (
    *("", "pairs", "share", "95 % interval", "nats", "95 % interval"),
    *("lengths differ", "per token"),
)
SCORES = (
    *("", "LM score", "95 % interval", "stereotype score", "95 % interval"),
    *("ICAT", "95 % interval"),
)
CHANGE = (
    *("", "pairs", "share A", "share B", "change", "95 % interval", "p"),
    *("nats", "95 % interval", "p"),
)
TOXICITY = (
    *("", "prompts", "maximum", "95 % interval", "probability", "95 % interval"),
    *("rate", "95 % interval", "prompts that match"),
)


def label(by: str, category: str) -> str:
    """What a row is called."""
    return category if by in (ALL, "category") else f"{by}: {category}"


def percent(value: float) -> str:
    """A share: 51.2%."""
    return f"{value:.1%}"


def points(value: float) -> str:
    """A change of a share: +1.2%."""
    return f"{value:+.1%}"


def interval(one: Estimate, how: str) -> str:
    """The ends of an interval; - where there is none."""
    if one.low is None or one.high is None:
        return "-"
    return f"{one.low:{how}} to {one.high:{how}}"


def _heading(one: PairSet) -> str:
    digests = ", ".join(found[:DIGITS] for found in one.sha256.values())
    lines = [
        f"{one.name}: {one.about.title}; sha256 {digests}",
        f"share: of pairs where {one.about.share}; one half is no preference",
        f"limits: {one.about.limits}",
    ]
    return "".join(f"{line}\n" for line in lines) + "\n"


def _bias(row: BiasRow) -> tuple[str, ...]:
    return (
        label(row.by, row.category),
        str(row.pairs),
        percent(row.share.value),
        interval(row.share, ".1%"),
        f"{row.difference.value:+.3f}",
        interval(row.difference, "+.3f"),
        str(row.lengths_differ),
        percent(row.share_per_token.value),
    )


def _scores(row: BiasRow) -> tuple[str, ...]:
    assert row.scores is not None
    three = (row.scores.language_model, row.scores.stereotype, row.scores.icat)
    cells = [cell for one in three for cell in (f"{one.value:.2f}", interval(one, ".2f"))]
    return (label(row.by, row.category), *cells)


def _change(row: ChangeRow) -> tuple[str, ...]:
    return (
        label(row.by, row.category),
        str(row.pairs),
        percent(row.first),
        percent(row.second),
        points(row.change.value),
        interval(row.change, "+.1%"),
        f"{row.p_share_adjusted:.4f}",
        f"{row.difference.value:+.3f}",
        interval(row.difference, "+.3f"),
        f"{row.p_difference_adjusted:.4f}",
    )


def _toxicity(row: ToxicityRow) -> tuple[str, ...]:
    return (
        label(row.by, row.category),
        str(row.prompts),
        f"{row.expected_maximum.value:.4f}",
        interval(row.expected_maximum, ".4f"),
        percent(row.probability.value),
        interval(row.probability, ".1%"),
        f"{row.rate.value:.2%}",
        interval(row.rate, ".2%"),
        str(row.prompts_matching),
    )


def _judged_by(judge: Mapping[str, Any]) -> Iterator[str]:
    """What was looked for."""
    for name, one in judge.get("lists", {}).items():
        yield f"list {name}; sha256 {one[:DIGITS]}"
    if "moderator" in judge:
        one = judge["moderator"]
        labels = ", ".join(f"{label} from {least:g}" for label, least in judge["labels"].items())
        yield f"moderator {one['model']}: {labels}; sha256 {one['sha256'][:DIGITS]}"


def _chance(count: int) -> str:
    return f"{count} intervals of 95 %: about one in twenty misses the true value by chance"


def _made(record: Mapping[str, Any]) -> Iterator[str]:
    """What the numbers were made from."""
    for role in ("model", "model_a", "model_b"):
        if role in record:
            one = record[role]
            name = role.replace("_", " ").replace(" a", " A").replace(" b", " B")
            digest = f"; sha256 {one['sha256'][:DIGITS]}" if one["sha256"] else ""
            yield f"{name}: {one['name']}, {one['dtype']} on {one['device']}{digest}"
    yield f"seed {record['seed']}, gptcli {record['versions']['gptcli']}"
