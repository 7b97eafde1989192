"""A conversation with a model: turns, one request for each reply, undo and retry.

A reply is one `Engine.run`. Its prompt begins with the last prompt and reply, so the engine finds
those tokens in its KV cache and computes only the new ones. A turn that fails leaves the
conversation unchanged. A cancelled turn keeps the text so far. When the context is full, the prompt
drops whole exchanges, oldest first. It drops more than it must, because each cut empties the KV
cache. Not here: the terminal is in `gptcli.cli.commands.chat`, files are in `gptcli.chat.saved`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gptcli.chat_templates import Template, Turn
from gptcli.checkpoints.tokenization.text.unknown import UnknownCharacters
from gptcli.errors import BadInput, UsageError
from gptcli.options import DEFAULT_NEW_TOKENS, SEED_LIMIT, Sampling
from gptcli.protocol import Chunk, Completion, Engine, GenerateRequest

REFILL = 3, 4  # share of the room for the prompt that is filled after a cut: numerator, denominator


def check_sampling(sampling: Sampling) -> Sampling:
    """Return `sampling`. Raises UsageError for settings that a conversation does not support."""
    for flag, wrong, why in (
        ("--num-return-sequences", sampling.num_return_sequences > 1, "a message has one reply"),
        ("--num-beams", sampling.num_beams > 1, "a beam search writes nothing until it is done"),
        ("--logprobs", sampling.logprobs is not None, "a conversation does not show them"),
    ):
        if wrong:
            raise UsageError(flag, why, "Leave it out, or use gptcli generate.")
    return sampling


class Conversation:
    """The turns so far, and the engine that writes the next one; see `reply`.

    `sampling` can be set at any time. `completion` belongs to the last reply.
    """

    def __init__(
        self, engine: Engine, template: Template, sampling: Sampling, system: str | None = None
    ) -> None:
        self.engine, self.template, self.system = engine, template, system
        self.turns: tuple[Turn, ...] = ()  # exchanges: the user's turn, then the model's
        self.completion: Completion | None = None
        self._sampling = check_sampling(sampling)
        self._first = 0  # index of the first turn in the prompt
        self._tries = 0  # retries of the last message
        self._alternatives: list[Turn] = []  # all replies to the last message, in order
        self._shelf: list[_State] = []  # what `restore` replaced
        self._replies = 0  # each has its own id: a late cancel() cannot hit the next
        self._written = ""  # text of the current reply
        self._notices: list[str] = []
        self._said: set[str] = set()
        self._unknown: set[str] = set()  # parts that the vocabulary lacks, told already

    @property
    def sampling(self) -> Sampling:
        """How replies are written."""
        return self._sampling

    @sampling.setter
    def sampling(self, sampling: Sampling) -> None:
        self._sampling = check_sampling(sampling)

    def reply(self, message: str) -> Iterator[str]:
        """Send `message` and yield the reply piece by piece, without white space around it.

        Raises BadInput for a message that is empty or does not fit the context, BadModel for a
        template or weights that do not work; then the turns are unchanged. A reply that is
        cancelled, or not read to its end, keeps the text so far, unless it is empty.
        """
        if not message.strip():
            raise BadInput("empty message", "there is nothing to reply to", "Say something.")
        self._tries, self._alternatives = 0, []
        yield from self._exchange(self.turns, message)

    def retry(self) -> Iterator[str]:
        """Replace the last reply by another one. With a seed, each try adds 1 to it.

        Raises UsageError without a turn, and what `reply` raises; then the last reply stays.
        """
        if not self.turns:
            raise UsageError("/retry", "nothing was said yet", "Say something first.")
        if self.sampling.effective_temperature == 0:
            self._notice("the temperature is 0, so the reply is the same: /set temperature 0.8")
        if not self._alternatives:  # of a conversation that was loaded
            self._alternatives = [self.turns[-1]]
        self._tries += 1
        yield from self._exchange(self.turns[:-2], self.turns[-2].content)

    def rephrase(self, message: str) -> Iterator[str]:
        """Replace the last exchange by `message` and its reply. `bring_back` undoes it.

        Raises what `reply` raises; then the last exchange stays.
        """
        before, system = self.turns, self.system
        if not message.strip():
            raise BadInput("empty message", "there is nothing to reply to", "Say something.")
        self._tries, self._alternatives = 0, []
        yield from self._exchange(before[:-2], message)
        if before:
            self._shelf.append(_State(before, system, self.turns))

    @property
    def alternatives(self) -> tuple[Turn, ...]:
        """All replies to the last message, oldest first; one unless `retry` made more."""
        return tuple(self._alternatives) or self.turns[-1:]

    def choose(self, number: int) -> Turn:
        """Take the alternative of this number, from 1, as the last reply. Raises UsageError."""
        there = self.alternatives
        if not 1 <= number <= len(there):
            raise UsageError("/alt", f"there is no reply {number}", "/alt lists the replies.")
        self.turns = (*self.turns[:-1], there[number - 1])
        return self.turns[-1]

    def revise(self, reply: str) -> None:
        """Put `reply` in place of the last reply, which stays an alternative. Raises UsageError."""
        if not self.turns:
            raise UsageError("/edit", "nothing was said yet", "Say something first.")
        self._alternatives = [*self.alternatives, Turn("assistant", reply.strip())]
        self.choose(len(self._alternatives))

    def undo(self) -> str:
        """Remove the last exchange and return its message. Raises UsageError without one."""
        if not self.turns:
            raise UsageError("/undo", "nothing was said yet", "Say something first.")
        message = self.turns[-2].content
        # Older turns that were dropped can fit again.
        self.turns, self._first, self._tries = self.turns[:-2], 0, 0
        self._alternatives = []
        return message

    def bring_back(self) -> bool:
        """Undo the last `clear` or `restore`, unless something was said since.

        Returns False if there is nothing to bring back.
        """
        if not self._shelf or self._shelf[-1].then != self.turns:
            return False
        state = self._shelf.pop()
        self._put(state.turns, state.system)
        return True

    def clear(self) -> None:
        """Remove all turns. The system text stays."""
        self.restore((), self.system)

    def restore(self, turns: Sequence[Turn], system: str | None) -> None:
        """Continue from other turns: exchanges, the user's turn first. See `bring_back`."""
        if self.turns:
            self._shelf.append(_State(self.turns, self.system, tuple(turns)))
        self._put(tuple(turns), system)

    def _put(self, turns: tuple[Turn, ...], system: str | None) -> None:
        self.turns, self.system = turns, system
        self._first = self._tries = 0
        self._alternatives = []
        self._said.clear()

    def cancel(self) -> None:
        """Stop the reply that is being written, if any. Safe in a signal handler."""
        self.engine.cancel(self._id)

    def take_notices(self) -> tuple[str, ...]:
        """The notices since the last call. Each notice comes once in a conversation."""
        taken = tuple(self._notices)
        self._notices.clear()
        return taken

    @property
    def _id(self) -> str:
        return f"reply-{self._replies}"

    def _notice(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._notices.append(text)

    def _exchange(self, before: tuple[Turn, ...], message: str) -> Iterator[str]:
        """Run one request. After each piece the turns hold the text so far."""
        kept, said = self.turns, (*before, Turn("user", message))
        request = self._request(said)
        try:
            for piece in _trimmed(self._pieces(request)):
                self.turns = (*said, _answer(self._written))
                yield piece
            self._settle(kept, said)
        except Exception:  # not GeneratorExit: a caller that stops early keeps the text so far
            self.turns = kept
            raise

    def _pieces(self, request: GenerateRequest) -> Iterator[str]:
        """The chunks of one request; sets `_written` and `completion`."""
        self._written, self.completion = "", None
        for event in self.engine.run([request]):
            if isinstance(event, Chunk):
                self._written += event.text
                yield event.text
            elif isinstance(event, Completion):
                self.completion = event

    def _settle(self, kept: tuple[Turn, ...], said: tuple[Turn, ...]) -> None:
        """Set the turns after a finished reply. Raises the error of the request."""
        done = self.completion
        if done is None:  # no engine ends without one
            return
        if done.error is not None:
            raise done.error
        new = UnknownCharacters()
        new.add(part for part in dict.fromkeys(done.unknown) if part not in self._unknown)
        self._unknown |= {*done.unknown}
        for notice in (*done.notices, *new.notices("the conversation")):
            self._notice(notice)
        nothing = done.finish_reason == "cancelled" and not done.text.strip()
        self.turns = kept if nothing else (*said, _answer(done.text))
        if not nothing:
            self._alternatives.append(self.turns[-1])

    def _request(self, turns: tuple[Turn, ...]) -> GenerateRequest:
        sampling = self.sampling
        stop = tuple(dict.fromkeys((*sampling.stop, *self.template.stop)))
        seed = None if sampling.seed is None else (sampling.seed + self._tries) % SEED_LIMIT
        prompt = self._prompt(turns)
        self._replies += 1
        return GenerateRequest(
            id=self._id, prompt=prompt, sampling=replace(sampling, stop=stop, seed=seed)
        )

    def _prompt(self, turns: tuple[Turn, ...]) -> str:
        """The prompt, with as many of the last turns as leave room for the reply.

        Raises BadInput if the last turn alone leaves none.
        """
        info, last = self.engine.info, len(turns) - 1
        limit = min(info.context, self.sampling.max_length or info.context)
        wanted = self.sampling.max_new_tokens or DEFAULT_NEW_TOKENS
        room = limit - min(wanted, limit // 2)

        def size(first: int) -> int:
            return self.engine.count(self.template.prompt(self.system, turns[first:]))

        first = min(self._first, last)
        if size(first) > room:
            starts = range(first, last + 1, 2)
            enough = room * REFILL[0] // REFILL[1]
            fitting = bisect_left(starts, True, key=lambda start: size(start) <= enough)
            first = starts[min(fitting, len(starts) - 1)]
            if first == last and (tokens := size(last)) >= limit:
                raise _too_long(tokens, limit)
        if first > self._first:
            self._notice(
                f"the conversation is longer than the {limit} tokens that {info.name} can read:"
                " its oldest turns are no longer seen"
            )
        self._first = first
        return self.template.prompt(self.system, turns[first:])


@dataclass(frozen=True)
class _State:
    """A conversation that was put aside, and the turns that took its place."""

    turns: tuple[Turn, ...]
    system: str | None
    then: tuple[Turn, ...]


def _answer(written: str) -> Turn:
    return Turn("assistant", written.strip(), written)


def _too_long(tokens: int, limit: int) -> BadInput:
    return BadInput(
        "message too long",
        f"{tokens} tokens with the opening, but {limit} are allowed, the reply included",
        "Shorten it, or choose a model with a longer context.",
    )


def _trimmed(pieces: Iterable[str]) -> Iterator[str]:
    """The same text without white space at its ends: it is held back until text follows."""
    begun, held = False, ""
    for piece in pieces:
        text = held + piece
        text = text if begun else text.lstrip()
        body = text.rstrip()
        held = text[len(body) :]
        if body:
            begun = True
            yield body
