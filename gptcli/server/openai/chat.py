"""`/v1/chat/completions`: messages through the model's chat template, then as any completion.

GPT-2 has no template; it gets a transcript, as `gptcli chat` gives it. A conversation that does not
fit the context is refused, never cut.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gptcli.chat_templates import Template, Turn, choose
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
    read_stream_options,
)
from gptcli.server.openai.token_logprobs import ListedToken, chat_entry
from gptcli.server.refusals import bad_field
from gptcli.server.service import Service, new_id

MAX_TOP_LOGPROBS = 20  # OpenAI's
MAX_MESSAGES = 10_000
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
CHAT_UNSERVED = UNSERVED | {
    "tools": "the model calls no tools",
    "functions": "the model calls no functions",
    "audio": "the model writes text alone",
    "prediction": "predicted output is not used",
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
    modalities = body.get("modalities")
    if modalities not in (None, ["text"]):
        raise bad_field("modalities", "the model writes text alone")
    template = choose("auto", service.info.folder, service.name)
    prompt = template.prompt(*read_messages(body))
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
        where = f"messages[{place}]"
        if not isinstance(message, dict):
            raise bad_field(where, f"an object is needed, not {shown(message)}")
        role = message.get("role")
        if role not in ROLES:
            raise bad_field(f"{where}.role", f"{role!r:.50} is not one of {', '.join(ROLES)}")
        text = _content(message.get("content"), where)
        if ROLES[role] == "system":
            system.append(text)
        else:
            turns.append(Turn("user" if role == "user" else "assistant", text))
    if not turns or turns[-1].role != "user":
        raise bad_field("messages", "the last message is not the user's")
    return "\n".join(system) or None, tuple(turns)


def _content(content: object, where: str) -> str:
    """A text, or a list of parts that are texts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in content
    ):
        return "".join(part["text"] for part in content)
    raise bad_field(f"{where}.content", f"a text is needed, not {shown(content)}")


class ChatAnswer:
    """Follows the events of a job, and says what the client gets."""

    def __init__(self, call: ChatCall, service: Service) -> None:
        self.id, self._call, self._service = new_id("chatcmpl"), call, service
        self._tokenizer = service.engine.engine.tokenizer
        n = call.completion.asked
        self._texts = [""] * n
        self._scored: list[list[ListedToken]] = [[] for _ in range(n)]
        self._ends: list[str | None] = [None] * n
        self._prompt = self._cached = self._tokens = 0

    async def whole(self, job: ClientJob) -> dict[str, Any]:
        """The answer, once everything is written."""
        async for items in job.items():
            for item in items:
                self._take(item)
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text.strip()},
                "logprobs": self._logprobs(self._scored[index]),
                "finish_reason": self._ends[index],
            }
            for index, text in enumerate(self._texts)
        ]
        return self._shell("chat.completion", choices) | {"usage": self._usage()}

    async def pieces(self, job: ClientJob) -> AsyncIterator[list[dict[str, Any]]]:
        """The objects of a stream, as many at a time as are there."""
        asked = self._call.completion.include_usage
        async for items in job.items():
            found = [piece for item in items for piece in self._streamed(item)]
            shells = [self._shell("chat.completion.chunk", [piece]) for piece in found]
            if shells:
                yield [shell | {"usage": None} for shell in shells] if asked else shells
        if asked:
            yield [self._shell("chat.completion.chunk", []) | {"usage": self._usage()}]

    def _streamed(self, item: Any) -> list[dict[str, Any]]:
        if isinstance(item, PromptText):
            self._take(item)
            first = {"role": "assistant", "content": ""}
            return [self._piece(index, first) for index in range(len(self._texts))]
        index = item.event.index
        before, scored = self._texts[index], len(self._scored[index])
        self._take(item)
        new = self._texts[index][len(before) :]
        if not before.strip():  # white space before the reply is not a part of it
            new = new.lstrip()
        tokens = self._scored[index][scored:]
        end = self._ends[index]
        if not new and end is None and not (tokens and self._call.logprobs):
            return []
        return [self._piece(index, {"content": new} if new else {}, tokens, end)]

    def _take(self, item: Any) -> None:
        if isinstance(item, PromptText):
            self._prompt = item.tokens
        elif isinstance(item, Written):
            event, index = item.event, item.event.index
            if isinstance(event, Chunk):
                self._texts[index] += event.text
                self._scored[index] += [_token(token) for token in event.logprobs]
            else:
                self._end(index, event)

    def _end(self, index: int, event: Completion) -> None:
        known = len(self._scored[index])
        self._scored[index] += [_token(token) for token in (event.logprobs or ())[known:]]
        self._texts[index] = event.text
        self._ends[index] = FINISH[event.finish_reason]
        self._tokens += len(event.tokens)
        self._cached = max(self._cached, event.usage.cached_tokens)

    def _piece(
        self,
        index: int,
        delta: dict[str, Any],
        tokens: list[ListedToken] | None = None,
        end: str | None = None,
    ) -> dict[str, Any]:
        return {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(tokens) if tokens else None,
            "finish_reason": end,
        }

    def _logprobs(self, tokens: list[ListedToken]) -> dict[str, Any] | None:
        if not self._call.logprobs:
            return None
        return {"content": [chat_entry(self._tokenizer, token) for token in tokens]}

    def _shell(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self._service.created,
            "model": self._service.name,
            "system_fingerprint": self._service.fingerprint,
            "choices": choices,
        }

    def _usage(self) -> dict[str, Any]:
        return usage(self._prompt, self._tokens, self._cached)


def _token(found: TokenLogprob) -> ListedToken:
    return ListedToken(found.id, found.logprob, found.top)
