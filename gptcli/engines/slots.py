"""Which sequence sits in which slot of the KV cache.

A slot is free or holds one sequence in flight. The cached prompt of a slot outlives its sequence
until the slot is given to another prompt, so that the n sequences of a request share one prefill
even when there are fewer slots than n. What is computed from the slots is the engine's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from gptcli.engines.network import Cache, Segment
from gptcli.engines.sequences import Job, Sequence
from gptcli.results import Event


@dataclass(frozen=True)
class Admission:
    """Sequences that were given slots, and what the cache needs before they can go on."""

    rows: list[Sequence] = field(default_factory=list)
    prompts: list[tuple[Segment, Job]] = field(default_factory=list)  # to be run, into a slot
    copies: list[tuple[int, int, int]] = field(default_factory=list)  # then: source, target, length


class Batch:
    """The sequences in flight and those waiting for a slot."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.waiting: deque[Sequence] = deque()
        self.cancelled: set[str] = set()  # ids of requests to be ended
        self.first_logits: dict[Job, Tensor] = {}  # a prompt's last logits, (vocab,), while needed
        self._slots: list[Sequence | None] = [None] * cache.slots
        self._prompts: list[Job | None] = [None] * cache.slots  # the prompt each slot begins with

    @property
    def rows(self) -> list[Sequence]:
        """The sequences in flight, in slot order."""
        return [row for row in self._slots if row is not None]

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self._slots.count(None)

    @property
    def busy(self) -> bool:
        """Whether anything is in flight or waiting."""
        return bool(self.waiting) or self.free < len(self._slots)

    def admit(self, budget: int) -> Admission:
        """Give free slots to waiting sequences, to about `budget` prompt tokens to be run."""
        admission = Admission()
        while self.waiting and self.free and budget > 0:
            row = self.waiting.popleft()
            job, length = row.job, len(row.job.prompt)
            source = self._prompts.index(job) if job in self._prompts else None
            slot = self._slot_for(job)
            if source is None:
                admission.prompts.append((Segment(slot, 0, length), job))
                budget -= length
            elif self._prompts[slot] is not job:
                admission.copies.append((source, slot, length))
            self._prompts[slot] = job
            self._slots[slot] = row
            admission.rows.append(row)
        return admission

    def _slot_for(self, job: Job) -> int:
        """A free slot: one that holds the prompt already, else the first."""
        free = [slot for slot, row in enumerate(self._slots) if row is None]
        return next((slot for slot in free if self._prompts[slot] is job), free[0])

    def leave(self, row: Sequence) -> None:
        """Free the slot of a sequence, or its place in the queue."""
        if row in self.waiting:
            self.waiting.remove(row)
            return
        slot = self._slots.index(row)
        self._slots[slot] = None
        if row.error:
            self.cache.clear(slot)
            self._prompts[slot] = None

    def drop_cancelled(self) -> Iterator[Event]:
        """End what was cancelled, in flight or waiting."""
        for row in [*self.rows, *self.waiting] if self.cancelled else ():
            if row.job.request.id in self.cancelled:
                self.leave(row)
                yield from row.cancel()
        self.forget()

    def forget(self) -> None:
        """Let go of the first logits of prompts that no sequence waits for."""
        wanted = {row.job for row in self.waiting}
        self.first_logits = {job: x for job, x in self.first_logits.items() if job in wanted}

    def compact(self) -> None:
        """Move the last sequences into free slots, so that rows fill slots 0 to B - 1."""
        while None in self._slots[: len(self.rows)]:
            hole = self._slots.index(None)
            last = max(slot for slot, row in enumerate(self._slots) if row is not None)
            row = self._slots[last]
            assert row is not None
            self.cache.copy(last, hole, row.length - 1)
            self._slots[hole], self._slots[last] = row, None
            self._prompts[hole] = self._prompts[last]
