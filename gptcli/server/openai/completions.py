"""`/v1/completions`: the legacy route, complete, over the same requests as the commands.

A prompt that is echoed with log-probabilities is a RollingRequest, the same that `gptcli score`
asks; the continuation is a GenerateRequest. Where one greedy token is asked for, as benchmarks do,
the first of these gives both. Choices are numbered prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    token_ids,
)
from gptcli.server.engine_thread import ClientJob, Send
from gptcli.server.openai.prompts import EncodedPrompt, Prompt, encode_prompts, read_prompts
from gptcli.server.openai.token_logprobs import ListedToken
from gptcli.server.refusals import bad_field
from gptcli.server.service import Service

DEFAULT_TOKENS = 16  # OpenAI's
MAX_LOGPROBS = 100
MAX_LISTED = 2**21  # log-probabilities in one answer
PLAIN = Sampling()
SAME_GREEDY = (  # options that do not change the first greedy token
    *("temperature", "greedy", "top_k", "top_p", "min_p", "typical_p", "seed"),
    *("presence_penalty", "frequency_penalty"),  # of tokens that are written
    *("max_new_tokens", "num_return_sequences", "logprobs"),
)
UNSERVED = {
    "suffix": "text can only be continued, not filled in",
    "use_beam_search": "there is no beam search here; see gptcli generate --num-beams",
    "truncate_prompt_tokens": "prompts are never cut",
    "prompt_logprobs": 'ask for "echo" and "logprobs"',
    "response_format": "texts follow no schema here",
    "structured_outputs": "texts follow no schema here",
    "guided_json": "texts follow no schema here",
    "guided_regex": "texts follow no pattern here",
    "guided_choice": "texts follow no pattern here",
    "guided_grammar": "texts follow no grammar here",
    "grammar": "texts follow no grammar here",
    "json_schema": "texts follow no schema here",
    "bad_words": 'ask for "logit_bias"',
    "allowed_token_ids": 'ask for "logit_bias"',
    "logits_processors": "code of clients is not run",
    "include_stop_str_in_output": "texts end before the stop string",
    "repeat_penalty": 'it is called "repetition_penalty" here',
    "mirostat": "this sampler does not exist here",
    "xtc_probability": "this sampler does not exist here",
    "dry_multiplier": "this sampler does not exist here",
    "n_probs": 'it is called "logprobs" here',
    "n_predict": 'it is called "max_tokens" here',
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
    def scores_prompts(self) -> bool:
        """Whether the prompts' tokens are scored."""
        return self.echo and self.logprobs is not None

    @property
    def one_greedy_token(self) -> bool:
        """Whether the prompt's scores already say what is written."""
        plain = replace(self.sampling, **{name: getattr(PLAIN, name) for name in SAME_GREEDY})
        greedy = self.sampling.effective_temperature == 0
        one = self.max_tokens == 1 and self.asked == 1
        return self.scores_prompts and one and greedy and plain == PLAIN


def read_call(body: Mapping[str, Any], service: Service) -> CompletionCall:
    """Check a request. Raises Refusal, naming the field."""
    service.check_model(field(body, "model", str))
    refuse_unserved(body, UNSERVED)
    field(body, "user", str)
    prompts = read_prompts(body.get("prompt"), service.info)
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
    """A prompt, before anything else of it."""

    prompt: int
    encoded: EncodedPrompt

    @property
    def tokens(self) -> int:
        """How many it has."""
        return len(self.encoded.ids)


@dataclass(frozen=True)
class Written:
    """An event of a prompt's sequences."""

    prompt: int
    event: Chunk | Completion


def job_for(call: CompletionCall, service: Service) -> ClientJob:
    """Encode the prompts; the job sends PromptText, PromptScores, Written. Raises Refusal."""
    _check_bias(call, service.info.vocabulary)
    prompts = encode_prompts(
        call.prompts,
        service.engine.engine.tokenizer,
        service.info.context,
        new=int(call.max_tokens > 0 and not call.one_greedy_token),
        places=call.scores_prompts,
    )
    _check_size(call, prompts, service.info.context)
    return ClientJob(
        lambda send, ids: _Asking(call, prompts, send, ids).exchange(),
        sum(len(prompt.ids) for prompt in prompts),
    )


def _check_bias(call: CompletionCall, known: int) -> None:
    for id, _ in call.sampling.logit_bias:
        if len(id) > len(str(known)) or int(id) >= known:
            raise bad_field("logit_bias", f"{id[:20]} is no token id of this model")


def _check_size(call: CompletionCall, prompts: Sequence[EncodedPrompt], context: int) -> None:
    """Refuse an answer that no memory would hold."""
    if (listed := call.sampling.logprobs) is None:
        return
    echoed = call.n if call.echo else 0
    tokens = sum(
        echoed * len(prompt.ids) + call.asked * min(call.max_tokens, context - len(prompt.ids))
        for prompt in prompts
    )
    if tokens * (listed + 1) > MAX_LISTED:
        why = f"the answer may hold {tokens} tokens, each with {listed + 1} log-probabilities"
        raise bad_field("logprobs", f"{why}; at most {MAX_LISTED} are served")


class _Asking:
    """On the engine's thread: the requests for a call."""

    def __init__(
        self,
        call: CompletionCall,
        prompts: Sequence[EncodedPrompt],
        send: Send,
        ids: Iterator[str],
    ) -> None:
        self._call, self._prompts, self._send, self._ids = call, prompts, send, ids
        self._of: dict[str, int] = {}  # the prompt of each request

    def exchange(self) -> Exchange[None]:
        """Ask for all prompts, and send on what comes."""
        for number, prompt in enumerate(self._prompts):
            self._send(PromptText(number, prompt))
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

    def _requests(self) -> Iterator[Request]:
        call = self._call
        for number, prompt in enumerate(self._prompts):
            if call.scores_prompts:
                yield self._scoring(number, prompt.ids)
            if call.max_tokens and not call.one_greedy_token:
                id = next(self._ids)
                self._of[id] = number
                yield GenerateRequest(id=id, prompt=call.prompts[number], sampling=call.sampling)

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
        ids, top = self._prompts[number].ids, self._call.logprobs or 0
        scored = event.tokens[: len(ids) - 1]
        found = [ListedToken(ids[0], None)]
        found += [ListedToken(token.id, token.logprob, token.top[:top]) for token in scored]
        following = None
        if self._call.one_greedy_token:
            likeliest = event.tokens[-1].top
            following = ListedToken(likeliest[0].id, likeliest[0].logprob, likeliest[:top])
        return PromptScores(number, tuple(found), following, event.usage.cached_tokens)
