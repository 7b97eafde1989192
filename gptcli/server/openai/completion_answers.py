"""The answers of `/v1/completions`: one object, or a stream of them.

Both are made of the same events, so the pieces of a stream join to the whole answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gptcli.engines.decoding.detokenizer import Detokenizer
from gptcli.protocol import Chunk, Completion, TokenLogprob
from gptcli.server.engine_thread import ClientJob
from gptcli.server.openai.completions import CompletionCall, PromptScores, PromptText, Written
from gptcli.server.openai.prompts import EncodedPrompt
from gptcli.server.openai.text_places import TextPlaces
from gptcli.server.openai.token_logprobs import LegacyLogprobs, ListedToken
from gptcli.server.service import Service, new_id

FINISH = {
    "stop": "stop",
    "length": "length",
    "loop": "stop",
    "cancelled": "stop",
    "content_filter": "content_filter",
}


@dataclass
class _Choice:
    """A sequence of a prompt while it is written."""

    index: int
    names: LegacyLogprobs
    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None
    scored: list[ListedToken] = field(default_factory=list)

    @property
    def likelihood(self) -> float:
        """The mean log-probability of its tokens, by which the best of several is chosen."""
        known = [token.logprob for token in self.scored if token.logprob is not None]
        return sum(known) / len(known) if known else 0.0


@dataclass
class _PromptState:
    encoded: EncodedPrompt
    cached: int = 0
    scores: PromptScores | None = None
    choices: list[_Choice] = field(default_factory=list)
    held: list[Written] | None = None  # what came before the prompt's scores


class CompletionAnswer:
    """Follows the events of a job, and says what the client gets."""

    def __init__(self, call: CompletionCall, service: Service) -> None:
        self.id, self.call, self._service = new_id("cmpl"), call, service
        self._created = int(time.time())
        self._tokenizer = service.engine.engine.tokenizer
        self._prompts: list[_PromptState] = []

    async def whole(self, job: ClientJob) -> dict[str, Any]:
        """The answer, once everything is written."""
        async for items in job.items():
            for item in items:
                for _ in self._take(item):
                    pass
        choices = []
        for number, prompt in enumerate(self._prompts):
            best = sorted(prompt.choices, key=lambda choice: -choice.likelihood)
            kept = prompt.choices if self.call.n == self.call.asked else best[: self.call.n]
            choices += [
                self._whole_choice(number * self.call.n + place, prompt, choice)
                for place, choice in enumerate(kept)
            ]
            await asyncio.sleep(0)  # a thousand prompts with scores are a second of work
        return self._shell(choices) | {"usage": self._usage()}

    async def pieces(self, job: ClientJob) -> AsyncIterator[list[dict[str, Any]]]:
        """The objects of a stream, as many at a time as are there."""
        async for items in job.items():
            if found := [self._shell([piece]) for item in items for piece in self._take(item)]:
                yield [one | {"usage": None} for one in found] if self.call.include_usage else found
        if self.call.include_usage:
            yield [self._shell([]) | {"usage": self._usage()}]

    def _take(self, item: Any) -> Iterator[dict[str, Any]]:
        """Record an item of the job; the pieces of a stream that it gives."""
        if isinstance(item, PromptText):
            yield from self._begin(item)
        elif isinstance(item, PromptScores):
            yield from self._scored(item)
        elif isinstance(item, Written):
            yield from self._written(self._prompts[item.prompt], item)

    def _written(self, prompt: _PromptState, item: Written) -> Iterator[dict[str, Any]]:
        if prompt.held is not None:
            prompt.held.append(item)
            return
        choice = prompt.choices[item.event.index]
        if isinstance(item.event, Chunk):
            yield from self._chunk(choice, item.event)
        else:
            yield from self._end(prompt, choice, item.event)

    def _begin(self, item: PromptText) -> Iterator[dict[str, Any]]:
        state = _PromptState(item.encoded, held=[] if self.call.scores_prompts else None)
        self._prompts.append(state)
        text, given = self._echoed(state), item.encoded
        for place in range(self.call.asked):
            start = len(text) if self.call.echo else 0
            places = TextPlaces(self._tokenizer, start, given.ids, given.text, given.begun)
            names = LegacyLogprobs(self._tokenizer, self.call.as_ids, places)
            state.choices.append(_Choice(item.prompt * self.call.asked + place, names))
        if self.call.scores_prompts:
            return
        if self.call.echo:
            yield from (self._piece(choice, text, ()) for choice in state.choices)
        if not self.call.max_tokens:
            yield from self._nothing_more(state)

    def _echoed(self, state: _PromptState) -> str:
        """A prompt's text, without a character that what is written begins with."""
        return state.encoded.before if self.call.max_tokens else state.encoded.text

    def _scored(self, item: PromptScores) -> Iterator[dict[str, Any]]:
        """The prompt's scores: every choice begins with them."""
        state = self._prompts[item.prompt]
        state.scores, state.cached = item, item.cached
        held, state.held = state.held or (), None
        text, offsets = self._echoed(state), state.encoded.offsets
        for choice in state.choices:
            yield self._piece(choice, text, item.tokens, offsets=offsets)
        if item.next is not None:
            yield self._one_token(state, state.choices[0], item.next)
        elif not self.call.max_tokens:
            yield from self._nothing_more(state)
        for written in held:
            yield from self._written(state, written)

    def _one_token(
        self, state: _PromptState, choice: _Choice, token: ListedToken
    ) -> dict[str, Any]:
        """The one token that came with the prompt's scores."""
        roles = self._tokenizer.roles
        ends = token.id in roles.ends
        found = Detokenizer(self._tokenizer, (), state.encoded.ids, state.encoded.text)
        choice.text = found.push(token.id) if not ends or token.id in roles.words else ""
        choice.text += found.flush()
        choice.finish_reason = "stop" if ends else "length"
        choice.tokens, choice.scored = 1, [token]
        return self._piece(choice, choice.text, choice.scored, choice.finish_reason)

    def _nothing_more(self, state: _PromptState) -> Iterator[dict[str, Any]]:
        for choice in state.choices:
            choice.finish_reason = "length"
            yield self._piece(choice, "", (), "length")

    def _chunk(self, choice: _Choice, event: Chunk) -> Iterator[dict[str, Any]]:
        scored = [_token(token) for token in event.logprobs]
        choice.text += event.text
        choice.scored += scored
        choice.tokens += len(event.tokens)
        if event.text or (scored and self.call.logprobs is not None):
            yield self._piece(choice, event.text, scored)

    def _end(
        self, prompt: _PromptState, choice: _Choice, event: Completion
    ) -> Iterator[dict[str, Any]]:
        choice.finish_reason = FINISH[event.finish_reason]
        rest = event.text[len(choice.text) :]
        scored = [_token(token) for token in (event.logprobs or ())[len(choice.scored) :]]
        choice.text, choice.tokens = event.text, event.usage.completion_tokens
        choice.scored += scored
        prompt.cached = max(prompt.cached, event.usage.cached_tokens)
        yield self._piece(choice, rest, scored, choice.finish_reason)

    def _piece(
        self,
        choice: _Choice,
        text: str,
        scored: Sequence[ListedToken],
        finish_reason: str | None = None,
        offsets: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """A piece of a choice in a stream."""
        if not self.call.stream:
            return {}
        asked = self.call.logprobs is not None
        return {
            "index": choice.index,
            "text": text,
            "logprobs": choice.names.lists(scored, offsets) if asked else None,
            "finish_reason": finish_reason,
        }

    def _whole_choice(self, index: int, prompt: _PromptState, choice: _Choice) -> dict[str, Any]:
        logprobs = None
        if self.call.logprobs is not None:
            logprobs = choice.names.lists(choice.scored)
            if prompt.scores is not None:
                given = choice.names.lists(prompt.scores.tokens, prompt.encoded.offsets)
                logprobs = {name: given[name] + written for name, written in logprobs.items()}
        return {
            "index": index,
            "text": (self._echoed(prompt) if self.call.echo else "") + choice.text,
            "logprobs": logprobs,
            "finish_reason": choice.finish_reason,
        }

    def _shell(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self._created,
            "model": self._service.name,
            "system_fingerprint": self._service.fingerprint,
            "choices": choices,
        }

    def _usage(self) -> dict[str, Any]:
        prompts = sum(len(prompt.encoded.ids) for prompt in self._prompts)
        written = sum(choice.tokens for prompt in self._prompts for choice in prompt.choices)
        cached = sum(prompt.cached for prompt in self._prompts)
        return usage(prompts, written, cached)


def usage(prompt: int, written: int, cached: int) -> dict[str, Any]:
    """Token counts in OpenAI's shape."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": min(cached, prompt)},
    }


def _token(found: TokenLogprob) -> ListedToken:
    return ListedToken(found.id, found.logprob, found.top)
