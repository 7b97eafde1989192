"""A generated sequence while it grows: decoding without tensors.

A Sequence takes one token after the other, returns the text that is certain, detects the end, and
becomes a Completion. Where the tokens come from is decided by the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gptcli.engines.decoding.detokenizer import Detokenizer
from gptcli.engines.decoding.request import EncodedGenerate
from gptcli.engines.decoding.sampler_state import SamplerState
from gptcli.errors import GptcliError
from gptcli.protocol import Chunk, Completion, Event, FinishReason, TokenLogprob


def new_sequences(encoded: EncodedGenerate) -> Iterator[Sequence]:
    """The sequences of a request, without a token yet."""
    for index in range(encoded.request.sampling.num_return_sequences):
        yield Sequence(encoded, index)


@dataclass(eq=False)
class Sequence:
    """One continuation of a prompt while it grows."""

    encoded: EncodedGenerate
    index: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: GptcliError | None = None
    cached: int = 0  # tokens of the prompt that were in the KV cache

    def __post_init__(self) -> None:
        encoded = self.encoded
        sampling = encoded.request.sampling
        self.sampler = SamplerState(
            sampling, encoded.seed, self.index, encoded.prompt_ids, encoded.rules
        )
        self._notices: tuple[str, ...] = ()
        self._detokenizer = Detokenizer(
            encoded.tokenizer, sampling.stop, encoded.prompt_ids, encoded.prompt_text
        )

    @property
    def length(self) -> int:
        """Tokens of prompt and continuation together."""
        return len(self.encoded.prompt_ids) + len(self.tokens)

    def push(self, token: int, logprob: TokenLogprob | None = None) -> Chunk:
        """Add a token. Sets `finish_reason` if it is the last one."""
        self.tokens.append(token)
        self.sampler.accept(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        text, rules = "", self.encoded.rules
        if token in rules.eos or token in rules.stops:
            self.finish_reason = "stop"
            words = self.encoded.tokenizer.roles.words
            if token in words and token not in rules.stops:  # the last word of the text
                text = self._detokenizer.push(token)
        else:
            text = self._detokenizer.push(token)
            if self._detokenizer.stopped:
                self.finish_reason = "stop"
            elif self.sampler.looping:
                self.finish_reason = "loop"
            elif len(self.tokens) >= self.encoded.new_token_limit:
                self.finish_reason = "length"
        if self.finish_reason:
            text += self._detokenizer.flush()
        return Chunk(
            id=self.encoded.request.id,
            index=self.index,
            text=text,
            tokens=(token,),
            logprobs=() if logprob is None else (logprob,),
        )

    def fail(self, error: GptcliError) -> Iterator[Event]:
        """End with an error; the text so far stays."""
        self.error = error
        yield from self._end("error")

    def give_up(self) -> Iterator[Event]:
        """End because every token is banned here."""
        self._notices += ("stopped early: --bad-words leaves no token to go on with",)
        yield from self._end("stop")

    def cancel(self) -> Iterator[Event]:
        """End with the finish reason `cancelled`."""
        yield from self._end("cancelled")

    def _end(self, reason: FinishReason) -> Iterator[Event]:
        """End without a further token: the text that was held back, then the completion."""
        self.finish_reason = reason
        rest = self._detokenizer.flush()
        if rest:
            yield Chunk(id=self.encoded.request.id, index=self.index, text=rest, tokens=())
        yield self.completion()

    def completion(self) -> Completion:
        """The finished sequence."""
        encoded = self.encoded
        request, sampling = encoded.request, encoded.request.sampling
        notices = encoded.notices + self._notices
        asked = sampling.new_token_limit(len(encoded.prompt_ids), 2**62)
        if self.finish_reason == "length" and encoded.new_token_limit < asked:
            notices += (
                f"stopped after {encoded.new_token_limit} new tokens, not {asked}:"
                f" the context of {encoded.info.name} is {encoded.info.context} with the prompt",
            )
        unknown = encoded.tokenizer.unseen_unknown(self.tokens)
        if unknown is not None:
            notices += (f"the model wrote {unknown} for what its vocabulary lacks: it has no text",)
        return Completion(
            id=request.id,
            index=self.index,
            prompt=request.prompt,
            text=self._detokenizer.text,
            tokens=tuple(self.tokens),
            finish_reason=self.finish_reason or "error",
            usage=encoded.usage(self.cached, len(self.tokens)),
            seed=encoded.seed,
            model=encoded.info.name,
            revision=encoded.info.revision,
            truncated=encoded.truncated,
            error=self.error,
            logprobs=None if sampling.logprobs is None else tuple(self.logprobs),
            notices=notices,
            unknown=encoded.unknown,
        )
