"""Likelihoods in flight: turns echoed log-probabilities into ChoiceLogprobs.

One request holds all choices, with the prompt before each. A server that takes one prompt a request
is sent them one by one. Some servers echo the log-probabilities of other places (llama-cpp-python's
are shifted by one), so before the first numbers are believed they must agree with themselves: where
a text's echo names the likeliest token of a place with its log-probability, the echo of the text up
to there with that token must give it the same one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from gptcli.engines.remote import schema
from gptcli.engines.remote.failures import REQUEST_STATUSES, status_of
from gptcli.engines.remote.inflight import PostStream, ServerTraits, estimate
from gptcli.engines.remote.wire import StatusError
from gptcli.errors import BadInput, GptcliError
from gptcli.protocol import (
    ChoiceLogprobs,
    Event,
    Likelihood,
    LoglikelihoodRequest,
    ModelInfo,
    Usage,
)

LIST_REFUSED = REQUEST_STATUSES | {500}  # what servers answer that take one prompt a request
PROBES = 3  # places that are checked
TOLERANCE = 0.25  # nats; 16-bit servers differ by less, other places by more


@dataclass(eq=False)
class ScoringInFlight:
    """A request for likelihoods."""

    request: LoglikelihoodRequest
    info: ModelInfo
    traits: ServerTraits
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
        if self.traits.scores_fault:
            raise schema.no_scores(self.traits.scores_fault)
        texts = [request.prompt + choice for choice in request.choices]
        pieces = await echoed(ask, self.info.name, texts, self.traits, self._count)
        for number, piece in enumerate(pieces):
            choice = request.choices[number]
            self._found[number] = schema.likelihood(request.prompt, choice, piece)
        await check(ask, self.info.name, pieces[0], self.traits)

    def _count(self, usage: Usage) -> None:
        counted = self._usage.prompt_tokens if self._usage else 0
        self._usage = Usage(prompt_tokens=counted + usage.prompt_tokens, completion_tokens=0)

    def finish(self, error: GptcliError | None = None, cancelled: bool = False) -> Iterator[Event]:
        """The ChoiceLogprobs; what the server refuses of it, it cannot do."""
        request = self.request
        if error and error.what.startswith("--server") and not self.traits.scores_checked:
            refused = isinstance(error, BadInput) or "status 500" in error.why
            error = schema.no_scores(error.why) if refused else error
        whole = error is None and not cancelled
        usage = Usage(prompt_tokens=0, completion_tokens=0)
        if whole:
            read = sum(estimate(request.prompt + choice) for choice in request.choices)
            usage = self._usage or Usage(prompt_tokens=read, completion_tokens=0, estimated=True)
        yield ChoiceLogprobs(
            id=request.id,
            prompt=request.prompt,
            choices=tuple(self._found[place] for place in sorted(self._found)) if whole else (),
            usage=usage,
            model=self.info.name,
            revision=None,
            error=error,
            notices=("cancelled",) if cancelled else (),
        )


async def echoed(
    ask: PostStream,
    model: str,
    texts: Sequence[str],
    traits: ServerTraits,
    count: Callable[[Usage], None] = lambda usage: None,
) -> list[schema.SequenceDelta]:
    """The echo of each text, in their order. Raises Unavailable where the server gives fewer."""
    found: dict[int, schema.SequenceDelta] = {}
    refused: StatusError | None = None
    if not traits.one_prompt:
        try:
            found = await _pieces(ask(schema.scoring_body(texts, model)), len(texts), count)
        except StatusError as error:
            if status_of(error) not in LIST_REFUSED or (status_of(error) == 500 and len(texts) < 2):
                raise
            refused = error
    for number, text in enumerate(texts):
        if number not in found and (found or refused or traits.one_prompt):
            alone = await _pieces(ask(schema.scoring_body(text, model)), 1, count)
            if 0 in alone:
                found[number] = alone[0]
                traits.one_prompt = True
    if len(found) < len(texts):
        raise schema.no_scores(f"it answered {len(found)} of {len(texts)} texts")
    return [found[number] for number in range(len(texts))]


async def _pieces(
    messages: AsyncGenerator[object, None], texts: int, count: Callable[[Usage], None]
) -> dict[int, schema.SequenceDelta]:
    """What an answer says of each text, by its number. Raises ValueError for a number too high."""
    found: dict[int, schema.SequenceDelta] = {}
    async with aclosing(messages):
        async for value in messages:
            message = schema.parse_message(value)
            if message.usage:
                count(message.usage)
            for piece in message.pieces:
                if not 0 <= piece.index < texts:
                    raise ValueError(f"a choice of index {piece.index}")
                found[piece.index] = piece
    return found


async def check(
    ask: PostStream, model: str, piece: schema.SequenceDelta, traits: ServerTraits
) -> None:
    """Hold an echo against that of its own likeliest tokens, once a server.

    A server that names no likeliest tokens cannot be checked. Raises Unavailable where they differ.
    """
    if traits.scores_checked or traits.scores_fault:
        return
    for text, token, logprob in schema.probes(piece, PROBES):
        [echo] = await echoed(ask, model, [text], traits)
        last = schema.last_token(echo, text)
        if last is None or last.token != token:  # joined to another token: it says nothing
            continue
        if not abs(last.logprob - logprob) <= TOLERANCE:
            traits.scores_fault = (
                f"it gives {token[:20]!r} the log-probability {logprob:.2f} and, asked again,"
                f" {last.logprob:.2f}"
            )
            raise schema.no_scores(traits.scores_fault)
    traits.scores_checked = True
