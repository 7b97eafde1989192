"""Write on beyond the model's context: the window moves on by whole sentences.

When the context is full, the next request reads the last whole sentences and goes on from there. So
the text is as long as asked for, and the model no longer sees its beginning. Window k has the seed
plus k: the same seed writes the same text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from gptcli.errors import UsageError
from gptcli.moderation.told import joined, moved
from gptcli.options import DEFAULT_NEW_TOKENS, SEED_LIMIT, Sampling
from gptcli.options.shared import ASKED
from gptcli.options.spec import Options, option
from gptcli.protocol import (
    Chunk,
    Completion,
    Engine,
    Event,
    GenerateRequest,
    TextOrIds,
    Usage,
)
from gptcli.system.text.sentences import WORD, sentences

TOKEN_CHARACTERS = 32  # no window has more characters a token, on average
_INCOMPLETE = "\ufffd"  # what a character becomes whose last byte is in the next window


@dataclass(frozen=True, kw_only=True)
class Writing(Options):
    """How a text is begun, and whether it may outgrow the context."""

    panel = "Input"

    ids: bool = option(False, "--ids", "The prompt is token ids, such as 464 2068 7586.", rare=True)
    continue_: bool = option(
        False,
        "--continue",
        "Write on beyond the model's context.",
        redeclares="it continues a text, not a conversation",
    )
    edit: bool = option(
        False,
        "--edit",
        "Write the prompt in $VISUAL or $EDITOR.",
        instead=ASKED,
        rare=True,
    )


def check(sampling: Sampling) -> None:
    """Raises UsageError for settings that `--continue` does not go with."""
    for flag, given in (
        ("--num-return-sequences", sampling.num_return_sequences > 1),
        ("--num-beams", sampling.num_beams > 1),
        ("--logprobs", sampling.logprobs is not None),
        ("--max-length", sampling.max_length is not None),
    ):
        if given:
            raise UsageError("--continue", f"does not go with {flag}", "Leave one of them out.")


def written(engine: Engine, request: GenerateRequest, beyond: bool = False) -> Iterator[Event]:
    """The events of one request, which may be longer than the context.

    It may be if `beyond`, or if more new tokens are asked for by `max_new_tokens` than fit beside
    the prompt. Then the chunks of all windows come, and one Completion of the whole. Any other
    request is run as it is.
    """
    sampling, context = request.sampling, engine.info.context
    single = sampling.num_return_sequences == sampling.num_beams == 1 and sampling.logprobs is None
    wanted = sampling.max_new_tokens
    if not single or sampling.max_length is not None or not (beyond or wanted):
        return (yield from engine.run([request]))
    size, wanted = _size(engine, request.prompt), wanted or DEFAULT_NEW_TOKENS
    if size + wanted <= context or (size >= context and not beyond):
        return (yield from engine.run([request]))
    yield from _Windows(engine, request, wanted).run(size)


def _size(engine: Engine, prompt: TextOrIds) -> int:
    """A prompt's length in tokens."""
    return engine.count(prompt) if isinstance(prompt, str) else len(prompt)


class _Windows:
    """One text written through several windows; after a prompt of ids they are ids, too."""

    def __init__(self, engine: Engine, request: GenerateRequest, wanted: int) -> None:
        self._engine, self._request, self._left = engine, request, wanted
        self._stop = request.sampling.stop
        self._text = ""  # given out so far
        self._held = ""  # what may begin a stop string, or be half a character
        self._tokens: list[int] = []
        self._parts: list[Completion] = []

    def run(self, size: int) -> Iterator[Event]:
        """The chunks of all windows, and the completion; `size` is the prompt's, in tokens."""
        context, window = self._engine.info.context, self._request.prompt
        if size >= context:
            window = self._moved(window)
        dropped = size - _size(self._engine, window)
        while True:
            room = context - _size(self._engine, window)
            yield from self._window(window, max(min(self._left, room), 1))
            done = self._parts[-1]
            self._left -= done.usage.completion_tokens
            if done.finish_reason != "length" or self._left < 1 or not done.tokens:
                break
            self._held = self._held.rstrip(_INCOMPLETE)
            window = self._moved(self._all())
        if self._held:
            yield self._given_out(self._held, ())
        yield self._whole(size, dropped)

    def _all(self) -> TextOrIds:
        """The prompt and what was written."""
        prompt = self._request.prompt
        if isinstance(prompt, str):
            return prompt + self._text + self._held
        return (*prompt, *self._tokens)

    def _window(self, prompt: TextOrIds, tokens: int) -> Iterator[Event]:
        """Run one window; its completion is put to `_parts`."""
        number, seed = len(self._parts), self._request.sampling.seed
        if number:
            seed = ((self._parts[0].seed or 0) + number) % SEED_LIMIT
        sampling = self._request.sampling
        written = sum(part.usage.completion_tokens for part in self._parts)
        least = max(sampling.min_new_tokens - written, 0)
        request = replace(
            self._request,
            id=f"{self._request.id}.{number}" if number else self._request.id,
            prompt=prompt,
            goes_on=tokens < self._left,
            sampling=replace(sampling, max_new_tokens=tokens, min_new_tokens=least, seed=seed),
            on_overflow="error",
        )
        stopped = False
        for event in self._engine.run([request]):
            if isinstance(event, Completion):
                reason = "stop" if stopped else event.finish_reason
                self._parts.append(replace(event, finish_reason=reason))
            elif isinstance(event, Chunk) and not stopped:
                self._tokens += event.tokens
                text, stopped = self._free(event.text)
                yield self._given_out(text, event.tokens)
                if stopped:
                    self._engine.cancel(request.id)

    def _free(self, text: str) -> tuple[str, bool]:
        """What can be given out now, and whether a stop string ended the text."""
        text = self._held + text
        found = min((place for stop in self._stop if (place := text.find(stop)) >= 0), default=-1)
        if found >= 0:
            self._held = ""
            return text[:found], True
        end = len(text.rstrip(_INCOMPLETE))
        for stop in self._stop:
            sizes = range(min(len(stop) - 1, len(text)), 0, -1)
            end = min(end, len(text) - next((n for n in sizes if text.endswith(stop[:n])), 0))
        self._held = text[end:]
        return text[:end], False

    def _given_out(self, text: str, tokens: tuple[int, ...]) -> Chunk:
        self._text += text
        return Chunk(id=self._request.id, index=0, text=text, tokens=tokens)

    def _moved(self, text: TextOrIds) -> TextOrIds:
        """The last whole sentences of `text`, or ids, that leave room for what is to come."""
        context = self._engine.info.context
        limit = context - max(min(self._left, context // 2), 1)
        if not isinstance(text, str):
            return text[-limit:]
        text = text[-limit * TOKEN_CHARACTERS :]
        for starts in (
            [start for start, _ in sentences(text)],
            [word.start() for word in WORD.finditer(text)],
            range(len(text)),
        ):
            place = self._first_fitting(text, starts, limit)
            if place < len(starts):
                return text[starts[place] :]
        return text[-1:]

    def _first_fitting(self, text: str, starts: Sequence[int], limit: int) -> int:
        return bisect_left(
            starts, True, key=lambda start: self._engine.count(text[start:]) <= limit
        )

    def _whole(self, size: int, dropped: int) -> Completion:
        first, last = self._parts[0], self._parts[-1]
        notices = dict.fromkeys(notice for part in self._parts for notice in part.notices)
        if len(self._parts) > 1 or dropped:
            info = self._engine.info
            notice = f"the text is longer than the {info.context} tokens that {info.name} can read"
            notices[f"{notice}: its beginning is no longer seen"] = None
        written = sum(part.usage.completion_tokens for part in self._parts)
        begun = accumulate((len(part.text) for part in self._parts), initial=0)
        filtered = (moved(part.filter, at) for part, at in zip(self._parts, begun, strict=False))
        return replace(
            first,
            id=self._request.id,
            prompt=self._request.prompt,
            text=self._text,
            tokens=tuple(self._tokens),
            finish_reason=last.finish_reason,
            usage=Usage(prompt_tokens=size, completion_tokens=written),
            truncated=dropped,
            error=last.error,
            notices=tuple(notices),
            filter=joined(filtered),
        )
