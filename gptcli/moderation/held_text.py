"""Holds one text back until it is clear, and changes or ends it where a match is.

A piece is what one decoding step wrote. Its tokens leave when the text has gone past them by more
than a stop string can hold back, so that no token of a match leaves before the match is known; of
a match no token and no log-probability leaves at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gptcli.moderation.judges import Hit, Judging
from gptcli.options.moderation import FilterAction
from gptcli.protocol import TokenLogprob

MASK = "*"  # in place of each character of a match but white space


@dataclass(frozen=True)
class Released:
    """Text with the tokens that wrote it; the text of a token may be in a later piece."""

    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class _Step:
    begin: int
    end: int
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]


class HeldText:
    """One text on its way out. `slack`: characters that the engine itself may hold back."""

    def __init__(
        self,
        judges: list[Judging],
        action: FilterAction,
        slack: int,
        hides: Callable[[str, str], bool],
    ) -> None:
        self._judges, self._action, self._slack = judges, action, slack
        self._hides = hides
        self._steps: deque[_Step] = deque()
        self.text = ""  # all that was written
        self.given = ""  # all that has left
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.hits: list[Hit] = []
        self._end: int | None = None  # where a match ended it

    @property
    def stopped(self) -> bool:
        """Whether a match ended the text."""
        return self._end is not None

    @property
    def touched(self) -> bool:
        """Whether what leaves is not what was written."""
        return bool(self.hits) and self._action != "report"

    def take(
        self, text: str, tokens: tuple[int, ...], logprobs: tuple[TokenLogprob, ...]
    ) -> Released:
        """Take what was written; gives what may leave now."""
        if self.stopped:
            return Released()
        begin = len(self.text)
        self.text += text
        self._steps.append(_Step(begin, len(self.text), tokens, logprobs))
        if text:
            self._note([hit for judge in self._judges for hit in judge.feed(text)])
        return self._free(min((judge.clear for judge in self._judges), default=len(self.text)))

    def finish(self, goes_on: bool = False) -> Released:
        """The text has ended; gives the rest. If it `goes_on`, only what is clear of it."""
        if not self.stopped:
            self._note([hit for judge in self._judges for hit in judge.finish(goes_on)])
        end = min((judge.clear for judge in self._judges), default=0) if goes_on else None
        return self._free(len(self.text) if end is None else end, last=True)

    def _note(self, hits: list[Hit]) -> None:
        self.hits += hits
        if hits and self._action in ("stop", "retry"):
            first = min(hit.known for hit in hits)
            self.hits = [hit for hit in hits if hit.known == first]
            self._end = max(min(hit.start for hit in self.hits), len(self.given))

    def _free(self, clear: int, last: bool = False) -> Released:
        if self._action == "report":
            clear = len(self.text)
        elif self._action == "retry" and not (last and not self.stopped):
            return Released()
        limit = clear if self._end is None else self._end
        text = self._shown(len(self.given), limit)
        self.given += text
        tokens: list[int] = []
        logprobs: list[TokenLogprob] = []
        whole = last and not self.stopped and limit == len(self.text)
        while self._steps and (whole or self._steps[0].end + self._slack <= limit):
            step = self._steps.popleft()
            if not self._is_hidden(step):
                tokens += step.tokens
                logprobs += (self.bare(one, step.begin) for one in step.logprobs)
        self.tokens += tokens
        self.logprobs += logprobs
        return Released(text, tuple(tokens), tuple(logprobs))

    def _shown(self, start: int, end: int) -> str:
        """A part of the text, with matches masked."""
        text = self.text[start:end]
        if self._action != "mask":
            return text
        for hit in self.hits:
            first, last = max(hit.start - start, 0), min(hit.end - start, len(text))
            if first < last:
                masked = "".join(one if one.isspace() else MASK for one in text[first:last])
                text = text[:first] + masked + text[last:]
        return text

    def _is_hidden(self, step: _Step) -> bool:
        """Whether a token of a step may be a part of a match."""
        return self._action != "report" and any(
            step.begin - self._slack < hit.end and hit.start < step.end + self._slack
            for hit in self.hits
        )

    def bare(self, logprob: TokenLogprob, place: int) -> TokenLogprob:
        """Without the alternatives that would have written a match."""
        if self._action == "report" or not logprob.top:
            return logprob
        before = self.text[:place]
        top = tuple(one for one in logprob.top if not self._hides(before, one.token))
        return logprob if len(top) == len(logprob.top) else replace(logprob, top=top)

    def matches(self) -> list[Mapping[str, object]]:
        """The matches, as JSON shows them: places are in the text that left.

        Their text is shown only where it left.
        """
        shown: list[Mapping[str, object]] = []
        for hit in sorted(self.hits, key=lambda hit: (hit.start, hit.end)):
            found = dict(hit.cause)
            if self._action in ("mask", "report"):
                found = {"start": max(hit.start, 0), "end": hit.end, **found}
            elif self._action == "stop":
                found = {"start": len(self.given), **found}
            if self._action == "report":
                found["text"] = self.text[max(hit.start, 0) : hit.end]
            shown.append(found)
        return shown
