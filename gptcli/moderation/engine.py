"""An engine whose texts pass through a filter.

It wraps another engine; whoever opened it sees an `Engine` and knows nothing of filters. A request
whose draft is dropped is drawn again in the same run, under an id of its own. Scores of given texts
pass unchanged: nothing is written there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from gptcli.errors import GptcliError
from gptcli.moderation.held_text import HeldText, Released
from gptcli.moderation.judges import Judge, Phrases
from gptcli.options import SEED_LIMIT
from gptcli.options.moderation import FilterAction
from gptcli.protocol import (
    Chunk,
    Completion,
    Engine,
    Event,
    GenerateRequest,
    Request,
    TextOrIds,
    TokenLogprob,
)
from gptcli.wrapped import WrappedEngine

NEXT_SEED = (1 << 32) + 0x1E3779B5  # to the seed of the next draft
"""Seeds in between are those of other rows. A server may read 32 bits of a seed: they differ."""
MAX_BEFORE = 1000  # characters of a prompt in which a match may begin
ENDED = "the filter ended a text before a match"
MASKED = "the filter masked a match"
FOUND = "the filter found a match; JSON lists it"
DROPPED = "the filter dropped a text: every draft had a match"
DROPPED_AT_ONCE = "the filter dropped a text: it has a match, and nothing is random in it"


@dataclass(frozen=True)
class Filter:
    """What judges texts, and what is done with a match."""

    judges: tuple[Judge, ...]
    action: FilterAction = "stop"
    retries: int = 8

    @property
    def told(self) -> dict[str, object]:
        """What it is, as JSON shows it."""
        shown: dict[str, object] = {"action": self.action}
        for judge in self.judges:
            shown |= judge.told
        return shown

    def hides(self, before: str, token: str) -> bool:
        """Whether a token after some text would write a match of phrases."""
        for judge in self.judges:
            if isinstance(judge, Phrases):
                judging = judge.begin(before[-judge.tree.held :])
                if judging.feed(token) + judging.finish():
                    return True
        return False


@dataclass
class _Draft:
    """An inner request: for `request`, whose first sequence here is number `first` there."""

    request: GenerateRequest
    before: str
    rejected: tuple[Mapping[str, object], ...] = ()  # matches of the drafts before it
    seed: int | None = None  # of the request, once it is known
    first: int = 0
    attempt: int = 0
    gates: dict[int, HeldText] = field(default_factory=dict)
    streamed: bool = False  # whether chunks came
    open: int = 1  # sequences that have not ended


class Moderated(WrappedEngine):
    """The same engine behind a filter; see `gptcli.protocol.Engine`."""

    def __init__(self, engine: Engine, filter: Filter) -> None:
        super().__init__(engine)
        self.filter = filter
        self._ids: dict[str, set[str]] = {}  # of running drafts, by that of their request
        self._cancelled: set[str] = set()

    def cancel(self, id: str) -> None:
        """As the wrapped engine does, with all drafts of the request."""
        for inner in tuple(self._ids.get(id, ())):
            self._cancelled.add(inner)
            self._engine.cancel(inner)
        if id not in self._ids:
            self._engine.cancel(id)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """As the wrapped engine does; of a text only what is clear leaves."""
        run = _Run(self._engine, self.filter, self._ids, self._cancelled)
        try:
            for event in self._engine.run(run.pulled(requests)):
                yield from run.taken(event)
        finally:
            run.close()


class _Run:
    """One run: its drafts, and those that are to be drawn again."""

    def __init__(
        self, engine: Engine, filter: Filter, ids: dict[str, set[str]], cancelled: set[str]
    ) -> None:
        self._engine, self._filter, self._told = engine, filter, filter.told
        self._ids, self._cancelled = ids, cancelled
        self._drafts: dict[str, _Draft] = {}
        self._again: deque[GenerateRequest] = deque()

    def pulled(self, requests: Iterable[Request | None]) -> Iterator[Request | None]:
        """The requests for the wrapped engine: drafts to be drawn again come first."""
        coming = iter(requests)
        more = True
        while more or self._again or (self._drafts and self._filter.action == "retry"):
            if self._again:
                yield self._again.popleft()
            elif not more:
                yield None
            else:
                try:
                    request = next(coming)
                except StopIteration:
                    more = False
                    continue
                if isinstance(request, GenerateRequest):
                    draft = _Draft(request, self._before(request.prompt))
                    draft.open = request.results
                    self._begin(request.id, draft)
                yield request

    def _begin(self, id: str, draft: _Draft) -> None:
        self._drafts[id] = draft
        self._ids.setdefault(draft.request.id, set()).add(id)

    def _before(self, prompt: TextOrIds) -> str:
        """The end of a prompt, in which a match may begin."""
        if isinstance(prompt, str):
            return prompt[-MAX_BEFORE:]
        with suppress(GptcliError):
            return self._engine.tokenizer.decode(prompt[-MAX_BEFORE:])
        return ""

    def taken(self, event: Event) -> Iterator[Event]:
        """What leaves after an event of the wrapped engine."""
        draft = self._drafts.get(event.id)
        if draft is None or not isinstance(event, Chunk | Completion):
            yield event
            return
        index = draft.first + event.index
        gate = draft.gates.get(event.index)
        if gate is None:
            gate = draft.gates[event.index] = self._gate(draft)
        if isinstance(event, Chunk):
            draft.streamed = True
            was = gate.stopped
            yield _chunk(draft, index, gate.take(event.text, event.tokens, event.logprobs))
            if gate.stopped and not was and self._all_stopped(draft):
                self._engine.cancel(event.id)
            return
        draft.open = 0 if event.error is not None else draft.open - 1
        cancelled = event.id in self._cancelled
        if not draft.open:
            self._end(event.id, draft)
        yield from self._completed(event, draft, gate, index, cancelled)

    def _gate(self, draft: _Draft) -> HeldText:
        judges = [judge.begin(draft.before) for judge in self._filter.judges]
        slack = max((len(stop) for stop in draft.request.sampling.stop), default=0) + 1
        return HeldText(judges, self._filter.action, slack, self._filter.hides)

    @staticmethod
    def _all_stopped(draft: _Draft) -> bool:
        count = 1 if draft.attempt else draft.request.results
        return sum(gate.stopped for gate in draft.gates.values()) == count

    def _end(self, id: str, draft: _Draft) -> None:
        del self._drafts[id]
        self._cancelled.discard(id)
        ids = self._ids.get(draft.request.id, set())
        ids.discard(id)
        if not ids:
            self._ids.pop(draft.request.id, None)

    def close(self) -> None:
        """Forget what is still running."""
        for id, draft in tuple(self._drafts.items()):
            self._end(id, draft)

    def _completed(
        self, done: Completion, draft: _Draft, gate: HeldText, index: int, cancelled: bool
    ) -> Iterator[Event]:
        was_stopped = gate.stopped
        rest = done.text[len(gate.text) :]
        left = [gate.take(rest, (), ())] if rest and not gate.stopped else []
        goes_on = draft.request.goes_on and done.finish_reason == "length"
        left.append(gate.finish(goes_on))
        seed = draft.seed if draft.attempt else done.seed
        if gate.stopped:
            retry = self._filter.action == "retry" and not cancelled and done.error is None
            if retry and self._draw_again(draft, gate, index, seed):
                return
            own = was_stopped or not cancelled
            done = replace(done, finish_reason="content_filter" if own else "cancelled", error=None)
        piece = Released(
            "".join(one.text for one in left),
            tuple(token for one in left for token in one.tokens),
            tuple(logprob for one in left for logprob in one.logprobs),
        )
        if draft.streamed and piece != Released():
            yield _chunk(draft, index, piece)
        yield self._told_of(done, draft, gate, index, seed, goes_on)

    def _draw_again(self, draft: _Draft, gate: HeldText, index: int, seed: int | None) -> bool:
        """Ask for another draft of a sequence. False where there is none to come."""
        request, attempt = draft.request, draft.attempt + 1
        if attempt > self._filter.retries or request.sampling.effective_temperature == 0:
            return False
        again = None if seed is None else (seed + attempt * NEXT_SEED + index) % SEED_LIMIT
        id = f"{request.id} draft {index}.{attempt}"
        rejected = (*draft.rejected, *gate.matches())
        self._begin(id, _Draft(request, draft.before, rejected, seed, index, attempt))
        sampling = replace(request.sampling, num_return_sequences=1, seed=again)
        self._again.append(replace(request, id=id, sampling=sampling))
        return True

    def _told_of(
        self,
        done: Completion,
        draft: _Draft,
        gate: HeldText,
        index: int,
        seed: int | None,
        goes_on: bool,
    ) -> Completion:
        shown: dict[str, object] = {**self._told, "matches": [*draft.rejected, *gate.matches()]}
        if self._filter.action == "retry":
            shown["retries"] = draft.attempt
        notices = (*done.notices, *self._notices(gate, draft))
        id = draft.request.id
        found = replace(done, id=id, index=index, seed=seed, filter=shown, notices=notices)
        if not gate.touched and not goes_on:
            return replace(found, logprobs=_bared(found, gate))
        return replace(
            found,
            text=gate.given,
            tokens=tuple(gate.tokens),
            logprobs=None if done.logprobs is None else tuple(gate.logprobs),
        )

    def _notices(self, gate: HeldText, draft: _Draft) -> Iterator[str]:
        if gate.hits and self._filter.action in ("mask", "report"):
            yield MASKED if self._filter.action == "mask" else FOUND
        if gate.stopped:
            if self._filter.action == "stop":
                yield ENDED
            else:
                random = draft.request.sampling.effective_temperature > 0
                yield DROPPED if random else DROPPED_AT_ONCE


def _chunk(draft: _Draft, index: int, piece: Released) -> Chunk:
    return Chunk(
        id=draft.request.id,
        index=index,
        text=piece.text,
        tokens=piece.tokens,
        logprobs=piece.logprobs,
    )


def _bared(done: Completion, gate: HeldText) -> tuple[TokenLogprob, ...] | None:
    """The log-probabilities of a text without a match, without alternatives that write one."""
    found, place = [], 0
    for one in done.logprobs or ():
        found.append(gate.bare(one, place))
        place += len(one.token)
    return None if done.logprobs is None else tuple(found)
