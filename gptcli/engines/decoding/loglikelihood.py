"""A LoglikelihoodRequest while it is computed: how likely each of its choices is after the prompt.

The first token of every choice is scored by the prompt's own last logits; only choices of several
tokens need more, and theirs are computed together, each after the same cached prompt. So labels
share one prefill. How the logits come about is the engine's business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from torch import Tensor

from gptcli.engines.decoding.request import EncodedLoglikelihood
from gptcli.engines.decoding.sampler import finite, logprobs_of
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.decoding.step import not_finite
from gptcli.errors import GptcliError
from gptcli.protocol import ChoiceLogprobs, Event, Likelihood, Usage


@dataclass(eq=False)
class Loglikelihood:
    """The choices of one request while they are scored."""

    encoded: EncodedLoglikelihood
    cached: int = 0  # tokens of the prompt that did not have to be computed
    logprobs: list[list[float]] = field(default_factory=list)  # one list a choice

    @property
    def error(self) -> GptcliError | None:
        """What went wrong where the model gave numbers that are none."""
        sound = not any(map(math.isnan, chain(*self.logprobs)))
        return None if sound else not_finite(self.encoded.info.name, 1)

    def begin(self, logits: Tensor) -> None:
        """Score each choice's first token by the prompt's last logits, float32 (vocab,)."""
        firsts = [choice[0] for choice in self.encoded.choices]
        self.logprobs = [[value] for value in likelihoods(logits.expand(len(firsts), -1), firsts)]

    def result(
        self, error: GptcliError | None = None, notices: tuple[str, ...] = ()
    ) -> ChoiceLogprobs:
        """What came out."""
        encoded = self.encoded
        texts = encoded.request.choices if not error and self.logprobs else ()
        return ChoiceLogprobs(
            id=encoded.request.id,
            prompt=encoded.request.prompt,
            choices=tuple(
                Likelihood(text, ids, tuple(values))
                for text, ids, values in zip(texts, encoded.choices, self.logprobs, strict=False)
            ),
            usage=Usage(
                prompt_tokens=len(encoded.prompt_ids),
                completion_tokens=0,
                cached_tokens=self.cached,
            ),
            model=encoded.info.name,
            revision=encoded.info.revision,
            truncated=encoded.truncated,
            error=error,
            notices=encoded.notices + notices,
        )

    def finished(self) -> Iterator[Event]:
        """The result, or the error where the model gave numbers that are none."""
        yield self.result(self.error)

    def cancel(self) -> Iterator[Event]:
        """End because the caller asked for it."""
        self.logprobs = []
        yield self.result(notices=("cancelled",))


@dataclass(frozen=True)
class Branch:
    """A choice of several tokens, `place` among those of its request, after the prompt in `slot`.

    The last token is predicted, but not run.
    """

    scored: Loglikelihood
    slot: int
    place: int

    @property
    def ids(self) -> tuple[int, ...]:
        """The choice's tokens."""
        return self.scored.encoded.choices[self.place]

    @property
    def segment(self) -> Segment:
        """What is run of it."""
        return Segment(self.slot, len(self.scored.encoded.prompt_ids), len(self.ids) - 1)


def packed(branches: list[Branch], budget: int) -> Iterator[list[Branch]]:
    """Branches in groups of at most `budget` tokens, or of one."""
    group: list[Branch] = []
    for branch in branches:
        if group and sum(len(one.ids) - 1 for one in [*group, branch]) > budget:
            yield group
            group = []
        group.append(branch)
    if group:
        yield group


def likelihoods(logits: Tensor, ids: list[int]) -> list[float]:
    """The natural log-probability of each id under its row of logits, (N, vocab) and N ids.

    NaN for a row whose logits are not finite.
    """
    scored = zip(logprobs_of(logits, ids, 0), finite(logits), strict=True)
    return [one.logprob if sound else math.nan for one, sound in scored]
