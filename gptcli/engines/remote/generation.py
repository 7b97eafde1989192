"""Continuations in flight: turns the server's messages into Chunks and Completions.

Text is given out as it arrives, up to the first stop string. Stop strings are watched for here too,
because servers take only four. What broke off is asked for again, unless some of it was shown
already. A server that ignores or refuses `n` is asked for each text by itself. Where it does not
count tokens, or only those of n sequences together, the counts are estimates, and say so.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from gptcli.engines.decoding.detokenizer import StopStrings
from gptcli.engines.remote import schema
from gptcli.engines.remote.failures import REQUEST_STATUSES, CutOff, status_of
from gptcli.engines.remote.inflight import PostStream, ServerTraits, estimate
from gptcli.engines.remote.wire import StatusError
from gptcli.errors import GptcliError
from gptcli.protocol import (
    Chunk,
    Completion,
    Event,
    FinishReason,
    GenerateRequest,
    ModelInfo,
    TextOrIds,
    TokenLogprob,
    Usage,
)

MIN_TELLING_CHARACTERS = 20  # of texts that random sampling would hardly write twice
_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}
SEED_STEP, SEED_RANGE = 0x9E3779B1, 2**31  # far apart, also from the seeds of a batch's next rows


@dataclass(eq=False)
class PartialSequence:
    """One sequence so far, by one try."""

    index: int
    seed: int
    text: StopStrings
    begun: bool = False  # whether anything was said of it
    finish: str | None = None  # the server's word
    usage: Usage | None = None  # the server's, of this sequence alone
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A server may cut a character into two JSON escapes; and half of one is no text.
        self._characters = codecs.getincrementaldecoder("utf-16-le")(errors="replace")

    @property
    def given(self) -> str:
        """The text that is certain."""
        return self.text.text

    @property
    def done(self) -> bool:
        """Whether nothing more is wanted of it."""
        return self.text.stopped or self.finish is not None

    def push(self, piece: schema.SequenceDelta) -> str:
        """Take a piece; returns the text that became certain.

        Raises ValueError for a log-probability that is none.
        """
        if self.done:
            return ""
        if any(math.isnan(item.logprob) for item in piece.logprobs):
            raise ValueError("a log-probability that is no number")
        self.begun = True
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
        if self.text.stopped:
            return "stop"
        return _REASONS.get(self.finish or "", "stop")


@dataclass(eq=False)
class GenerationInFlight:
    """A request for continuations; `seed` is that of its first sequence."""

    request: GenerateRequest
    info: ModelInfo
    traits: ServerTraits
    seed: int
    emit: Callable[[Event], None]
    begun: bool = False

    def __post_init__(self) -> None:
        self._greedy = self.request.sampling.effective_temperature == 0
        self._count = self.request.sampling.num_return_sequences
        self._sequences = [self._fresh(index) for index in range(self._count)]
        self._shared: Usage | None = None  # the server's count of all sequences together

    def _fresh(self, index: int, seed: int | None = None) -> PartialSequence:
        seed = self.seed if seed is None else seed
        return PartialSequence(index, seed, StopStrings(self.request.sampling.stop))

    def _renew(self, index: int, seed: int | None = None) -> PartialSequence:
        """Begin a sequence anew, unless it is done."""
        if not self._sequences[index].done:
            self._sequences[index] = self._fresh(index, seed)
        return self._sequences[index]

    async def send(self, ask: PostStream) -> None:
        """See `InFlight`."""
        if self._greedy or self._count == 1 or not self.traits.one_text:
            await self._ask_together(ask)
        for index in range(self._count):
            if not self._sequences[index].done:
                await self._ask_alone(ask, index)

    async def _ask_together(self, ask: PostStream) -> None:
        """Ask for all sequences at once. Afterwards each is done, or the server ignores `n`."""
        for index in range(self._count):
            self._renew(index)
        body = schema.generation_body(self.request, self.info.name, self.seed)
        try:
            await self._read(ask(body), self._sequences)
        except StatusError as error:
            if "n" not in body or status_of(error) not in REQUEST_STATUSES:
                raise
            return
        unfinished = [one for one in self._sequences if not one.done]
        if len(unfinished) == self._count or any(one.begun for one in unfinished):
            raise CutOff
        if unfinished:  # so the counts are those of what there is
            self.traits.one_text = True
            done = [one for one in self._sequences if one.done]
            done[0].usage = self._shared if len(done) == 1 else None
            self._shared = None

    async def _ask_alone(self, ask: PostStream, index: int) -> None:
        """Ask for one sequence, with a seed of its own."""
        seed = (self.seed + index * SEED_STEP) % SEED_RANGE if index else self.seed
        sequence = self._renew(index, seed)
        body = schema.generation_body(self.request, self.info.name, seed)
        body.pop("n", None)
        await self._read(ask(body), [sequence])
        if not sequence.done:
            raise CutOff
        self.traits.one_text = self.traits.one_text or self._count > 1

    async def _read(
        self, messages: AsyncGenerator[object, None], sequences: list[PartialSequence]
    ) -> None:
        """Take the messages of an answer for these sequences."""
        async with aclosing(messages):
            async for value in messages:
                message = schema.parse_message(value)
                if message.usage:
                    self._take_usage(message.usage, sequences)
                for piece in message.pieces:
                    self._take(piece, sequences)
                if all(sequence.text.stopped for sequence in sequences):
                    return  # a stop string the server did not know: the rest is not wanted

    def _take_usage(self, usage: Usage, sequences: list[PartialSequence]) -> None:
        if len(sequences) > 1 and not self._greedy:
            self._shared = usage
            return
        for sequence in sequences:
            sequence.usage = usage

    def _take(self, piece: schema.SequenceDelta, sequences: list[PartialSequence]) -> None:
        """Take a piece of one sequence; a greedy text is that of all of them."""
        meant = sequences if self._greedy else sequences[piece.index : piece.index + 1]
        if piece.index < 0 or not meant:
            raise ValueError(f"a choice of index {piece.index}")
        for sequence in meant:
            before = len(sequence.logprobs)
            text = sequence.push(piece)
            self._give(sequence.index, text, tuple(sequence.logprobs[before:]))

    def _give(self, index: int, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """Give out what became certain, if anybody sees it."""
        if self.request.shown and (text or logprobs):
            self.begun = True
            id = self.request.id
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
        begun = any(one.given or one.logprobs for one in self._sequences)
        for sequence in self._sequences if begun or error is None else self._sequences[:1]:
            whole = sequence.done
            if not whole and (rest := sequence.flush()) and self.request.shown:
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
            text=sequence.given,
            tokens=(),
            finish_reason=reason,
            usage=self._usage(sequence),
            seed=sequence.seed,
            model=self.info.name,
            revision=None,
            error=error,
            logprobs=None if sampling.logprobs is None else self._cut(tuple(sequence.logprobs)),
            notices=(*sampling.notices, *self._notices(sequence)),
        )

    def _notices(self, sequence: PartialSequence) -> Iterator[str]:
        if sequence.finish not in (None, "stop", "length"):
            yield f"the server ended a text by {sequence.finish[:30]!r}"
        asked = self.request.sampling.logprobs is not None
        if asked and sequence.given and not sequence.logprobs:
            yield "the server gave no log-probabilities"
        if sequence.index == 1 and not self._greedy and self._all_equal():
            yield f"all {self._count} texts are equal: the server ignores temperature or seed"

    def _all_equal(self) -> bool:
        """Whether all texts are the same, and too long for that to be chance."""
        texts = {one.given for one in self._sequences if one.done}
        return len(texts) == 1 and len(texts.pop()) >= MIN_TELLING_CHARACTERS

    def _usage(self, sequence: PartialSequence) -> Usage:
        """The server's count of this sequence; else that of its tokens, or an estimate.

        Where nothing arrived, nothing was counted.
        """
        written, counted = len(sequence.logprobs), sequence.usage
        if counted and (counted.completion_tokens or not sequence.given):
            return counted
        if not (sequence.begun or sequence.given):
            prompt = self._shared.prompt_tokens if self._shared else 0
            return Usage(prompt_tokens=prompt, completion_tokens=0)
        known = self._shared or counted
        return Usage(
            prompt_tokens=known.prompt_tokens if known else _size(self.request.prompt),
            completion_tokens=written or estimate(sequence.given),
            estimated=known is None or not written,
        )


def _size(prompt: TextOrIds) -> int:
    """The tokens of a prompt: of a text an estimate."""
    return estimate(prompt) if isinstance(prompt, str) else len(prompt)
