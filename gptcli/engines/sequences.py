"""A request made ready, and its sequences while they grow: the part of an engine without tensors.

`accept` turns a Request into a Job: tokens, limits, seed, compiled rules. A Sequence takes one
token after the other, says what text became certain and when the end is reached, and becomes a
Completion. How tokens come about is the engine's business.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from gptcli.engines.rows import Row, Rules, compile_rules
from gptcli.engines.textstream import TextStream
from gptcli.errors import BadInput, GptcliError, UsageError
from gptcli.options import DEFAULT_NEW_TOKENS
from gptcli.results import (
    Chunk,
    Completion,
    Event,
    FinishReason,
    Measured,
    ModelInfo,
    Request,
    Score,
    TokenLogprob,
    Usage,
    Window,
    refused,
    unmeasured,
)
from gptcli.tokenization import Tokenizer


@dataclass(frozen=True, eq=False)
class Job:
    """A request made ready: what all its sequences share."""

    request: Request
    info: ModelInfo
    tokenizer: Tokenizer
    prompt: tuple[int, ...]
    truncated: int  # tokens of the prompt that were cut
    room: int  # new tokens that the limits and the context allow, at least 1
    seed: int
    rules: Rules
    notices: tuple[str, ...] = ()
    choices: tuple[tuple[int, ...], ...] = ()  # to be scored, instead of writing

    @property
    def mute(self) -> int:
        """How many of the prompt's tokens, from its beginning, need no logits."""
        window = self.request.window
        return window.first - 1 if window else len(self.prompt) - 1

    def sequences(self) -> Iterator[Sequence]:
        """The sequences asked for, not yet begun."""
        for index in range(self.request.sampling.num_return_sequences):
            yield Sequence(self, index)


def accept(
    request: Request, tokenizer: Tokenizer, info: ModelInfo, eos: tuple[int, ...], beams: bool
) -> Job | Completion | Score | Measured:
    """The request made ready, or the event that says why it cannot be.

    `beams`: whether the engine can do beam search.
    """
    try:
        if request.sampling.num_beams > 1 and not beams:
            raise UsageError(
                "--num-beams", "the model was opened without beam search", "Say load(beams=True)"
            )
        if request.window:
            return _windowed(request, request.window, tokenizer, info)
        return prepare(request, tokenizer, info, eos)
    except GptcliError as error:
        if request.window:
            return unmeasured(request, error, info)
        if request.choices:
            return Score(
                id=request.id,
                prompt=request.prompt,
                choices=(),
                usage=Usage(prompt_tokens=0, completion_tokens=0),
                model=info.name,
                revision=info.revision,
                error=error,
            )
        return refused(request, error, info)


def prepare(request: Request, tokenizer: Tokenizer, info: ModelInfo, eos: tuple[int, ...]) -> Job:
    """Encode the prompt, fit it into the context and fix the seed.

    An empty prompt begins with the end-of-text token, as GPT-2's training documents did. Raises
    BadInput for a prompt that does not fit, UsageError for a bias on what is no token.
    """
    sampling = request.sampling
    choices = _encoded(request, tokenizer, info)
    if choices:
        # The last token of a choice is predicted, not read; of one token, nothing is.
        limit = info.context + 2 - max(map(len, choices))
    else:
        limit = min(info.context, sampling.max_length or info.context)
    if request.on_overflow == "error":
        _refuse_by_size(request, tokenizer, limit, info)
    tokens = tokenizer.encode(request.prompt) or [eos[0] if eos else 0]
    length, notices = len(tokens), list(sampling.notices)
    if length >= limit:
        tokens = _fitted(request, tokens, limit, info)
        side = "beginning" if request.on_overflow == "truncate-left" else "end"
        why = _allowed(request, limit, info)
        notices.append(f"prompt of {length} tokens cut to {len(tokens)} at its {side}: {why}")
    return Job(
        request=request,
        info=info,
        tokenizer=tokenizer,
        prompt=tuple(tokens),
        truncated=length - len(tokens),
        room=sampling.room(len(tokens), info.context),
        seed=secrets.randbits(32) if sampling.seed is None else sampling.seed,
        rules=compile_rules(sampling, tokenizer.encode, info.vocabulary, eos),
        notices=tuple(notices),
        choices=choices,
    )


def _windowed(request: Request, window: Window, tokenizer: Tokenizer, info: ModelInfo) -> Job:
    """A window made ready: its last token is not read. Raises BadInput for one that cannot be."""
    if not 1 <= window.first < len(window.ids):
        why = f"of {len(window.ids)} tokens those from {window.first} on are to be measured"
        raise BadInput("window", why, "Give at least one token, and one before it")
    if len(window.ids) > info.context + 1:
        why = f"it has {len(window.ids)} tokens, but the context of {info.name} is {info.context}"
        raise BadInput("window too long", why, "Cut the text into several")
    named = [ids for ids in (window.ids, *window.among) if ids]
    if min(map(min, named)) < 0 or max(map(max, named)) >= info.vocabulary:
        why = f"the ids of {info.name} are 0 to {info.vocabulary - 1}"
        raise BadInput("window", why, "Encode the text with this model's tokenizer")
    return Job(
        request=request,
        info=info,
        tokenizer=tokenizer,
        prompt=window.ids[:-1],
        truncated=0,
        room=1,
        seed=0,
        rules=Rules((), (), ()),
    )


def _encoded(
    request: Request, tokenizer: Tokenizer, info: ModelInfo
) -> tuple[tuple[int, ...], ...]:
    """The tokens of a request's choices. Raises BadInput for one that is empty or too long."""
    choices = tuple(tuple(tokenizer.encode(text, bare=True)) for text in request.choices)
    for text, ids in zip(request.choices, choices, strict=True):
        if not ids:
            raise BadInput("choice", "it is empty", "Give at least one character")
        if len(ids) > info.context:
            shown = text[:30] + "..." if len(text) > 30 else text
            raise BadInput(
                f"choice {shown!r}",
                f"it has {len(ids)} tokens, but the context of {info.name} is {info.context}",
                "Shorten it",
            )
    return choices


def _fitted(request: Request, tokens: list[int], limit: int, info: ModelInfo) -> list[int]:
    """Cut a prompt so that the new tokens asked for, or half the limit, still fit."""
    wanted = 1 if request.choices else request.sampling.max_new_tokens or DEFAULT_NEW_TOKENS
    keep = limit - min(wanted, limit // 2)
    if request.on_overflow == "error" or keep == limit:
        raise _too_long(f"{len(tokens)} tokens", request, limit, info)
    return tokens[-keep:] if request.on_overflow == "truncate-left" else tokens[:keep]


def _refuse_by_size(request: Request, tokenizer: Tokenizer, limit: int, info: ModelInfo) -> None:
    """Refuse what cannot fit, however it is tokenised, without tokenising megabytes."""
    characters = len(request.prompt)  # a character is at least a byte
    if characters > 64 * limit and characters > limit * tokenizer.longest:
        raise _too_long(f"more than {characters // tokenizer.longest} tokens", request, limit, info)


def _too_long(size: str, request: Request, limit: int, info: ModelInfo) -> BadInput:
    included = "the longest choice" if request.choices else "new ones"
    return BadInput(
        "prompt too long",
        f"it has {size}, but {_allowed(request, limit, info)}, {included} included",
        "Shorten it, or cut it with --on-overflow truncate-left or truncate-right",
    )


def _allowed(request: Request, limit: int, info: ModelInfo) -> str:
    if limit < info.context and not request.choices:
        return f"--max-length allows {limit}"
    return f"the context of {info.name} is {info.context}"


@dataclass(eq=False)
class Sequence:
    """One continuation while it grows."""

    job: Job
    index: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: GptcliError | None = None
    cached: int = 0  # tokens of the prompt that did not have to be computed

    def __post_init__(self) -> None:
        job = self.job
        self.row = Row(job.request.sampling, job.seed, self.index, job.prompt, job.rules)
        self._stream = TextStream(job.tokenizer, job.request.sampling.stop)

    @property
    def length(self) -> int:
        """Tokens of prompt and continuation together."""
        return len(self.job.prompt) + len(self.tokens)

    def push(self, token: int, logprob: TokenLogprob | None = None) -> Chunk:
        """Add a token; `finish_reason` is set when it was the last."""
        self.tokens.append(token)
        self.row.accept(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        text = ""
        if token in self.job.rules.eos:
            self.finish_reason = "stop"
        else:
            text = self._stream.push(token)
            if self._stream.stopped:
                self.finish_reason = "stop"
            elif self.row.looping:
                self.finish_reason = "loop"
            elif len(self.tokens) >= self.job.room:
                self.finish_reason = "length"
        if self.finish_reason:
            text += self._stream.flush()
        return Chunk(
            id=self.job.request.id,
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
            yield Chunk(id=self.job.request.id, index=self.index, text=rest, tokens=())
        yield self.completion()

    def completion(self) -> Completion:
        """The finished sequence."""
        job = self.job
        request, sampling = job.request, job.request.sampling
        notices = job.notices
        asked = sampling.room(len(job.prompt), 2**62)
        if self.finish_reason == "length" and job.room < asked:
            notices += (
                f"stopped after {job.room} new tokens, not {asked}:"
                f" the context of {job.info.name} is {job.info.context} with the prompt",
            )
        return Completion(
            id=request.id,
            index=self.index,
            prompt=request.prompt,
            text=self._stream.text,
            tokens=tuple(self.tokens),
            finish_reason=self.finish_reason or "error",
            usage=Usage(
                prompt_tokens=len(job.prompt),
                completion_tokens=len(self.tokens),
                cached_tokens=self.cached,
            ),
            seed=job.seed,
            model=job.info.name,
            revision=job.info.revision,
            truncated=job.truncated,
            error=self.error,
            logprobs=None if sampling.logprobs is None else tuple(self.logprobs),
            notices=notices,
        )
