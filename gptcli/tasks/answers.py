"""What goes into a task and what comes out: plain, frozen data.

The keys of `to_dict()` are those of a completion with `input` in place of `prompt`, and what the
task found besides; a test pins them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gptcli.errors import GptcliError
from gptcli.options import Sampling
from gptcli.protocol import ChoiceLogprobs, Completion, FinishReason, TokenLogprob, Usage
from gptcli.tasks.text.spans import Entity


@dataclass(frozen=True)
class Question:
    """One input of a task; `error` where it could not be read, `sampling` where it has its own."""

    id: str
    text: str
    error: GptcliError | None = None
    sampling: Sampling | None = None


@dataclass(frozen=True)
class AnswerChunk:
    """A part of an answer's text that is certain, while more is written."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one input; with several sequences there are several, told apart by `index`."""

    task: str
    id: str
    index: int
    input: str
    text: str
    finish_reason: FinishReason
    usage: Usage
    seed: int | None
    model: str
    revision: str | None
    truncated: int = 0  # tokens of the input that were cut to fit the context
    error: GptcliError | None = None
    mean_logprob: float | None = None  # natural log, of the answer's tokens
    abstained: bool | None = None  # None for a task that never does
    labels: tuple[tuple[str, float], ...] | None = None  # with probabilities, as they were given
    entities: tuple[Entity, ...] | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    notices: tuple[str, ...] = ()
    carried: Mapping[str, object] = field(default_factory=dict)  # other columns of its row

    def to_dict(self) -> dict[str, object]:
        """The answer as JSON shows it; what a task does not find is left out."""
        shown: dict[str, object] = {
            "task": self.task,
            "id": self.id,
            "index": self.index,
            "input": self.input,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "usage": self.usage.to_dict(),
            "seed": self.seed,
            "model": self.model,
            "revision": self.revision,
            "truncated": self.truncated,
            "error": self.error.to_dict() if self.error else None,
        }
        found = {
            "mean_logprob": self.mean_logprob,
            "abstained": self.abstained,
            "labels": None if self.labels is None else dict(self.labels),
            "entities": self.entities and [entity.to_dict() for entity in self.entities],
            "logprobs": self.logprobs and [item.to_dict() for item in self.logprobs],
        }
        if self.entities == ():
            found["entities"] = []
        found = {key: value for key, value in found.items() if value is not None}
        return {**shown, **found, **self.carried}


def total(results: Iterable[Completion | ChoiceLogprobs]) -> Usage:
    """The token counts of all requests that an answer took."""
    used = [result.usage for result in results]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in used),
        completion_tokens=sum(usage.completion_tokens for usage in used),
        cached_tokens=sum(usage.cached_tokens for usage in used),
    )
