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
from dataclasses import dataclass, field

from torch import Tensor

from gptcli.engines.measures import Measure
from gptcli.engines.network import Cache, Segment
from gptcli.engines.sequences import Job, Sequence
from gptcli.results import Event

WORTHWHILE = 16  # tokens: to reuse fewer saves less than the copy and the mask cost
Item = Sequence | Measure
"""What can sit in a slot."""
Tokens = list[int] | tuple[int, ...]


@dataclass(frozen=True)
class Admission:
    """Items that were given slots, and what the cache needs before they can go on."""

    items: list[tuple[Item, int]] = field(default_factory=list)  # with their slots
    copies: list[tuple[int, int, int]] = field(default_factory=list)  # source, target, length
    prompts: list[tuple[Segment, Job]] = field(default_factory=list)  # then: to be run


class Batch:
    """The items in flight and those waiting for a slot; with `reuse`, prompts share prefixes."""

    def __init__(self, cache: Cache, reuse: bool = True) -> None:
        self.cache = cache
        self.waiting: deque[Item] = deque()
        self.cancelled: set[str] = set()  # ids of requests to be ended
        self.first_logits: dict[Job, Tensor] = {}  # a prompt's last logits, (vocab,), while needed
        self._reuse = reuse
        self._slots: list[Item | None] = [None] * cache.slots
        self._order = list(range(cache.slots))  # the one given away longest ago first

    @property
    def rows(self) -> list[Sequence]:
        """The sequences in flight, in slot order."""
        return [item for item in self._slots if isinstance(item, Sequence)]

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self._slots.count(None)

    @property
    def busy(self) -> bool:
        """Whether anything is in flight or waiting."""
        return bool(self.waiting) or self.free < len(self._slots)

    def admit(self, budget: int) -> Admission:
        """Give free slots to what is waiting, to about `budget` prompt tokens to be run.

        What would share a prompt that is only now to be run is left for the next time.
        """
        admission = Admission()
        while self.waiting and self.free and budget > 0:
            item = self.waiting[0]
            job = item.job
            source, slot, shared = self._place(job)
            if any(self._better(new, job, shared) for _, new in admission.prompts):
                break
            self.waiting.popleft()
            if source != slot and shared:
                admission.copies.append((source, slot, shared))
            if shared < len(job.prompt):
                segment = Segment(slot, shared, len(job.prompt) - shared)
                admission.prompts.append((segment, job))
                budget -= segment.length
            self._take(slot, item, shared if source == slot else 0)
            item.cached = shared
            admission.items.append((item, slot))
        return admission

    def _better(self, new: Job, job: Job, shared: int) -> bool:
        """Whether a prompt about to be run holds more of a job's than the cache does."""
        if new is job:
            return True
        return self._reuse and common(new.prompt, job.prompt) >= shared + WORTHWHILE

    def _place(self, job: Job) -> tuple[int, int, int]:
        """Where a prompt is (a slot), where it should go (a free slot), and how much is there."""
        free = [slot for slot in self._order if self._slots[slot] is None]
        oldest = min(free, key=lambda slot: bool(self.cache.held[slot]))
        whole = job in self.first_logits  # else its last token must be run again
        longest = len(job.prompt) if whole else len(job.prompt) - 1
        if not self._reuse and not whole:
            return oldest, oldest, 0
        shared = [min(common(held, job.prompt), longest) for held in self.cache.held]
        here = max(free, key=lambda slot: shared[slot])
        best = max(range(len(shared)), key=lambda slot: shared[slot])
        least = WORTHWHILE if self._reuse else len(job.prompt)
        if shared[best] == len(job.prompt) > shared[here] or shared[best] >= shared[here] + least:
            return best, oldest, shared[best]
        if shared[here] >= least or shared[here] == len(job.prompt):
            return here, here, shared[here]
        return oldest, oldest, 0

    def _take(self, slot: int, item: Item, shared: int) -> None:
        """Give a slot away, with the first tokens of what it held."""
        self._slots[slot] = item
        self.cache.held[slot] = self.cache.held[slot][:shared]
        self._order.remove(slot)
        self._order.append(slot)

    def leave(self, item: Item) -> None:
        """Free the slot of an item, or its place in the queue."""
        if item in self.waiting:
            self.waiting.remove(item)
            return
        slot = self._slots.index(item)
        self._slots[slot] = None
        if item.error:  # what it left there could spoil those that come after it
            self.cache.clear(slot)

    def drop_cancelled(self) -> Iterator[Event]:
        """End what was cancelled, in flight or waiting."""
        ended = set()
        for item in [*self.rows, *self.waiting] if self.cancelled else ():
            if item.job.request.id in self.cancelled:
                ended.add(item.job.request.id)
                self.leave(item)
                yield from item.cancel()
        self.cancelled -= ended
        self.forget()

    def forget(self) -> None:
        """Let go of the first logits of prompts that nothing waits for."""
        wanted = {item.job for item in self.waiting}
        self.first_logits = {job: x for job, x in self.first_logits.items() if job in wanted}

    def compact(self) -> None:
        """Move the last sequences into free slots, so that rows fill slots 0 to B - 1."""
        while None in self._slots[: len(self.rows)]:
            hole = self._slots.index(None)
            last = max(slot for slot, row in enumerate(self._slots) if row is not None)
            row = self._slots[last]
            assert isinstance(row, Sequence)
            self.cache.copy(last, hole, row.length - 1)
            self._slots[hole], self._slots[last] = row, None


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
