"""Counts one answer against its limits.

Progress is a piece of a text that has not ended: characters, tokens or the end itself. Comments,
events without data and choices that add nothing are none. Once every text has ended, what comes
behind is read for a moment (the counts of tokens stand there), and then left without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

import httpx2

from gptcli.engines.remote.bounds.limits import KIB, Limits
from gptcli.system.units import counted, three_digits, transfer_size

ERROR_BYTES = 64 * KIB  # that are read of the body of an error; the status says most
MESSAGES_BEHIND = 16  # that are read after the last text has ended
ALTERNATIVES = 256  # of a token; OpenAI gives 5, vLLM 20
MEMORY = {b"{": 232, b"[": 64, b",": 128}  # bytes that what begins here takes in CPython, at most
EVENT_ENDS = b"\n\n", b"\r\r", b"\n\r\n"


class BoundPassed(Exception):
    """An answer that passes one of its bounds, which the message names."""


class AnswerStalled(httpx2.ReadTimeout):
    """An answer that does not begin, or does not go on; it may the next time."""


class Meter:
    """One answer so far. Times are those of `monotonic`, which asyncio's loop has, too."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.ended = False  # all that is wanted is there: a bound ends the answer, not the request
        self._begun = self._moved = self._heard = monotonic()
        self._answering = self._progress = False
        self._raw = self._bytes = self._document = self._memory = 0
        self._most_bytes = limits.answer
        self._tail = b""
        self._characters = self._tokens = self._behind = 0
        self._finished: set[object] = set()

    # Time.

    def answered(self, status: int) -> None:
        """Note the headers."""
        self._answering, self._moved = True, monotonic()
        if status >= 300:
            self._most_bytes = ERROR_BYTES
            self._end()

    def _end(self) -> None:
        self.ended, self._moved = True, monotonic()

    def deadline(self) -> float:
        """Until when the next bytes must come."""
        limits = self.limits
        if self.ended:
            return self._moved + limits.behind
        times = [self._begun + limits.whole, self._moved + limits.stall]
        return min([*times, self._heard + limits.silence] if self._progress else times)

    def lateness(self) -> Exception:
        """The error where it passed."""
        limits, now = self.limits, monotonic()
        if now >= self._begun + limits.whole and self._answering:
            return BoundPassed(f"it takes more than {_seconds(limits.whole)} for {limits.asked}")
        if self._progress and now < self._moved + limits.stall:
            return AnswerStalled(f"nothing came for {_seconds(limits.silence)}")
        if self._progress:
            return AnswerStalled(f"no more text came for {_seconds(limits.stall)}")
        if self._answering:
            return AnswerStalled(f"no text came for {_seconds(limits.stall)}")
        return AnswerStalled(f"no answer began within {_seconds(limits.stall)}")

    # Bytes.

    def receive(self, size: int) -> bool:
        """Count bytes as they come; returns whether to go on. Raises BoundPassed."""
        self._heard = monotonic()
        self._raw += size
        if self._raw > self._most_bytes:
            return self._pass(f"more than {transfer_size(self._most_bytes)}")
        return not self._late()

    def unfold(self, part: bytes, stream: bool) -> bool:
        """Count bytes after decompression; returns whether to go on. Raises BoundPassed."""
        limits = self.limits
        self._bytes += len(part)
        if self._bytes > self._most_bytes:
            return self._pass(f"more than {transfer_size(self._most_bytes)}")
        first, last = _event_ends(self._tail + part) if stream else (-1, -1)
        if first < 0:
            self._weigh(part)
        else:
            self._weigh(part[: max(first - len(self._tail), 0)])
        if self._document > limits.document:
            return self._pass(f"a message of more than {transfer_size(limits.document)}")
        if self._memory > limits.memory:
            return self._pass(f"a message that takes more than {transfer_size(limits.memory)}")
        if first >= 0:
            # What lies between two ends in one part, of 1 MB at most, is no danger.
            self._document = self._memory = 0
            self._weigh(part[max(last - len(self._tail), 0) :])
        self._tail = (self._tail + part)[-3:] if stream else b""
        return not self._late()

    def _weigh(self, part: bytes) -> None:
        self._document += len(part)
        self._memory += sum(part.count(mark) * weight for mark, weight in MEMORY.items())

    def _late(self) -> bool:
        """Whether time is up though bytes come; raises what it is, if it matters."""
        if monotonic() < self.deadline():
            return False
        if self.ended:
            return True
        raise self.lateness()

    def _pass(self, what: str) -> bool:
        """A bound was passed: an error, unless all that is wanted is there."""
        if self.ended:
            return False
        raise BoundPassed(f"{what}, where {self.limits.asked} should come")

    # Messages.

    def take(self, message: object) -> bool:
        """Count a message; returns whether it is still wanted. Raises BoundPassed."""
        if self.ended:
            self._behind += 1
            return self._behind <= MESSAGES_BEHIND
        choices = message.get("choices") if isinstance(message, Mapping) else None
        if isinstance(choices, list):
            if len(choices) > max(self.limits.texts, 1):
                return self._pass(counted(len(choices), "text") + " in a message")
            for choice in choices:
                if isinstance(choice, Mapping):
                    self._take(choice)
            self._check()
        return True

    def _check(self) -> None:
        """Hold the counts against the limits."""
        if self._characters > self.limits.characters:
            self._pass(f"more than {self.limits.characters} characters")
        if self._tokens > self.limits.tokens:
            self._pass(f"log-probabilities of more than {self.limits.tokens} tokens")
        if len(self._finished) >= self.limits.texts:
            self._end()

    def _take(self, choice: Mapping[str, object]) -> None:
        text, finish, index = choice.get("text"), choice.get("finish_reason"), choice.get("index")
        tokens = self._listed(choice.get("logprobs"))
        self._tokens += tokens
        self._characters += len(text) if isinstance(text, str) else 0
        index = index if isinstance(index, int) else 0
        if (text or tokens or finish is not None) and index not in self._finished:
            self._moved, self._progress = monotonic(), True
        if finish is not None:
            self._finished.add(index)

    def _listed(self, logprobs: object) -> int:
        """How many tokens log-probabilities list."""
        if not isinstance(logprobs, Mapping):
            return 0
        top = logprobs.get("top_logprobs")
        for others in top if isinstance(top, list) else ():
            if isinstance(others, Mapping) and len(others) > ALTERNATIVES:
                self._pass(f"{counted(len(others), 'alternative')} of a token")
        sizes = [len(found) for found in logprobs.values() if isinstance(found, list)]
        return max(sizes, default=0)


def _event_ends(data: bytes) -> tuple[int, int]:
    """Where the first and the last end of an event lie in it; -1 where there is none."""
    firsts = [data.find(mark) for mark in EVENT_ENDS]
    return min((at for at in firsts if at >= 0), default=-1), max(map(data.rfind, EVENT_ENDS))


def _seconds(time: float) -> str:
    return f"{three_digits(time)} s"
