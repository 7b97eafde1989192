"""A LoglikelihoodRequest while it is computed: the log-probability of each choice after the prompt.

The last logits of the prompt score the first token of every choice. Choices of several tokens run
together, each after the same cached prompt, so labels share one prefill. Where the logits come from
is decided by the engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from gptcli.engines.decoding import vocabulary_ops as ops
from gptcli.engines.decoding.request import EncodedLoglikelihood
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.decoding.step import not_finite
from gptcli.engines.decoding.vocabulary_ops import Floats, silent
from gptcli.errors import GptcliError
from gptcli.protocol import ChoiceLogprobs, Event, Likelihood


@dataclass(eq=False)
class Loglikelihood:
    """The choices of one request while they are scored."""

    encoded: EncodedLoglikelihood
    cached: int = 0  # tokens of the prompt that were in the KV cache
    logprobs: list[list[float]] = field(default_factory=list)  # one list a choice

    @property
    def error(self) -> GptcliError | None:
        """The error where logits are not finite, else None."""
        sound = not any(map(math.isnan, chain(*self.logprobs)))
        return None if sound else not_finite(self.encoded.info.name, 1)

    def begin(self, logits: Floats) -> None:
        """Score the first token of each choice by the prompt's last logits, float32 (vocab,)."""
        firsts = [choice[0] for choice in self.encoded.choices]
        same = np.broadcast_to(logits, (len(firsts), len(logits)))
        self.logprobs = [[value] for value in likelihoods(same, firsts)]

    def result(
        self, error: GptcliError | None = None, notices: tuple[str, ...] = ()
    ) -> ChoiceLogprobs:
        """The log-probabilities of all choices; none with an `error`."""
        encoded = self.encoded
        texts = encoded.request.choices if not error and self.logprobs else ()
        return ChoiceLogprobs(
            id=encoded.request.id,
            prompt=encoded.request.prompt,
            choices=tuple(
                Likelihood(text, ids, tuple(values))
                for text, ids, values in zip(texts, encoded.choices, self.logprobs, strict=False)
            ),
            usage=encoded.usage(self.cached),
            model=encoded.info.name,
            revision=encoded.info.revision,
            truncated=encoded.truncated,
            error=error,
            unknown=encoded.unknown,
            notices=encoded.notices + notices,
        )

    def finished(self) -> Iterator[Event]:
        """The result, or the error where logits are not finite."""
        yield self.result(self.error)

    def cancel(self) -> Iterator[Event]:
        """End with the notice `cancelled`."""
        self.logprobs = []
        yield self.result(notices=("cancelled",))


@dataclass(frozen=True)
class Branch:
    """Choice number `place` of a request, of several tokens, after the prompt in `slot`.

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
        """Its tokens that are run: all but the last."""
        return Segment(self.slot, len(self.scored.encoded.prompt_ids), len(self.ids) - 1)


def grouped(branches: list[Branch], budget: int) -> Iterator[list[Branch]]:
    """Branches in groups of at most `budget` tokens; a longer branch is a group by itself."""
    group: list[Branch] = []
    for branch in branches:
        if group and sum(len(one.ids) - 1 for one in [*group, branch]) > budget:
            yield group
            group = []
        group.append(branch)
    if group:
        yield group


@silent
def likelihoods(logits: Floats, ids: list[int]) -> list[float]:
    """The natural log-probability of each id under its row of logits, (N, vocab) and N ids.

    NaN for a row whose logits are not finite.
    """
    scored = zip(logits, ids, ops.log_sum_exps(logits), strict=True)
    return [whole.logprob(row[id]) if ops.finite(row) else math.nan for row, id, whole in scored]
