"""`/v1/completions`: the legacy route, complete, over the same requests as the commands.

A prompt that is echoed with log-probabilities is a RollingRequest, the same that `gptcli score`
asks; the continuation is a GenerateRequest. Where one greedy token is asked for, as benchmarks do,
the first of these gives both. Choices are numbered prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gptcli.errors import GptcliError
from gptcli.multiplex import Exchange, Unanswered
from gptcli.options import Sampling
from gptcli.protocol import (
    Chunk,
    Completion,
    GenerateRequest,
    Request,
    RollingRequest,
    Window,
    WindowLogprobs,
)
from gptcli.server.body import (
    field,
    ranged,
    refuse_unserved,
    sampling,
    shown,
    token_ids,
)
from gptcli.server.engine_thread import ClientJob, Send
from gptcli.server.openai.token_logprobs import ListedToken
from gptcli.server.refusals import Refusal, bad_field
from gptcli.server.service import Service

Prompt = str | tuple[int, ...]
DEFAULT_TOKENS = 16  # OpenAI's
MAX_LOGPROBS = 100
CHARACTERS_A_TOKEN = 4  # about, to bound what waits before anything is encoded
UNSERVED = {
    "suffix": "text can only be continued, not filled in",
    "use_beam_search": "there is no beam search here; see gptcli generate --num-beams",
    "truncate_prompt_tokens": "prompts are never cut",
    "prompt_logprobs": 'ask for "echo" and "logprobs"',
    "response_format": "texts follow no schema here",
    "bad_words": 'ask for "logit_bias"',
    "allowed_token_ids": 'ask for "logit_bias"',
}


@dataclass(frozen=True, kw_only=True)
class CompletionCall:
    """A request, checked; `asked` sequences of each prompt are written, the best `n` are given."""

    prompts: tuple[Prompt, ...]
    sampling: Sampling
    max_tokens: int
    n: int = 1
    asked: int = 1
    echo: bool = False
    logprobs: int | None = None
    stream: bool = False
    include_usage: bool = False
    as_ids: bool = False

    @property
    def tokens(self) -> int:
        """About how many tokens the prompts have."""
        return sum(
            len(prompt) // (CHARACTERS_A_TOKEN if isinstance(prompt, str) else 1) + 1
            for prompt in self.prompts
        )

    @property
    def scores_prompts(self) -> bool:
        """Whether the prompts' tokens are scored."""
        return self.echo and self.logprobs is not None

    @property
    def one_greedy_token(self) -> bool:
        """Whether the prompt's scores already say what is written."""
        plain = Sampling(temperature=0.0, seed=self.sampling.seed)
        chosen = self.sampling
        return (
            self.scores_prompts
            and self.max_tokens == 1
            and self.asked == 1
            and chosen.effective_temperature == 0
            and (chosen.repetition_penalty, chosen.logit_bias, chosen.stop)
            == (plain.repetition_penalty, (), ())
            and not chosen.min_new_tokens
            and not chosen.no_repeat_ngram_size
        )


def read_call(body: Mapping[str, Any], service: Service) -> CompletionCall:
    """Check a request. Raises Refusal, naming the field."""
    service.check_model(field(body, "model", str))
    refuse_unserved(body, UNSERVED)
    prompts = read_prompts(body.get("prompt"), service)
    n = ranged(body, "n", 1, 1, service.limits.sequences)
    best_of = ranged(body, "best_of", n, 1, service.limits.sequences)
    stream = field(body, "stream", bool, default=False)
    logprobs = read_logprobs(body)
    max_tokens = ranged(body, "max_tokens", DEFAULT_TOKENS, 0, 10**9)
    if best_of < n:
        raise bad_field("best_of", f"{best_of} is less than n, {n}")
    if best_of > n and stream:
        raise bad_field("best_of", "the best texts are known at the end, so none can be streamed")
    if len(prompts) * best_of > service.limits.sequences:
        most = service.limits.sequences
        raise bad_field("n", f"{len(prompts)} prompts with {best_of} texts each; at most {most}")
    kept = None if logprobs is None and best_of == n else logprobs or 0
    chosen = sampling(
        body,
        num_return_sequences=best_of,
        max_new_tokens=max(max_tokens, 1),
        logprobs=kept,
        **ends(body, max_tokens, service),
    )
    return CompletionCall(
        prompts=prompts,
        sampling=chosen,
        max_tokens=max_tokens,
        n=n,
        asked=best_of,
        echo=field(body, "echo", bool, default=False),
        logprobs=logprobs,
        stream=stream,
        include_usage=read_stream_options(body, stream),
        as_ids=field(body, "return_tokens_as_token_ids", bool, default=False),
    )


def ends(body: Mapping[str, Any], max_tokens: int, service: Service) -> dict[str, Any]:
    """The options that say which tokens end a text."""
    found: dict[str, Any] = {}
    if field(body, "ignore_eos", bool, default=False):
        found["min_new_tokens"] = max(max_tokens, 1)
    if ids := token_ids(body, "stop_token_ids"):
        if wrong := [id for id in ids if not 0 <= id < service.info.vocabulary]:
            raise bad_field("stop_token_ids", f"{wrong[0]} is no token id of this model")
        found["stop_token_id"] = ids
    return found


def read_stream_options(body: Mapping[str, Any], stream: bool) -> bool:
    """Whether a stream ends with its usage. Raises Refusal."""
    options = field(body, "stream_options", dict)
    if options is None:
        return False
    if not stream:
        raise bad_field("stream_options", 'it is for "stream": true')
    return bool(field(options, "include_usage", bool, default=False))


def read_logprobs(body: Mapping[str, Any]) -> int | None:
    """How many likeliest tokens are given with each; true, as some clients send, is one."""
    if body.get("logprobs") is True:
        return 1
    if body.get("logprobs") is False:
        return None
    found: int | None = ranged(body, "logprobs", None, 0, MAX_LOGPROBS)
    return found


def read_prompts(given: object, service: Service) -> tuple[Prompt, ...]:
    """A text, ids, or a list of texts or of ids; none is the beginning of a text."""
    if given is None or given == "":
        begin = service.engine.engine.tokenizer.roles.begin
        if begin is None:
            raise bad_field("prompt", "it is empty, and the model has no token that begins a text")
        return ((begin,),)
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list) or not given:
        raise bad_field("prompt", f"a string or a list is needed, not {shown(given) or 'nothing'}")
    if all(type(item) is int for item in given):
        return (_ids(given, service),)
    return tuple(_prompt(item, service) for item in given)


def _prompt(item: object, service: Service) -> Prompt:
    if isinstance(item, str) and item:
        return item
    if isinstance(item, list) and item and all(type(id) is int for id in item):
        return _ids(item, service)
    if item in ("", []):
        raise bad_field("prompt", "one of the prompts is empty")
    raise bad_field("prompt", f"texts or lists of token ids are needed, not {shown(item)}")


def _ids(ids: list[int], service: Service) -> tuple[int, ...]:
    known = service.info.vocabulary
    wrong = next((id for id in ids if not 0 <= id < known), None)
    if wrong is not None:
        raise bad_field(
            "prompt", f"{str(wrong)[:30]} is no token id of this model, 0 to {known - 1}"
        )
    return tuple(ids)


@dataclass(frozen=True)
class PromptScores:
    """The scores of a prompt's tokens: `tokens` are those of the prompt, `next` the likeliest one
    after it, where that is all that was asked for."""

    prompt: int
    tokens: tuple[ListedToken, ...]
    next: ListedToken | None
    cached: int = 0


@dataclass(frozen=True)
class PromptText:
    """The text and the number of tokens of a prompt, before anything else of it."""

    prompt: int
    text: str
    tokens: int


@dataclass(frozen=True)
class Written:
    """An event of a prompt's sequences."""

    prompt: int
    event: Chunk | Completion


def job_for(call: CompletionCall, service: Service) -> ClientJob:
    """The work for the engine; it sends PromptText, PromptScores, Written."""
    return ClientJob(lambda send, ids: _Asking(call, service, send, ids).exchange(), call.tokens)


class _Asking:
    """On the engine's thread: the requests for a call."""

    def __init__(
        self, call: CompletionCall, service: Service, send: Send, ids: Iterator[str]
    ) -> None:
        self._call, self._send, self._ids = call, send, ids
        self._tokenizer = service.engine.engine.tokenizer
        self._context = service.info.context
        self._prompts: list[tuple[int, ...]] = []
        self._of: dict[str, int] = {}  # the prompt of each request

    def exchange(self) -> Exchange[None]:
        """Ask for all prompts, and send on what comes."""
        self._encode()
        requests = list(self._requests())
        waiting = Unanswered()
        for request in requests:
            waiting.add(request)
        left, asked = len(requests), iter(requests)
        pending: Iterable[Request] = asked
        while left:
            event = yield pending
            pending = ()
            if isinstance(event, Chunk):
                self._send(Written(self._of[event.id], event))
                continue
            if event.error is not None:
                raise event.error
            self._take(event)
            left -= bool(waiting.take(event))

    def _encode(self) -> None:
        """Encode the prompts, all before anything is written."""
        for number, prompt in enumerate(self._call.prompts):
            text = prompt if isinstance(prompt, str) else self._tokenizer.decode(prompt)
            ids = tuple(self._tokenizer.encode(text)) if isinstance(prompt, str) else prompt
            if len(ids) > self._context:
                why = f"the prompt has {len(ids)} tokens, the model's context is {self._context}"
                raise Refusal(400, why, param="prompt", code="context_length_exceeded")
            self._prompts.append(ids)
            self._send(PromptText(number, text, len(ids)))

    def _requests(self) -> Iterator[Request]:
        call = self._call
        for number, ids in enumerate(self._prompts):
            if call.scores_prompts:
                yield self._scoring(number, ids)
            if call.max_tokens and not call.one_greedy_token:
                id = next(self._ids)
                self._of[id] = number
                yield GenerateRequest(id=id, prompt=ids, sampling=call.sampling)

    def _scoring(self, number: int, ids: tuple[int, ...]) -> RollingRequest:
        """The request for a prompt's scores; one token more where that is what is written."""
        more = (0,) if self._call.one_greedy_token else ()
        id = next(self._ids)
        self._of[id] = number
        top = max(self._call.logprobs or 0, 1)
        if len(ids) + len(more) < 2:
            more = (0,)  # a window scores at least one token
        return RollingRequest(id=id, window=Window(ids + more, top=top))

    def _take(self, event: object) -> None:
        if isinstance(event, Completion):
            self._send(Written(self._of[event.id], event))
        elif isinstance(event, WindowLogprobs):
            self._send(self._scores(self._of[event.id], event))
        else:
            raise GptcliError("completion", f"an unexpected {type(event).__name__}")

    def _scores(self, number: int, event: WindowLogprobs) -> PromptScores:
        ids, top = self._prompts[number], self._call.logprobs or 0
        scored = event.tokens[: len(ids) - 1]
        found = [ListedToken(ids[0], None)]
        found += [ListedToken(token.id, token.logprob, token.top[:top]) for token in scored]
        following = None
        if self._call.one_greedy_token:
            likeliest = event.tokens[-1].top
            following = ListedToken(likeliest[0].id, likeliest[0].logprob, likeliest[:top])
        return PromptScores(number, tuple(found), following, event.usage.cached_tokens)
