"""A request in flight: turns the server's messages into chunks, completions or ChoiceLogprobs.

Text is given out as it arrives, up to the first stop string. Stop strings are watched for here too,
because servers take only four. Where the server does not count tokens, or only those of n sequences
together, the counts are estimates. Not here: the connection is in `client`, retries in `retry`.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from gptcli.engines.decoding.detokenizer import StopStrings
from gptcli.engines.remote import schema
from gptcli.engines.remote.retry import CutOff
from gptcli.errors import BadInput, GptcliError
from gptcli.protocol import (
    ChoiceLogprobs,
    Chunk,
    Completion,
    Event,
    FinishReason,
    GenerateRequest,
    Likelihood,
    LoglikelihoodRequest,
    ModelInfo,
    TokenLogprob,
    Usage,
)

BYTES_PER_TOKEN = 3  # of UTF-8; English has about four, so that what is cut to fit by this does fit
PostStream = Callable[[dict[str, object]], AsyncGenerator[object, None]]
"""Posts a body and gives the messages of the answer, as JSON."""


def estimate(text: str) -> int:
    """About how many tokens a text is, rather too many: a third of its UTF-8 bytes."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


class InFlight(Protocol):
    """What the engine needs to know of a request in flight."""

    @property
    def request(self) -> GenerateRequest | LoglikelihoodRequest:
        """What was asked."""
        ...

    @property
    def begun(self) -> bool:
        """Whether anything was given out, which cannot be taken back."""
        ...

    async def send(self, ask: PostStream) -> None:
        """Ask the server and take the answer, all anew each time. Raises one of FAILURES."""
        ...

    def finish(self, error: GptcliError | None = None, cancelled: bool = False) -> Iterator[Event]:
        """The last events."""
        ...


@dataclass(eq=False)
class PartialSequence:
    """One sequence so far."""

    index: int
    text: StopStrings
    finish: str | None = None  # the server's word
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A server may cut a character into two JSON escapes; and half of one is no text.
        self._characters = codecs.getincrementaldecoder("utf-16-le")(errors="replace")

    @property
    def done(self) -> bool:
        """Whether nothing more is wanted of it."""
        return self.text.stopped or self.finish is not None

    def push(self, piece: schema.SequenceDelta) -> str:
        """Take a piece; returns the text that became certain."""
        if self.done:
            return ""
        if any(math.isnan(item.logprob) for item in piece.logprobs):
            raise ValueError("a log-probability that is no number")
        self.logprobs += piece.logprobs
        self.finish = piece.finish
        return self._give(piece.text, last=self.finish is not None)

    def flush(self) -> str:
        """What was held back."""
        return self._give("", last=True)

    def _give(self, text: str, last: bool) -> str:
        units = text.encode("utf-16-le", "surrogatepass")
        return self.text.give(self._characters.decode(units, last), last)

    @property
    def reason(self) -> FinishReason:
        """Why it ended, as results name it."""
        return "length" if self.finish == "length" and not self.text.stopped else "stop"


@dataclass(eq=False)
class GenerationInFlight:
    """A request for continuations."""

    request: GenerateRequest
    info: ModelInfo
    seed: int
    emit: Callable[[Event], None]
    begun: bool = False

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        sampling = self.request.sampling
        count = sampling.num_return_sequences
        self._sequences = [
            PartialSequence(index, StopStrings(sampling.stop)) for index in range(count)
        ]
        self._usage: Usage | None = None

    async def send(self, ask: PostStream) -> None:
        """See `InFlight`."""
        self._start()
        body = schema.generation_body(self.request, self.info.name, self.seed)
        async with aclosing(ask(body)) as messages:
            async for value in messages:
                message = schema.parse_message(value)
                self._usage = message.usage or self._usage
                for piece in message.pieces:
                    self._take(piece)
                if all(sequence.text.stopped for sequence in self._sequences):
                    return  # a stop string the server did not know: the rest is not wanted
        if not all(sequence.done for sequence in self._sequences):
            raise CutOff

    def _take(self, piece: schema.SequenceDelta) -> None:
        greedy = self.request.sampling.effective_temperature == 0
        sequences = self._sequences if greedy else self._sequences[piece.index : piece.index + 1]
        if piece.index < 0 or not sequences:
            raise ValueError(f"a choice of index {piece.index}")
        for sequence in sequences:
            before = len(sequence.logprobs)
            self._give(sequence, sequence.push(piece), tuple(sequence.logprobs[before:]))

    def _give(
        self, sequence: PartialSequence, text: str, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> None:
        if text or logprobs:
            self.begun = True
            id, index = self.request.id, sequence.index
            self.emit(Chunk(id=id, index=index, text=text, tokens=(), logprobs=self._cut(logprobs)))

    def _cut(self, logprobs: tuple[TokenLogprob, ...]) -> tuple[TokenLogprob, ...]:
        """With as many of the likeliest tokens as were asked for; servers give one more or less."""
        most = self.request.sampling.logprobs or 0
        return tuple(
            TokenLogprob(item.id, item.token, item.logprob, item.top[:most]) for item in logprobs
        )

    def finish(self, error: GptcliError | None = None, cancelled: bool = False) -> Iterator[Event]:
        """A Completion for each sequence; one that was done before the end stays as it was."""
        # As every engine does: what fails before it began fails once, not n times.
        once = error is not None and not self.begun
        for sequence in self._sequences[: 1 if once else None]:
            whole = sequence.done
            if not whole and (rest := sequence.flush()):
                yield Chunk(id=self.request.id, index=sequence.index, text=rest, tokens=())
            reason: FinishReason = sequence.reason
            if not whole and (cancelled or error):
                reason = "cancelled" if cancelled else "error"
            yield self._completion(sequence, reason, error if reason == "error" else None)

    def _completion(
        self, sequence: PartialSequence, reason: FinishReason, error: GptcliError | None
    ) -> Completion:
        request, sampling = self.request, self.request.sampling
        return Completion(
            id=request.id,
            index=sequence.index,
            prompt=request.prompt,
            text=sequence.text.text,
            tokens=(),
            finish_reason=reason,
            usage=self._count(sequence),
            seed=self.seed,
            model=self.info.name,
            revision=None,
            error=error,
            logprobs=None if sampling.logprobs is None else self._cut(tuple(sequence.logprobs)),
            notices=(*sampling.notices, *self._notices(sequence)),
        )

    def _notices(self, sequence: PartialSequence) -> Iterator[str]:
        if sequence.finish not in (None, "stop", "length"):
            yield f"the server ended a text by {sequence.finish[:30]!r}"
        if (
            self.request.sampling.logprobs is not None
            and sequence.text.text
            and not sequence.logprobs
        ):
            yield "the server gave no log-probabilities"

    def _count(self, sequence: PartialSequence) -> Usage:
        """The server's count where it is one sequence's; else that of its tokens, or an estimate.

        Where nothing arrived, nothing was counted.
        """
        sampling, counted = self.request.sampling, self._usage
        if counted and (sampling.num_return_sequences == 1 or sampling.effective_temperature == 0):
            return counted
        written = len(sequence.logprobs) or estimate(sequence.text.text)
        read = estimate(self.request.prompt) if self.begun or sequence.done else 0
        return Usage(
            prompt_tokens=counted.prompt_tokens if counted else read, completion_tokens=written
        )


@dataclass(eq=False)
class ScoringInFlight:
    """A request for likelihoods: one question about all choices, with the prompt before each."""

    request: LoglikelihoodRequest
    info: ModelInfo
    begun: bool = False

    def __post_init__(self) -> None:
        self._found: dict[int, Likelihood] = {}
        self._usage: Usage | None = None

    async def send(self, ask: PostStream) -> None:
        """See `InFlight`. Raises BadInput for a choice that cannot be scored."""
        request = self.request
        if not request.choices:
            raise BadInput("choices", "there are none", "Give at least one")
        if not all(request.choices):
            raise BadInput("choice", "it is empty", "Give at least one character")
        async with aclosing(ask(schema.scoring_body(request, self.info.name))) as messages:
            async for value in messages:
                message = schema.parse_message(value)
                self._usage = message.usage or self._usage
                for piece in message.pieces:
                    if not 0 <= piece.index < len(request.choices):
                        raise ValueError(f"a choice of index {piece.index}")
                    choice = request.choices[piece.index]
                    self._found[piece.index] = schema.likelihood(request.prompt, choice, piece)
        if len(self._found) < len(request.choices):
            raise schema.no_scores(
                f"it answered {len(self._found)} of {len(request.choices)} texts"
            )

    def finish(self, error: GptcliError | None = None, cancelled: bool = False) -> Iterator[Event]:
        """The ChoiceLogprobs; what the server refuses of it, it cannot do."""
        request = self.request
        if isinstance(error, BadInput) and error.what.startswith("--server"):
            error = schema.no_scores(error.why)
        whole = error is None and not cancelled
        prompt = self._usage.prompt_tokens if self._usage else estimate(request.prompt)
        yield ChoiceLogprobs(
            id=request.id,
            prompt=request.prompt,
            choices=tuple(self._found[place] for place in sorted(self._found)) if whole else (),
            usage=Usage(prompt_tokens=prompt if whole else 0, completion_tokens=0),
            model=self.info.name,
            revision=None,
            error=error,
            notices=("cancelled",) if cancelled else (),
        )
