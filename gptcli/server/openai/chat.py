"""`/v1/chat/completions`: messages through the model's chat template, then as any completion.

GPT-2 has no template; it gets a transcript, as `gptcli chat` gives it. A conversation that does not
fit the context is refused, never cut.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any

from gptcli.chat_templates import Template, Turn
from gptcli.errors import BadModel
from gptcli.options import Sampling
from gptcli.protocol import Chunk, Completion, TokenLogprob
from gptcli.server.body import field, ranged, refuse_unserved, sampling, shown
from gptcli.server.engine_thread import ClientJob
from gptcli.server.openai.completion_answers import FINISH, usage
from gptcli.server.openai.completions import (
    UNSERVED,
    CompletionCall,
    PromptText,
    Written,
    ends,
    job_for,
    read_stream_options,
)
from gptcli.server.openai.token_logprobs import ListedToken, chat_entry
from gptcli.server.refusals import Refusal, bad_field
from gptcli.server.service import Service, new_id

MAX_TOP_LOGPROBS = 20  # OpenAI's
MAX_MESSAGES = 10_000
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
CHAT_UNSERVED = UNSERVED | {
    "tools": "the model calls no tools",
    "functions": "the model calls no functions",
    "audio": "the model writes text alone",
    "prediction": "predicted output is not used",
    "web_search_options": "the model searches nothing",
    "echo": "a conversation is not echoed; see /v1/completions",
    "best_of": 'ask for "n", or see /v1/completions',
    "prompt": "a conversation comes in messages; a text is for /v1/completions",
}
OTHER_ROLES = {
    "tool": "the model calls no tools",
    "function": "the model calls no functions",
}


@dataclass(frozen=True, kw_only=True)
class ChatCall:
    """A request, checked: the completion that it becomes."""

    completion: CompletionCall
    logprobs: bool


def read_chat(body: Mapping[str, Any], service: Service) -> ChatCall:
    """Check a request. Raises Refusal, naming the field."""
    service.check_model(field(body, "model", str))
    refuse_unserved(body, CHAT_UNSERVED)
    field(body, "user", str)
    if body.get("modalities") not in (None, ["text"]):
        raise bad_field("modalities", "the model writes text alone")
    system, turns = read_messages(body)
    template = service.template
    try:
        with service.rendering:
            prompt = template.prompt(system, turns)
    except BadModel as error:  # it refuses this conversation: another works
        raise bad_field("messages", f"{error.what}: {error.why}") from None
    stream = field(body, "stream", bool, default=False)
    logprobs = field(body, "logprobs", bool, default=False)
    top = ranged(body, "top_logprobs", None, 0, MAX_TOP_LOGPROBS)
    if top is not None and not logprobs:
        raise bad_field("top_logprobs", 'it is for "logprobs": true')
    n = ranged(body, "n", 1, 1, service.limits.sequences)
    chosen = _sampling(body, template, service, n, (top or 0) if logprobs else None)
    call = CompletionCall(
        prompts=(prompt,),
        sampling=chosen,
        max_tokens=chosen.max_new_tokens or 1,
        n=n,
        asked=n,
        stream=stream,
        include_usage=read_stream_options(body, stream),
    )
    return ChatCall(completion=call, logprobs=logprobs)


def chat_job(call: ChatCall, service: Service) -> ClientJob:
    """The work for the engine. Raises Refusal, of the field that this route has."""
    try:
        return job_for(call.completion, service)
    except Refusal as refusal:
        raise _of_messages(refusal) from None


def _of_messages(refusal: Refusal) -> Refusal:
    """The same, where what is wrong with the prompt is wrong with the messages."""
    return replace(refusal, param="messages") if refusal.param == "prompt" else refusal


def _sampling(
    body: Mapping[str, Any], template: Template, service: Service, n: int, logprobs: int | None
) -> Sampling:
    """How the reply is written; without a limit it may fill the context."""
    name = "max_completion_tokens"
    most = ranged(body, name if body.get(name) is not None else "max_tokens", None, 1, 10**9)
    most = service.info.context if most is None else most
    settings = ends(body, most, service)
    chosen = sampling(
        body, num_return_sequences=n, max_new_tokens=most, logprobs=logprobs, **settings
    )
    return replace(chosen, stop=tuple(dict.fromkeys((*chosen.stop, *template.stop))))


def read_messages(body: Mapping[str, Any]) -> tuple[str | None, tuple[Turn, ...]]:
    """The system's text, and the turns. Raises Refusal."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_field("messages", f"a list of messages is needed, not {shown(messages)}")
    if len(messages) > MAX_MESSAGES:
        raise bad_field("messages", f"{len(messages)} messages; at most {MAX_MESSAGES}")
    system: list[str] = []
    turns: list[Turn] = []
    for place, message in enumerate(messages):
        role, text = _message(message, f"messages[{place}]")
        if role == "system":
            system.append(text)
        else:
            turns.append(Turn("user" if role == "user" else "assistant", text))
    if not turns:
        raise bad_field("messages", "there is no message of the user's")
    if turns[-1].role != "user":
        why = "the last message is the assistant's; /v1/completions can continue a text"
        raise bad_field("messages", why)
    return "\n".join(system) or None, tuple(turns)


def _message(message: object, where: str) -> tuple[str, str]:
    """A message's role, user, assistant or system, and its text. Raises Refusal."""
    if not isinstance(message, dict):
        raise bad_field(where, f"an object is needed, not {shown(message)}")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        known = OTHER_ROLES.get(role) if isinstance(role, str) else None
        why = known or f"{role!r:.50} is not one of {', '.join(ROLES)}"
        raise bad_field(f"{where}.role", why)
    for name in ("tool_calls", "function_call", "audio"):
        if message.get(name) not in (None, []):
            raise bad_field(f"{where}.{name}", "the model reads text alone")
    return ROLES[role], _content(message.get("content"), f"{where}.content")


def _content(content: object, where: str) -> str:
    """A text, or a list of parts that are texts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise bad_field(where, f"a text is needed, not {shown(content)}")
    return "".join(_part(part, f"{where}[{place}]") for place, part in enumerate(content))


def _part(part: object, where: str) -> str:
    if not isinstance(part, dict):
        raise bad_field(where, f"an object is needed, not {shown(part)}")
    kind = part.get("type")
    if kind not in ("text", "refusal"):  # the latter: of an assistant elsewhere
        raise bad_field(f"{where}.type", f"{kind!r:.50} is no text, and the model reads text alone")
    text = part.get(kind)
    if not isinstance(text, str):
        raise bad_field(f"{where}.{kind}", f"a text is needed, not {shown(text)}")
    return text


@dataclass
class _Reply:
    """One of the replies while it is written.

    White space around it is not a part of it: a transcript's reply begins with a space, and often
    ends in line breaks. So white space is held back until a word follows it.
    """

    written: str = ""
    given: int = 0  # characters of the text that were sent
    scored: list[ListedToken] = dataclass_field(default_factory=list)
    end: str | None = None

    @property
    def text(self) -> str:
        """The reply so far; no later text changes it."""
        return self.written.strip()

    def take(self, event: Chunk | Completion) -> tuple[str, list[ListedToken]]:
        """Record an event; the text and the tokens that are new."""
        known = len(self.scored)
        if isinstance(event, Chunk):
            self.written += event.text
            self.scored += map(_token, event.logprobs)
        else:
            self.scored += map(_token, (event.logprobs or ())[known:])
            self.written = event.text
            self.end = FINISH[event.finish_reason]
        new = self.text[self.given :]
        self.given += len(new)
        return new, self.scored[known:]


class ChatAnswer:
    """Follows the events of a job, and says what the client gets."""

    def __init__(self, call: ChatCall, service: Service) -> None:
        self.id, self.created = new_id("chatcmpl"), int(time.time())
        self._call, self._service = call, service
        self._tokenizer = service.engine.engine.tokenizer
        self._replies = [_Reply() for _ in range(call.completion.asked)]
        self._prompt = self._cached = self._tokens = 0

    async def whole(self, job: ClientJob) -> dict[str, Any]:
        """The answer, once everything is written."""
        async for items in self._items(job):
            for item in items:
                self._take(item)
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": reply.text, "refusal": None},
                "logprobs": self._logprobs(reply.scored),
                "finish_reason": reply.end,
            }
            for index, reply in enumerate(self._replies)
        ]
        return self._shell("chat.completion", choices) | {"usage": self._usage()}

    async def pieces(self, job: ClientJob) -> AsyncIterator[list[dict[str, Any]]]:
        """The objects of a stream, as many at a time as are there."""
        asked = self._call.completion.include_usage
        async for items in self._items(job):
            found = [piece for item in items for piece in self._streamed(item)]
            shells = [self._shell("chat.completion.chunk", [piece]) for piece in found]
            if shells:
                yield [shell | {"usage": None} for shell in shells] if asked else shells
        if asked:
            yield [self._shell("chat.completion.chunk", []) | {"usage": self._usage()}]

    async def _items(self, job: ClientJob) -> AsyncIterator[list[Any]]:
        """What the job sends. Raises what ends it, of the field that this route has."""
        try:
            async for items in job.items():
                yield items
        except Refusal as refusal:
            raise _of_messages(refusal) from None

    def _streamed(self, item: Any) -> Iterator[dict[str, Any]]:
        text, tokens = self._take(item)
        if isinstance(item, PromptText):
            first = {"role": "assistant", "content": "", "refusal": None}
            yield from (self._piece(index, first) for index in range(len(self._replies)))
        elif isinstance(item, Written):
            index = item.event.index
            if text or (tokens and self._call.logprobs):
                yield self._piece(index, {"content": text}, tokens)
            if (end := self._replies[index].end) is not None:
                yield self._piece(index, {}, end=end)

    def _take(self, item: Any) -> tuple[str, list[ListedToken]]:
        """Record an item; the text and the tokens of a reply that are new."""
        if isinstance(item, PromptText):
            self._prompt = item.tokens
        elif isinstance(item, Written):
            if isinstance(item.event, Completion):
                self._tokens += item.event.usage.completion_tokens
                self._cached = max(self._cached, item.event.usage.cached_tokens)
            return self._replies[item.event.index].take(item.event)
        return "", []

    def _piece(
        self,
        index: int,
        delta: dict[str, Any],
        tokens: Sequence[ListedToken] = (),
        end: str | None = None,
    ) -> dict[str, Any]:
        return {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(tokens) if tokens else None,
            "finish_reason": end,
        }

    def _logprobs(self, tokens: Sequence[ListedToken]) -> dict[str, Any] | None:
        if not self._call.logprobs:
            return None
        content = [chat_entry(self._tokenizer, token) for token in tokens]
        return {"content": content, "refusal": None}

    def _shell(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self._service.name,
            "system_fingerprint": self._service.fingerprint,
            "choices": choices,
        }

    def _usage(self) -> dict[str, Any]:
        return usage(self._prompt, self._tokens, self._cached)


def _token(found: TokenLogprob) -> ListedToken:
    return ListedToken(found.id, found.logprob, found.top)
