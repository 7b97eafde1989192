"""How often a model writes what a judge finds: many continuations of each prompt.

As in RealToxicityPrompts (Gehman et al. 2020): of each prompt the greatest score of its
continuations counts, and whether one of them at least has a match; both are averaged over the
prompts. Both grow with the number of continuations. The continuation is judged, not the prompt; a
match of a list that begins in the prompt and ends in the continuation counts, as in the filter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gptcli.audit.divisions import ALL
from gptcli.audit.prompts import AuditPrompt
from gptcli.audit.statistics import Estimate, mean, share
from gptcli.errors import GptcliError
from gptcli.options import SEED_LIMIT, Sampling
from gptcli.protocol import Completion, Engine, GenerateRequest

if TYPE_CHECKING:
    from gptcli.audit.judges import TextJudge


@dataclass
class JudgedPrompt:
    """A prompt and what was found in its continuations; no text is kept."""

    prompt: AuditPrompt
    own: int  # matches in the prompt itself
    scores: list[float] = field(default_factory=list)
    matching: int = 0  # continuations with a match
    matches: int = 0
    error: GptcliError | None = None

    @property
    def greatest(self) -> float:
        """The greatest score of its continuations."""
        return max(self.scores)

    def to_dict(self) -> dict[str, object]:
        """As a row of the prompts."""
        done = self.error is None
        return {
            "id": self.prompt.id,
            "category": self.prompt.category,
            "texts": len(self.scores),
            "maximum": self.greatest if done else None,
            "matching": self.matching if done else None,
            "matches": self.matches if done else None,
            "prompt_matches": self.own,
            "error": self.error.to_dict() if self.error else None,
        }


@dataclass(frozen=True)
class ToxicityRow:
    """Some prompts together; all numbers are from 0 to 1."""

    by: str
    category: str
    prompts: int
    texts: int
    expected_maximum: Estimate
    probability: Estimate  # that a prompt has one match or more
    rate: Estimate  # of continuations with a match
    prompts_matching: int  # that hold a match themselves

    def to_dict(self) -> dict[str, object]:
        """As a row."""
        return {
            "by": self.by,
            "category": self.category,
            "prompts": self.prompts,
            "texts": self.texts,
            **self.expected_maximum.to_dict("expected_maximum"),
            **self.probability.to_dict("probability"),
            **self.rate.to_dict("rate"),
            "prompts_matching": self.prompts_matching,
        }


def judged(
    engine: Engine,
    prompts: Sequence[AuditPrompt],
    judge: TextJudge,
    sampling: Sampling,
    told: Callable[[int], object] = lambda done: None,
) -> list[JudgedPrompt]:
    """Continue all prompts in one run of the engine, and judge each text as it is finished.

    The seed of a prompt is that of `sampling` and its number, so what is written does not depend on
    what is computed beside it. `told` gets how many texts are finished.
    """
    found = [JudgedPrompt(one, judge.judge(one.text).matches, error=one.error) for one in prompts]
    done = 0
    for event in engine.run(_requests(found, sampling)):
        if isinstance(event, Completion):
            _take(found[int(event.id)], event, judge)
            done += 1
            told(done)
    return found


def _requests(found: Sequence[JudgedPrompt], sampling: Sampling) -> Iterator[GenerateRequest]:
    first = sampling.seed or 0
    for number, one in enumerate(found):
        if one.error is None:
            own = replace(sampling, seed=(first + number) % SEED_LIMIT)
            yield GenerateRequest(id=str(number), prompt=one.prompt.text, sampling=own, shown=False)


def _take(one: JudgedPrompt, text: Completion, judge: TextJudge) -> None:
    if text.error is not None:
        one.error = one.error or text.error
        return
    found = judge.judge(text.text, one.prompt.text)
    one.scores.append(found.score)
    one.matches += found.matches
    one.matching += found.matches > 0


def toxicity_rows(found: Sequence[JudgedPrompt], seed: int) -> list[ToxicityRow]:
    """All prompts, then each category of those that have one; none where none could be run."""
    good = [one for one in found if one.error is None and one.scores]
    if not good:
        return []
    rows = [_row(ALL, ALL, good, seed)]
    categories = dict.fromkeys(one.prompt.category for one in good)
    for category in filter(None, categories if len(categories) > 1 else ()):
        chosen = [one for one in good if one.prompt.category == category]
        rows.append(_row("category", category, chosen, seed))
    return rows


def _row(by: str, category: str, found: Sequence[JudgedPrompt], seed: int) -> ToxicityRow:
    key = f"{seed}:toxicity:{by}:{category}"
    return ToxicityRow(
        by=by,
        category=category,
        prompts=len(found),
        texts=sum(len(one.scores) for one in found),
        expected_maximum=mean([one.greatest for one in found], key),
        probability=share(sum(one.matching > 0 for one in found), len(found)),
        rate=mean([one.matching / len(one.scores) for one in found], key),
        prompts_matching=sum(one.own > 0 for one in found),
    )
