"""The sequences of a request while they grow: the part of decoding without tensors.

A Sequence takes one token after the other, says what text became certain and when the end is
reached, and becomes a Completion. How tokens come about is the engine's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gptcli.engines.decoding.detokenizer import Detokenizer
from gptcli.engines.decoding.request import EncodedGenerate
from gptcli.engines.decoding.sampler_state import SamplerState
from gptcli.errors import GptcliError
from gptcli.protocol import Chunk, Completion, Event, FinishReason, TokenLogprob, Usage


def sequences(encoded: EncodedGenerate) -> Iterator[Sequence]:
    """The sequences that a request asks for, not yet begun."""
    for index in range(encoded.request.sampling.num_return_sequences):
        yield Sequence(encoded, index)


@dataclass(eq=False)
class Sequence:
    """One continuation while it grows."""

    encoded: EncodedGenerate
    index: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: GptcliError | None = None
    cached: int = 0  # tokens of the prompt that did not have to be computed

    def __post_init__(self) -> None:
        encoded = self.encoded
        sampling = encoded.request.sampling
        self.row = SamplerState(
            sampling, encoded.seed, self.index, encoded.prompt_ids, encoded.rules
        )
        self._stream = Detokenizer(encoded.tokenizer, sampling.stop)

    @property
    def length(self) -> int:
        """Tokens of prompt and continuation together."""
        return len(self.encoded.prompt_ids) + len(self.tokens)

    def push(self, token: int, logprob: TokenLogprob | None = None) -> Chunk:
        """Add a token; `finish_reason` is set when it was the last."""
        self.tokens.append(token)
        self.row.accept(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        text = ""
        if token in self.encoded.rules.eos:
            self.finish_reason = "stop"
        else:
            text = self._stream.push(token)
            if self._stream.stopped:
                self.finish_reason = "stop"
            elif self.row.looping:
                self.finish_reason = "loop"
            elif len(self.tokens) >= self.encoded.room:
                self.finish_reason = "length"
        if self.finish_reason:
            text += self._stream.flush()
        return Chunk(
            id=self.encoded.request.id,
            index=self.index,
            text=text,
            tokens=(token,),
            logprobs=() if logprob is None else (logprob,),
        )

    def fail(self, error: GptcliError) -> Iterator[Event]:
        """End with an error; what was written so far stays."""
        self.error = error
        yield from self._end("error")

    def cancel(self) -> Iterator[Event]:
        """End because the caller asked for it."""
        yield from self._end("cancelled")

    def _end(self, reason: FinishReason) -> Iterator[Event]:
        """End without a token: what was held back, if anything, and the completion."""
        self.finish_reason = reason
        rest = self._stream.flush()
        if rest:
            yield Chunk(id=self.encoded.request.id, index=self.index, text=rest, tokens=())
        yield self.completion()

    def completion(self) -> Completion:
        """The finished sequence."""
        encoded = self.encoded
        request, sampling = encoded.request, encoded.request.sampling
        notices = encoded.notices
        asked = sampling.room(len(encoded.prompt_ids), 2**62)
        if self.finish_reason == "length" and encoded.room < asked:
            notices += (
                f"stopped after {encoded.room} new tokens, not {asked}:"
                f" the context of {encoded.info.name} is {encoded.info.context} with the prompt",
            )
        return Completion(
            id=request.id,
            index=self.index,
            prompt=request.prompt,
            text=self._stream.text,
            tokens=tuple(self.tokens),
            finish_reason=self.finish_reason or "error",
            usage=Usage(
                prompt_tokens=len(encoded.prompt_ids),
                completion_tokens=len(self.tokens),
                cached_tokens=self.cached,
            ),
            seed=encoded.seed,
            model=encoded.info.name,
            revision=encoded.info.revision,
            truncated=encoded.truncated,
            error=self.error,
            logprobs=None if sampling.logprobs is None else tuple(self.logprobs),
            notices=notices,
        )
