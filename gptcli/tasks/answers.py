"""Input and output of a task: frozen data.

`to_dict()` has the keys of a completion, with `input` instead of `prompt`, and what the task found;
a test pins them.
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
    """One input of a task. `error`: it could not be read. `sampling`: settings of its own."""

    id: str
    text: str
    error: GptcliError | None = None
    sampling: Sampling | None = None


@dataclass(frozen=True)
class AnswerChunk:
    """A part of an answer's text that no later token changes."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one input; `index` tells several sequences apart."""

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
    truncated: int = 0  # tokens cut from the input to fit the context
    error: GptcliError | None = None
    mean_logprob: float | None = None  # natural logarithm, over the answer's tokens
    abstained: bool | None = None  # None for a task that never abstains
    labels: tuple[tuple[str, float], ...] | None = None  # with probabilities, in the given order
    entities: tuple[Entity, ...] | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    notices: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()  # parts of its prompts that the vocabulary lacks
    blank_because: str = ""  # why the text is blank, where it is so without an error
    filter: Mapping[str, object] | None = None  # what the filter did, as JSON shows it
    carried: Mapping[str, object] = field(default_factory=dict)  # other columns of its row

    def to_dict(self) -> dict[str, object]:
        """The answer for JSON; without the keys that this kind of task does not have."""
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
            "filter": self.filter,
        }
        if self.entities == ():
            found["entities"] = []
        found = {key: value for key, value in found.items() if value is not None}
        return {**shown, **found, **self.carried}


def total(results: Iterable[Completion | ChoiceLogprobs]) -> Usage:
    """The token counts of all requests of an answer."""
    used = [result.usage for result in results]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in used),
        completion_tokens=sum(usage.completion_tokens for usage in used),
        cached_tokens=sum(usage.cached_tokens for usage in used),
        estimated=any(usage.estimated for usage in used),
    )
