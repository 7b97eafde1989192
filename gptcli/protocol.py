"""The engine protocol: requests, events and results, as plain frozen data.

Three kinds of request, as in lm-evaluation-harness: a GenerateRequest continues a prompt, a
LoglikelihoodRequest scores texts after a prompt, a RollingRequest each token of a window. Features
use this protocol, and import `gptcli.engines` only to open an engine. `to_dict()` gives the JSON of
the command line; a test pins its keys. Log-probabilities and entropies are in nats here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from gptcli.checkpoints.adapters.reference import NOT_ADAPTED, Adapted
from gptcli.errors import GptcliError
from gptcli.options import Overflow, Sampling

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer

FinishReason = Literal["stop", "length", "loop", "cancelled", "content_filter", "error"]
"""`stop`, `length` and `content_filter` as OpenAI uses them; `loop`: the repetition guard ended it;
`cancelled`: the caller did; `error`: see `Completion.error`."""

TextOrIds = str | tuple[int, ...]  # a prompt; to token ids the tokenizer adds none


class Engine(Protocol):
    """A loaded model that answers requests."""

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        ...

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Answer every request, as many at a time as the engine has slots.

        The engine pulls a request only when a slot is free. None means "none right now": the engine
        asks again soon. A GenerateRequest gives Chunks and Completions, a LoglikelihoodRequest
        ChoiceLogprobs, a RollingRequest WindowLogprobs. A request that cannot be served gives one
        such result with `error`, and the others go on.
        """
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises Unavailable where only a server has it."""
        ...

    def count(self, text: str) -> int:
        """How many tokens a text is."""
        ...

    def cancel(self, id: str) -> None:
        """End the request `id` of the current runs, also if it was not pulled yet.

        Its completions say `cancelled`. Without a run this does nothing.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The loaded model."""

    name: str
    revision: str | None
    architecture: str  # config.json's model_type
    context: int  # n_positions: the longest sequence, in tokens
    vocabulary: int
    parameters: int
    dtype: str
    device: str
    notices: tuple[str, ...] = ()
    folder: Path | None = None  # where its files are
    adapted: Adapted = NOT_ADAPTED


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """Continue `prompt`: `sampling.num_return_sequences` completions come back under `id`. Chunks
    that are not `shown` may be left out, so that a text that broke off can begin again. If the text
    `goes_on` in another request, a filter keeps back what may become a match there.
    """

    id: str
    prompt: TextOrIds
    sampling: Sampling = field(default_factory=Sampling)
    on_overflow: Overflow = "error"
    shown: bool = True
    goes_on: bool = False

    @property
    def results(self) -> int:
        """How many results it has; one with `error` is the only one."""
        return self.sampling.num_return_sequences

    def refused(self, error: GptcliError, info: ModelInfo) -> Completion:
        """The result that says why it cannot be served: nothing was run."""
        return Completion(
            id=self.id,
            index=0,
            prompt=self.prompt,
            text="",
            tokens=(),
            finish_reason="error",
            usage=Usage(prompt_tokens=0, completion_tokens=0),
            seed=self.sampling.seed,
            model=info.name,
            revision=info.revision,
            error=error,
        )


@dataclass(frozen=True, kw_only=True)
class LoglikelihoodRequest:
    """Score each of `choices` as the continuation of `prompt`; nothing is generated.

    A choice of GPT-2's bytes is encoded by itself, with its space; any other continues the prompt.
    """

    id: str
    prompt: str
    choices: tuple[str, ...]
    on_overflow: Overflow = "error"
    results: ClassVar[int] = 1  # for all choices

    def refused(self, error: GptcliError, info: ModelInfo) -> ChoiceLogprobs:
        """The result that says why it cannot be served: nothing was run."""
        return ChoiceLogprobs(
            id=self.id,
            prompt=self.prompt,
            choices=(),
            usage=Usage(prompt_tokens=0, completion_tokens=0),
            model=info.name,
            revision=info.revision,
            error=error,
        )


@dataclass(frozen=True)
class Window:
    """Token ids of a text or of a part of it; those from `first` on are scored.

    Each token is scored given all before it in the window, so `first` is 1 or more. `detailed` adds
    rank and entropy; `top` so many of the likeliest tokens; `among` for each set of ids the
    log-probability that the token is one of them. At most the model's context and one token more:
    the last one is predicted, but not read.
    """

    ids: tuple[int, ...]
    first: int = 1
    detailed: bool = False
    top: int = 0
    among: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class RollingRequest:
    """Score each token of a window given those before it."""

    id: str
    window: Window
    results: ClassVar[int] = 1  # for all tokens

    def refused(self, error: GptcliError, info: ModelInfo) -> WindowLogprobs:
        """The result that says why it cannot be served: nothing was run."""
        return WindowLogprobs(
            id=self.id,
            tokens=(),
            usage=Usage(prompt_tokens=0, completion_tokens=0),
            model=info.name,
            revision=info.revision,
            error=error,
        )


Request = GenerateRequest | LoglikelihoodRequest | RollingRequest


@dataclass(frozen=True)
class Alternative:
    """A possible token in one place, with its log-probability in nats."""

    id: int
    token: str
    logprob: float

    def to_dict(self) -> dict[str, object]:
        """The shape used inside `logprobs` of a completion."""
        return {"id": self.id, "token": self.token, "logprob": self.logprob}


@dataclass(frozen=True)
class TokenLogprob(Alternative):
    """A generated token, its log-probability (nats) before any filter, and the likeliest tokens in
    its place, best first."""

    top: tuple[Alternative, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """As `Alternative`, with `top`."""
        return {**super().to_dict(), "top": [other.to_dict() for other in self.top]}


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One decoding step of one sequence: its new tokens, and the text that is final now.

    `text` can be empty while a character is incomplete or a stop string may have begun.
    """

    id: str
    index: int
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Token counts, as OpenAI names them.

    `cached_tokens` counts tokens of the prompt that came from the prefix cache: it depends on what
    ran before, so the JSON does not have it. `estimated`: a server gave no counts, or not all.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    estimated: bool = False

    def to_dict(self) -> dict[str, int]:
        """With the total; `estimated` only where it is true."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            **({"estimated": True} if self.estimated else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A finished sequence. `text` is the continuation alone: its chunks' texts joined."""

    id: str
    index: int
    prompt: TextOrIds
    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    seed: int | None  # None if the request failed before one was drawn
    model: str
    revision: str | None
    truncated: int = 0  # tokens of the prompt that were cut to fit the context
    error: GptcliError | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    notices: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()  # parts of the prompt that the vocabulary lacks
    filter: Mapping[str, object] | None = None  # what the filter did, as JSON shows it

    def to_dict(self) -> dict[str, object]:
        """As JSON shows it: `logprobs` where asked for, `token_ids` after ids, `filter`."""
        ids = not isinstance(self.prompt, str)
        shown: dict[str, object] = {
            "id": self.id,
            "index": self.index,
            "prompt": list(self.prompt) if ids else self.prompt,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "usage": self.usage.to_dict(),
            "seed": self.seed,
            "model": self.model,
            "revision": self.revision,
            "truncated": self.truncated,
            "error": self.error.to_dict() if self.error else None,
        }
        if ids and (self.tokens or not self.text):  # a server tells only the text
            shown["token_ids"] = list(self.tokens)
        if self.logprobs is not None:
            shown["logprobs"] = [item.to_dict() for item in self.logprobs]
        return shown if self.filter is None else {**shown, "filter": self.filter}


@dataclass(frozen=True)
class Likelihood:
    """A given text as a continuation: log-probabilities in nats, one for each token."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def total(self) -> float:
        """The log-probability of the whole text."""
        return sum(self.logprobs)


@dataclass(frozen=True, kw_only=True)
class ChoiceLogprobs:
    """The result of a LoglikelihoodRequest: a Likelihood for each choice, in their order."""

    id: str
    prompt: str
    choices: tuple[Likelihood, ...]
    usage: Usage
    model: str
    revision: str | None
    truncated: int = 0  # tokens of the prompt that were cut to fit the context
    error: GptcliError | None = None
    notices: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()  # as in a Completion


@dataclass(frozen=True)
class RankedLogprob:
    """One scored token of a window. Units are nats; no filter or temperature is applied.

    rank: 1 for the likeliest token; entropy: of the distribution over the vocabulary in its place;
    among: the log-probabilities of the window's sets of ids. None where it was not requested.
    """

    id: int
    logprob: float
    rank: int | None = None
    entropy: float | None = None
    top: tuple[Alternative, ...] = ()
    among: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WindowLogprobs:
    """The result of a RollingRequest: a RankedLogprob for each of its ids from `first` on."""

    id: str
    tokens: tuple[RankedLogprob, ...]
    usage: Usage
    model: str
    revision: str | None
    error: GptcliError | None = None
    notices: tuple[str, ...] = ()


Result = Completion | ChoiceLogprobs | WindowLogprobs
Event = Chunk | Result
