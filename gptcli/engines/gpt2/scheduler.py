"""Which sequence sits in which slot of the KV cache, and how much of its prompt is cached.

A slot is free or holds one item in flight. The cached tokens stay after the item is released, until
the slot is given away. A prompt that begins like the tokens of a slot goes there or gets a copy,
and only the rest is computed. So the n sequences of a request, the examples of a task, the labels
of a text and the turns of a chat are prefilled once. What is computed is decided by the engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from gptcli.engines.decoding.loglikelihood import Loglikelihood
from gptcli.engines.decoding.loglikelihood_rolling import LoglikelihoodRolling
from gptcli.engines.decoding.request import EncodedRequest
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.decoding.sequence import Sequence
from gptcli.engines.gpt2.network import Cache, Logits
from gptcli.protocol import Event

MIN_SHARED_TOKENS = 16  # a shorter shared prefix saves less than its copy and mask cost
WorkItem = Sequence | Loglikelihood | LoglikelihoodRolling
"""What can sit in a slot: a text to generate, choices or a window to score."""
Tokens = list[int] | tuple[int, ...]


@dataclass(frozen=True)
class ScheduledTokens:
    """The tokens of one item that the next step runs."""

    item: WorkItem
    segment: Segment
    tokens: list[int]

    @property
    def wanted(self) -> range:
        """The tokens whose logits are needed: in a prompt, from `logits_from` on.

        When decoding, all: the newest token and its draft.
        """
        size, encoded = self.segment.length, self.item.encoded
        if self.segment.start >= len(encoded.prompt_ids):
            return range(size)
        return range(min(max(encoded.logits_from - self.segment.start, 0), size), size)


class Scheduler:
    """Items in flight and items waiting for a slot. With `reuse`, prompts share prefixes."""

    def __init__(self, cache: Cache, reuse: bool = True) -> None:
        self.cache = cache
        self.waiting: deque[WorkItem] = deque()
        self.cancelled: set[str] = set()  # ids of requests to end
        # A prompt's last logits, (vocab,), while they are needed.
        self.prompt_logits: dict[EncodedRequest, Logits] = {}
        self._reuse = reuse
        self._slots: list[WorkItem | None] = [None] * cache.slots
        self._order = list(range(cache.slots))  # least recently given away first

    @property
    def decoding(self) -> list[Sequence]:
        """The sequences in flight that have a token, in slot order."""
        return [item for item in self._slots if item is not None and _is_decoding(item)]

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self._slots.count(None)

    @property
    def busy(self) -> bool:
        """Whether anything is in flight or waiting."""
        return bool(self.waiting) or self.free < len(self._slots)

    def slot(self, item: WorkItem) -> int:
        """The slot of an item in flight."""
        return self._slots.index(item)

    def admit(self) -> list[WorkItem]:
        """Give free slots to waiting items. Returns those whose whole prompt is cached.

        An item that would share a prompt that is being prefilled waits for the next step.
        """
        ready = []
        while self.waiting and self.free:
            encoded = self.waiting[0].encoded
            source, slot, shared = self._find_slot(encoded)
            if any(self._better(other, encoded, shared) for other in self._prefilling()):
                break
            item = self.waiting.popleft()
            if source != slot and shared:
                self.cache.copy(source, slot, shared)
            self._occupy(slot, item, shared)
            item.cached = shared
            if shared == len(encoded.prompt_ids):
                ready.append(item)
        return ready

    def schedule(self, drafts: dict[Sequence, list[int]], budget: int) -> list[ScheduledTokens]:
        """The tokens of the next step, in slot order.

        Of each decoding sequence, its newest token and its draft; of prompts, first come first
        served, `budget` tokens together.
        """
        shares = self._prefill_tokens(budget)
        scheduled = []
        for slot, item in enumerate(self._slots):
            if item is None:
                continue
            start = len(self.cache.cached_tokens[slot])
            if _is_decoding(item):
                tokens = [item.tokens[-1], *drafts.get(item, ())]
            else:
                tokens = list(item.encoded.prompt_ids[start : start + shares[slot]])
            if tokens:
                scheduled.append(ScheduledTokens(item, Segment(slot, start, len(tokens)), tokens))
        return scheduled

    def mark_cached(self, scheduled: ScheduledTokens) -> None:
        """Record that tokens are in the KV cache, except a draft."""
        new = scheduled.tokens[:1] if _is_decoding(scheduled.item) else scheduled.tokens
        self.cache.cached_tokens[scheduled.segment.slot] += new

    def accept_draft(self, sequence: Sequence, draft: list[int], accepted: int) -> None:
        """Record the first `accepted` tokens of a draft, and erase the others from the cache."""
        slot = self.slot(sequence)
        held = self.cache.cached_tokens[slot]
        held += draft[:accepted]
        self.cache.zero(slot, len(held), len(draft) - accepted)

    def share_logits(self, scheduled: ScheduledTokens, logits: Logits) -> None:
        """Keep the last logits of a prompt, (vocab,), while other sequences of it wait."""
        encoded = scheduled.item.encoded
        whole = scheduled.segment.end == len(encoded.prompt_ids)
        if whole and any(item.encoded is encoded for item in self.waiting):
            self.prompt_logits[encoded] = logits.copy()

    def _prefill_tokens(self, budget: int) -> dict[int, int]:
        """How many prompt tokens each slot runs next, first come first served."""
        shares = dict.fromkeys(range(len(self._slots)), 0)
        for slot in self._order:
            item = self._slots[slot]
            if item is not None:
                left = len(item.encoded.prompt_ids) - len(self.cache.cached_tokens[slot])
                shares[slot] = max(0, min(left, budget))
                budget -= shares[slot]
        return shares

    def _prefilling(self) -> list[EncodedRequest]:
        """The requests whose prompts are not completely cached."""
        return [
            item.encoded
            for slot, item in enumerate(self._slots)
            if item is not None and self._is_prefilling(slot, item)
        ]

    def _better(self, new: EncodedRequest, encoded: EncodedRequest, shared: int) -> bool:
        """Whether a prompt being prefilled shares more with a request than the cache does."""
        if new is encoded:
            return True
        if not self._reuse or encoded.logits_from < shared + MIN_SHARED_TOKENS:
            return False
        return common_prefix(new.prompt_ids, encoded.prompt_ids) >= shared + MIN_SHARED_TOKENS

    def _find_slot(self, encoded: EncodedRequest) -> tuple[int, int, int]:
        """The slot to copy a prompt from, the free slot for it, and how many tokens are shared."""
        free = [slot for slot in self._order if self._slots[slot] is None]
        oldest = min(free, key=lambda slot: bool(self.cache.cached_tokens[slot]))
        size = len(encoded.prompt_ids)
        whole = encoded in self.prompt_logits  # else tokens whose logits are needed are run again
        longest = size if whole else encoded.logits_from
        if not whole and (not self._reuse or longest < MIN_SHARED_TOKENS):
            return oldest, oldest, 0
        shared = [
            min(common_prefix(held, encoded.prompt_ids), longest)
            for held in self.cache.cached_tokens
        ]
        here = max(free, key=lambda slot: shared[slot])
        best = max(range(len(shared)), key=lambda slot: shared[slot])
        least = MIN_SHARED_TOKENS if self._reuse else size
        if shared[best] == size > shared[here] or shared[best] >= shared[here] + least:
            return best, oldest, shared[best]
        if shared[here] >= least or shared[here] == size:
            return here, here, shared[here]
        return oldest, oldest, 0

    def _occupy(self, slot: int, item: WorkItem, shared: int) -> None:
        """Put an item into a slot, keeping its first `shared` cached tokens."""
        self._slots[slot] = item
        del self.cache.cached_tokens[slot][shared:]
        self._order.remove(slot)
        self._order.append(slot)

    def release(self, item: WorkItem) -> None:
        """Free the slot of an item, or remove it from the queue."""
        if item in self.waiting:
            self.waiting.remove(item)
            return
        slot = self.slot(item)
        self._slots[slot] = None
        if item.error or self._is_prefilling(slot, item):
            self.cache.clear(slot)

    def abandon(self) -> None:
        """After a run was abandoned: clear slots with an unfinished prompt, keep the others."""
        for slot, item in enumerate(self._slots):
            if item is not None and self._is_prefilling(slot, item):
                self.cache.clear(slot)

    def _is_prefilling(self, slot: int, item: WorkItem) -> bool:
        """Whether a part of the item's prompt is still to be run.

        Until then its logits are unchecked, and its slot may hold NaN: even masked, NaN would spoil
        the rows whose attention is computed in the same call.
        """
        return len(self.cache.cached_tokens[slot]) < len(item.encoded.prompt_ids)

    def drop_cancelled(self) -> Iterator[Event]:
        """End cancelled items, in flight or waiting."""
        ended = set()
        for item in [*self._slots, *self.waiting] if self.cancelled else ():
            if item and item.encoded.request.id in self.cancelled:
                ended.add(item.encoded.request.id)
                self.release(item)
                yield from item.cancel()
        self.cancelled -= ended
        self.drop_logits()

    def drop_logits(self) -> None:
        """Drop the logits of prompts that no item waits for."""
        waiting = {item.encoded for item in self.waiting}
        self.prompt_logits = {
            encoded: logits for encoded, logits in self.prompt_logits.items() if encoded in waiting
        }

    def compact(self) -> None:
        """Move items into free slots, so that those in flight fill slots 0 to B - 1."""
        while None in self._slots[: len(self._slots) - self.free]:
            free = self._slots.index(None)
            last = max(slot for slot, item in enumerate(self._slots) if item is not None)
            self.cache.copy(last, free, len(self.cache.cached_tokens[last]))
            item = self._slots[free] = self._slots[last]
            self._slots[last] = None
            if item is not None and self._is_prefilling(last, item):
                self.cache.clear(last)
            # The slots swap their ages.
            here, there = self._order.index(free), self._order.index(last)
            self._order[here], self._order[there] = last, free


def _is_decoding(item: WorkItem) -> TypeGuard[Sequence]:
    """Whether it is a sequence with at least one token."""
    return isinstance(item, Sequence) and bool(item.tokens)


def common_prefix(a: Tokens, b: Tokens) -> int:
    """Length of the common prefix of two token sequences."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # bisection, because comparing slices is fast
        middle = (low + high + 1) // 2
        if list(a[low:middle]) == list(b[low:middle]):
            low = middle
        else:
            high = middle - 1
    return low
