"""Which sequence sits in which slot of the KV cache, and what of its prompt is there already.

A slot is free or holds one sequence in flight; what it has in the cache stays when the sequence
leaves, until the slot is given away. A prompt that begins like what some slot holds goes there, or
gets a copy, and only the rest is computed: so the n sequences of a request, the examples of a task,
the labels of a text and the turns of a chat are run once. What is computed from the slots is the
engine's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from torch import Tensor

from gptcli.engines.decoding.loglikelihood import Loglikelihood
from gptcli.engines.decoding.loglikelihood_rolling import LoglikelihoodRolling
from gptcli.engines.decoding.request import EncodedRequest
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.decoding.sequence import Sequence
from gptcli.engines.gpt2.kv_cache import KVCache
from gptcli.protocol import Event

WORTHWHILE = 16  # tokens: to reuse fewer saves less than the copy and the mask cost
Item = Sequence | Loglikelihood | LoglikelihoodRolling
"""What can sit in a slot."""
Tokens = list[int] | tuple[int, ...]


@dataclass(frozen=True)
class ScheduledTokens:
    """Tokens of one item that a step runs."""

    item: Item
    segment: Segment
    tokens: list[int]

    @property
    def wanted(self) -> range:
        """Which of its tokens' logits are needed: of a prompt those at `logits_from` and behind.

        Of what is written, all: the newest token's and those of its draft.
        """
        size, encoded = self.segment.length, self.item.encoded
        if self.segment.start >= len(encoded.prompt_ids):
            return range(size)
        return range(min(max(encoded.logits_from - self.segment.start, 0), size), size)


class Scheduler:
    """The items in flight and those waiting for a slot; with `reuse`, prompts share prefixes."""

    def __init__(self, cache: KVCache, reuse: bool = True) -> None:
        self.cache = cache
        self.waiting: deque[Item] = deque()
        self.cancelled: set[str] = set()  # ids of requests to be ended
        # A prompt's last logits, (vocab,), while they are needed.
        self.first_logits: dict[EncodedRequest, Tensor] = {}
        self._reuse = reuse
        self._slots: list[Item | None] = [None] * cache.slots
        self._order = list(range(cache.slots))  # the one given away longest ago first

    @property
    def writing(self) -> list[Sequence]:
        """The sequences in flight that have begun to write, in slot order."""
        return [item for item in self._slots if item is not None and _writes(item)]

    @property
    def measuring(self) -> bool:
        """Whether a window is in flight, of which many logits are needed."""
        return any(isinstance(item, LoglikelihoodRolling) for item in self._slots)

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self._slots.count(None)

    @property
    def busy(self) -> bool:
        """Whether anything is in flight or waiting."""
        return bool(self.waiting) or self.free < len(self._slots)

    def slot(self, item: Item) -> int:
        """Where an item in flight sits."""
        return self._slots.index(item)

    def admit(self) -> list[Item]:
        """Give free slots to what is waiting; those whose prompts need not be run come back.

        What would share a prompt that is only now being run is left for the next time.
        """
        ready = []
        while self.waiting and self.free:
            encoded = self.waiting[0].encoded
            source, slot, shared = self._place(encoded)
            if any(self._better(other, encoded, shared) for other in self._being_run()):
                break
            item = self.waiting.popleft()
            if source != slot and shared:
                self.cache.copy(source, slot, shared)
            self._take(slot, item, shared)
            item.cached = shared
            if shared == len(encoded.prompt_ids):
                ready.append(item)
        return ready

    def spans(self, drafts: dict[Sequence, list[int]], budget: int) -> list[ScheduledTokens]:
        """What the next step runs, in slot order.

        Of each sequence that is being written, its newest token and its draft; of prompts, in the
        order in which they came, `budget` tokens together.
        """
        shares = self._shares(budget)
        spans = []
        for slot, item in enumerate(self._slots):
            if item is None:
                continue
            start = len(self.cache.held[slot])
            if _writes(item):
                tokens = [item.tokens[-1], *drafts.get(item, ())]
            else:
                tokens = list(item.encoded.prompt_ids[start : start + shares[slot]])
            if tokens:
                spans.append(ScheduledTokens(item, Segment(slot, start, len(tokens)), tokens))
        return spans

    def keep(self, span: ScheduledTokens) -> None:
        """Record that a span's tokens are in the cache, but for a draft's."""
        new = span.tokens[:1] if _writes(span.item) else span.tokens
        self.cache.held[span.segment.slot] += new

    def extend(self, row: Sequence, guess: list[int], right: int) -> None:
        """Record that the first `right` drafted tokens came true; the others leave the cache."""
        slot = self.slot(row)
        held = self.cache.held[slot]
        held += guess[:right]
        self.cache.blank(slot, len(held), len(guess) - right)

    def share(self, span: ScheduledTokens, logits: Tensor) -> None:
        """Keep a prompt's last logits, (vocab,), as long as other sequences of it wait."""
        encoded = span.item.encoded
        whole = span.segment.end == len(encoded.prompt_ids)
        if whole and any(item.encoded is encoded for item in self.waiting):
            self.first_logits[encoded] = logits.clone()

    def _shares(self, budget: int) -> dict[int, int]:
        """How many of its prompt's tokens each slot runs next; those that came first, first."""
        shares = dict.fromkeys(range(len(self._slots)), 0)
        for slot in self._order:
            item = self._slots[slot]
            if item is not None:
                left = len(item.encoded.prompt_ids) - len(self.cache.held[slot])
                shares[slot] = max(0, min(left, budget))
                budget -= shares[slot]
        return shares

    def _being_run(self) -> list[EncodedRequest]:
        """The requests whose prompts are not in the cache as a whole."""
        return [
            item.encoded
            for slot, item in enumerate(self._slots)
            if item is not None and self._unfinished(slot, item)
        ]

    def _better(self, new: EncodedRequest, encoded: EncodedRequest, shared: int) -> bool:
        """Whether a prompt about to be run holds more of a request's than the cache does."""
        if new is encoded:
            return True
        if not self._reuse or encoded.logits_from < shared + WORTHWHILE:
            return False
        return common(new.prompt_ids, encoded.prompt_ids) >= shared + WORTHWHILE

    def _place(self, encoded: EncodedRequest) -> tuple[int, int, int]:
        """Where a prompt is (a slot), where it should go (a free slot), and how much is there."""
        free = [slot for slot in self._order if self._slots[slot] is None]
        oldest = min(free, key=lambda slot: bool(self.cache.held[slot]))
        size = len(encoded.prompt_ids)
        whole = encoded in self.first_logits  # else tokens whose logits are needed are run again
        longest = size if whole else encoded.logits_from
        if not whole and (not self._reuse or longest < WORTHWHILE):
            return oldest, oldest, 0
        shared = [min(common(held, encoded.prompt_ids), longest) for held in self.cache.held]
        here = max(free, key=lambda slot: shared[slot])
        best = max(range(len(shared)), key=lambda slot: shared[slot])
        least = WORTHWHILE if self._reuse else size
        if shared[best] == size > shared[here] or shared[best] >= shared[here] + least:
            return best, oldest, shared[best]
        if shared[here] >= least or shared[here] == size:
            return here, here, shared[here]
        return oldest, oldest, 0

    def _take(self, slot: int, item: Item, shared: int) -> None:
        """Give a slot away, with the first tokens of what it held."""
        self._slots[slot] = item
        del self.cache.held[slot][shared:]
        self._order.remove(slot)
        self._order.append(slot)

    def leave(self, item: Item) -> None:
        """Free the slot of an item, or its place in the queue."""
        if item in self.waiting:
            self.waiting.remove(item)
            return
        slot = self.slot(item)
        self._slots[slot] = None
        if item.error or self._unfinished(slot, item):
            self.cache.clear(slot)

    def abandon(self) -> None:
        """Clear what a run that was given up left unfinished; the rest is of use to the next."""
        for slot, item in enumerate(self._slots):
            if item is not None and self._unfinished(slot, item):
                self.cache.clear(slot)

    def _unfinished(self, slot: int, item: Item) -> bool:
        """Whether a part of the item's prompt is still to be run.

        Until then nobody has looked at its logits, and there may be NaN in its slot: masked or not,
        it would spoil the rows whose attention is computed in one call with it.
        """
        return len(self.cache.held[slot]) < len(item.encoded.prompt_ids)

    def drop_cancelled(self) -> Iterator[Event]:
        """End what was cancelled, in flight or waiting."""
        ended = set()
        for item in [*self._slots, *self.waiting] if self.cancelled else ():
            if item and item.encoded.request.id in self.cancelled:
                ended.add(item.encoded.request.id)
                self.leave(item)
                yield from item.cancel()
        self.cancelled -= ended
        self.forget()

    def forget(self) -> None:
        """Let go of the first logits of prompts that nothing waits for."""
        wanted = {item.encoded for item in self.waiting}
        self.first_logits = {
            encoded: logits for encoded, logits in self.first_logits.items() if encoded in wanted
        }

    def compact(self) -> None:
        """Move the last items into free slots, so that those in flight fill slots 0 to B - 1."""
        while None in self._slots[: len(self._slots) - self.free]:
            hole = self._slots.index(None)
            last = max(slot for slot, item in enumerate(self._slots) if item is not None)
            self.cache.copy(last, hole, len(self.cache.held[last]))
            item = self._slots[hole] = self._slots[last]
            self._slots[last] = None
            if item is not None and self._unfinished(last, item):
                self.cache.clear(last)
            # The hole is now as old as what sits there.
            here, there = self._order.index(hole), self._order.index(last)
            self._order[here], self._order[there] = last, hole


def _writes(item: Item) -> TypeGuard[Sequence]:
    """Whether it is a sequence that has begun to write."""
    return isinstance(item, Sequence) and bool(item.tokens)


def common(a: Tokens, b: Tokens) -> int:
    """How many tokens two sequences have in common at their beginning."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # slices compare at the speed of C
        middle = (low + high + 1) // 2
        if list(a[low:middle]) == list(b[low:middle]):
            low = middle
        else:
            high = middle - 1
    return low
