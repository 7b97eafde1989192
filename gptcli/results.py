"""What goes into an engine and what comes out of it: plain, frozen data.

Every consumer (generate, tasks, chat, batch, server, bench) speaks these and nothing else; the
dictionaries of `to_dict()` are the JSON of the command line, their keys pinned by a test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gptcli.errors import GptcliError
from gptcli.options import Overflow, Sampling

FinishReason = Literal["stop", "length", "loop", "cancelled", "error"]
"""`stop` and `length` as OpenAI uses them; `loop`: the repetition guard ended it; `cancelled`: the
caller did; `error`: see `Completion.error`."""


@dataclass(frozen=True)
class Window:
    """Token ids of a text, or of a stretch of it, of which those from `first` on are measured.

    Each given all that stand before it in the window; so `first` is 1 or more. With `detailed`
    rank and entropy are measured as well, with `top` so many of the likeliest tokens, with `among`
    for each of these sets the probability that the token is any of its ids. At most the model's
    context and one token more: the last one is predicted, but not read.
    """

    ids: tuple[int, ...]
    first: int = 1
    detailed: bool = False
    top: int = 0
    among: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    """Continue `prompt`; `sampling.num_return_sequences` completions come back under `id`.

    With `choices` nothing is written: one Score comes back, of how likely each of these texts is
    as the continuation. A choice is encoded by itself, so most begin with a space. With a `window`
    one Measured comes back, and the prompt is not looked at.
    """

    id: str
    prompt: str
    sampling: Sampling = field(default_factory=Sampling)
    on_overflow: Overflow = "error"
    choices: tuple[str, ...] = ()
    window: Window | None = None


@dataclass(frozen=True)
class Alternative:
    """A token the model might have written, with its natural log-probability."""

    id: int
    token: str
    logprob: float

    def to_dict(self) -> dict[str, object]:
        """The shape used inside `logprobs` of a completion."""
        return {"id": self.id, "token": self.token, "logprob": self.logprob}


@dataclass(frozen=True)
class TokenLogprob(Alternative):
    """A token written, its log-probability under the model (before any filter), and the likeliest
    tokens at that place, best first."""

    top: tuple[Alternative, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """As `Alternative`, with `top`."""
        return {**super().to_dict(), "top": [other.to_dict() for other in self.top]}


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One decoding step of one sequence: the new tokens, and the text that became certain.

    `text` can be empty while a character is incomplete or a stop string may be under way.
    """

    id: str
    index: int
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Token counts, as OpenAI names them.

    `cached_tokens`, those of the prompt that did not have to be computed, depend on what ran
    before: they are no part of the JSON, which says the same each time.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    def to_dict(self) -> dict[str, int]:
        """With the total."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A finished sequence. `text` is the continuation alone: its chunks' texts joined."""

    id: str
    index: int
    prompt: str
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

    def to_dict(self) -> dict[str, object]:
        """The completion as JSON shows it; `logprobs` only where they were asked for."""
        shown: dict[str, object] = {
            "id": self.id,
            "index": self.index,
            "prompt": self.prompt,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "usage": self.usage.to_dict(),
            "seed": self.seed,
            "model": self.model,
            "revision": self.revision,
            "truncated": self.truncated,
            "error": self.error.to_dict() if self.error else None,
        }
        if self.logprobs is not None:
            shown["logprobs"] = [item.to_dict() for item in self.logprobs]
        return shown


@dataclass(frozen=True)
class Likelihood:
    """How likely a given text is as a continuation: natural log-probabilities, one a token."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def total(self) -> float:
        """The log-probability of the whole text."""
        return sum(self.logprobs)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The answer to a request with `choices`: a Likelihood for each, in their order."""

    id: str
    prompt: str
    choices: tuple[Likelihood, ...]
    usage: Usage
    model: str
    revision: str | None
    truncated: int = 0  # tokens of the prompt that were cut to fit the context
    error: GptcliError | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenMeasure:
    """How a token of a window was expected; natural logarithms, under the model as it is.

    rank: 1 and how many tokens were likelier; entropy: of the whole distribution in its place;
    among: the log-probabilities of the window's sets of ids. None where it was not asked for.
    """

    id: int
    logprob: float
    rank: int | None = None
    entropy: float | None = None
    top: tuple[Alternative, ...] = ()
    among: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The answer to a request with a window: a TokenMeasure for each of its ids from `first` on."""

    id: str
    tokens: tuple[TokenMeasure, ...]
    usage: Usage
    model: str
    revision: str | None
    error: GptcliError | None = None
    notices: tuple[str, ...] = ()


Event = Chunk | Completion | Score | Measured


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What is loaded."""

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


def refused(request: Request, error: GptcliError, info: ModelInfo) -> Completion:
    """The completion of a request that cannot be served: nothing was run."""
    return Completion(
        id=request.id,
        index=0,
        prompt=request.prompt,
        text="",
        tokens=(),
        finish_reason="error",
        usage=Usage(prompt_tokens=0, completion_tokens=0),
        seed=request.sampling.seed,
        model=info.name,
        revision=info.revision,
        error=error,
    )


def unmeasured(request: Request, error: GptcliError, info: ModelInfo) -> Measured:
    """The answer to a request whose window cannot be measured: nothing was run."""
    return Measured(
        id=request.id,
        tokens=(),
        usage=Usage(prompt_tokens=0, completion_tokens=0),
        model=info.name,
        revision=info.revision,
        error=error,
    )
