"""A RollingRequest while it is computed: log-probability of each token, statistics on demand.

A window sits in its slot like a prompt without a continuation. Its logits arrive in parts and are
reduced at once to a few numbers a token: a row of logits is as long as the vocabulary, so nothing
here sorts one or keeps one. Not here: how a text becomes windows is in `gptcli.scoring.windows`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding import vocabulary_ops as ops
from gptcli.engines.decoding.request import EncodedRolling
from gptcli.engines.decoding.sampler import finite
from gptcli.engines.decoding.step import not_finite
from gptcli.engines.decoding.vocabulary_ops import Floats, Ids, LogSumExp, silent
from gptcli.errors import GptcliError
from gptcli.protocol import Alternative, Event, RankedLogprob, Window, WindowLogprobs


@dataclass(eq=False)
class LoglikelihoodRolling:
    """The window of one request while it is scored."""

    encoded: EncodedRolling
    cached: int = 0  # tokens that were in the KV cache
    found: list[RankedLogprob] = field(default_factory=list)
    error: GptcliError | None = None  # set where logits are not finite

    @property
    def window(self) -> Window:
        """The window that is scored."""
        return self.encoded.request.window

    @property
    def done(self) -> bool:
        """Whether all tokens are scored, or one failed."""
        due = len(self.window.ids) - self.window.first
        return self.error is not None or len(self.found) == due

    def take(self, logits: Floats) -> None:
        """Score the next N tokens by the logits before each, float32 (N, vocab), not changed."""
        if self.error is not None:
            return
        start = self.window.first + len(self.found)
        targets = self.window.ids[start : start + len(logits)]
        sound = finite(logits)
        if not all(sound):
            self.error = not_finite(self.encoded.info.name, start + sound.index(False) + 1)
            return
        self.found += ranked_logprobs(logits, targets, self.window, self.encoded.tokenizer)

    def finished(self, notices: tuple[str, ...] = ()) -> WindowLogprobs:
        """The result; without tokens where there is an error or a notice."""
        encoded = self.encoded
        return WindowLogprobs(
            id=encoded.request.id,
            tokens=() if self.error or notices else tuple(self.found),
            usage=encoded.usage(self.cached),
            model=encoded.info.name,
            revision=encoded.info.revision,
            error=self.error,
            notices=notices,
        )

    def cancel(self) -> Iterator[Event]:
        """End with the notice `cancelled`."""
        yield self.finished(("cancelled",))


@silent
def ranked_logprobs(
    logits: Floats, targets: Sequence[int], window: Window, tokenizer: Tokenizer
) -> list[RankedLogprob]:
    """The statistics of `window` for each target (N) under its finite logits, float32 (N, vocab).

    log p(i) = logits[i] - log sum_j exp(logits[j]); the entropy is -sum_j p(j) log p(j).
    """
    sets = [_ids(ids) for ids in window.among]
    rows = zip(logits, targets, ops.log_sum_exps(logits), strict=True)
    return [_ranked(row, target, whole, window, sets, tokenizer) for row, target, whole in rows]


def _ranked(
    row: Floats,
    target: int,
    whole: LogSumExp,
    window: Window,
    sets: list[Ids],
    tokenizer: Tokenizer,
) -> RankedLogprob:
    return RankedLogprob(
        target,
        whole.logprob(row[target]),
        rank=int(np.count_nonzero(row > row[target])) + 1 if window.detailed else None,
        entropy=ops.entropy(row) if window.detailed else None,
        top=tuple(
            Alternative(id, tokenizer.token_text(id), whole.logprob(row[id]))
            for id in ops.largest(row, window.top).tolist()
        ),
        among=tuple(_among(row[ids], whole) for ids in sets),
    )


def _among(values: Floats, whole: LogSumExp) -> float:
    """The log-probability of a set of ids; never above 0 by rounding."""
    if not len(values):
        return -math.inf
    [own] = ops.log_sum_exps(values[None])
    return min(own.highest - whole.highest + own.more - whole.more, 0.0)


@lru_cache(maxsize=8)
def _ids(ids: tuple[int, ...]) -> Ids:
    """A set of ids as an array. All windows of a text share it, and it is often long."""
    return np.array(ids, np.int64)
