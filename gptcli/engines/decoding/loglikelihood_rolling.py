"""A RollingRequest while it is computed: log-probability of each token, statistics on demand.

A window sits in its slot like a prompt without a continuation. Its logits arrive in parts and are
reduced at once to a few numbers a token: a row of logits is as long as the vocabulary, so nothing
here sorts one or keeps many. Not here: how a text becomes windows is in `gptcli.scoring.windows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from gptcli.checkpoints.tokenizer import Tokenizer
from gptcli.engines.decoding.request import EncodedRolling
from gptcli.engines.decoding.sampler import finite
from gptcli.engines.decoding.step import not_finite
from gptcli.errors import GptcliError
from gptcli.protocol import Alternative, Event, RankedLogprob, Window, WindowLogprobs

ROWS = 64  # rows of logits at a time: 13 MB for GPT-2, and as much for each intermediate result


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

    def take(self, logits: Tensor) -> None:
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


@torch.inference_mode()
def ranked_logprobs(
    logits: Tensor, targets: Sequence[int], window: Window, tokenizer: Tokenizer
) -> Iterator[RankedLogprob]:
    """The statistics of `window` for each target (N) under its finite logits, float32 (N, vocab).

    log p(i) = logits[i] - log sum_j exp(logits[j]); the entropy is -sum_j p(j) log p(j).
    """
    sets = [_ids(ids, logits.device) for ids in window.among]
    for start in range(0, len(logits), ROWS):
        rows, few = logits[start : start + ROWS], targets[start : start + ROWS]
        whole = rows.logsumexp(-1, keepdim=True)
        chosen = rows.gather(1, torch.tensor(few, device=rows.device)[:, None])
        logprobs = (chosen - whole)[:, 0].tolist()
        nothing = [None] * len(few)
        ranks = ((rows > chosen).sum(-1) + 1).tolist() if window.detailed else nothing
        entropies = _entropies(rows - whole).tolist() if window.detailed else nothing
        tops = _tops(rows, whole, window.top, tokenizer)
        sums = [_sums(rows, whole, ids).tolist() for ids in sets]
        among = zip(*sums, strict=True) if sums else [()] * len(few)
        yield from map(RankedLogprob, few, logprobs, ranks, entropies, tops, among)


def _entropies(logprobs: Tensor) -> Tensor:
    return -(logprobs.exp() * logprobs).sum(-1)


def _sums(rows: Tensor, whole: Tensor, ids: Tensor) -> Tensor:
    """The log-probability of a set of ids, (N,); never above 0 by rounding."""
    return (rows[:, ids].logsumexp(-1) - whole[:, 0]).clamp(max=0)


def _tops(
    rows: Tensor, whole: Tensor, top: int, tokenizer: Tokenizer
) -> list[tuple[Alternative, ...]]:
    """The `top` likeliest tokens of each row, best first."""
    if not top:
        return [()] * len(rows)
    values, ids = rows.topk(min(top, rows.shape[-1]))
    text = tokenizer.token_text
    return [
        tuple(Alternative(id, text(id), value) for id, value in zip(*row, strict=True))
        for row in zip(ids.tolist(), (values - whole).tolist(), strict=True)
    ]


@lru_cache(maxsize=8)
def _ids(ids: tuple[int, ...], device: torch.device) -> Tensor:
    """A set of ids as an index tensor. All windows of a text share it, and it is often long."""
    return torch.tensor(ids, dtype=torch.int64, device=device)
