"""The built-in engine: GPT-2 with continuous batching.

Sequences live in slots of one KV cache. Each turn of the loop fills free slots with new requests,
then runs one step: one token of every decoding sequence, with a draft of the next ones where that
pays, and a part of the prompts (chunked prefill). So a long prompt delays decoding only by that
part, and a finished sequence frees its slot at once. What a step computes is in a
`gptcli.engines.gpt2.network.GPT2Network`. Beam search and other models are in `gptcli.engines.hf`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, islice
from time import sleep

import numpy as np

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding.loglikelihood import Branch, Loglikelihood, grouped, likelihoods
from gptcli.engines.decoding.loglikelihood_rolling import LoglikelihoodRolling
from gptcli.engines.decoding.request import (
    EncodedGenerate,
    EncodedLoglikelihood,
    EncodedRolling,
    encode_request,
)
from gptcli.engines.decoding.sequence import Sequence, new_sequences
from gptcli.engines.decoding.speculative import Drafter, DraftLength
from gptcli.engines.decoding.step import IDLE_SECONDS, advance_drafted
from gptcli.engines.gpt2.network import Cache, GPT2Network, Logits
from gptcli.engines.gpt2.scheduler import ScheduledTokens, Scheduler, WorkItem
from gptcli.protocol import Event, ModelInfo, Request

# Prompt tokens of a step: bounds memory (all logits of windows: 100 MB of GPT-2's), and what a
# processor's cache holds.
PREFILL_TOKENS = 512
SHARED_PREFILL_TOKENS = 256  # of a step that also decodes, which bounds how long decoding waits
BRANCH_TOKENS = 256  # tokens of choices in a step; all their logits are needed


class GPT2Engine:
    """GPT-2 on one device with `slots` sequences in flight; see `gptcli.protocol.Engine`."""

    def __init__(
        self,
        network: GPT2Network,
        tokenizer: Tokenizer,
        info: ModelInfo,
        slots: int,
        prefix_cache: bool = True,
        drafter: Drafter | None = None,
    ) -> None:
        self.info = info
        self._draft_length = DraftLength(drafter, info.device) if drafter else None
        self._reuse = prefix_cache
        self.tokenizer = tokenizer
        self._network, self._slots = network, slots
        self._schedulers: list[Scheduler] = []  # one a run in progress
        self._cache: Cache | None = None  # kept between runs

    def count(self, text: str) -> int:
        """How many tokens a text is."""
        return len(self.tokenizer.encode(text))

    def cancel(self, id: str) -> None:
        """End the request `id`; see `gptcli.protocol.Engine.cancel`."""
        for scheduler in self._schedulers:
            scheduler.cancelled.add(id)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Continue every request; see `gptcli.protocol.Engine.run`."""
        cache, self._cache = self._cache or self._network.new_cache(self._slots), None
        scheduler = Scheduler(cache, self._reuse)
        self._schedulers.append(scheduler)
        source: Iterator[Request | None] | None = iter(requests)
        try:
            while source or scheduler.busy:
                if source:
                    for event in self._pull(source, scheduler):
                        if event is None:
                            source = None
                        else:
                            yield event
                    if source and not scheduler.busy:
                        sleep(IDLE_SECONDS)
                yield from scheduler.drop_cancelled()
                yield from self._step(scheduler)
        finally:
            self._schedulers.remove(scheduler)
            scheduler.abandon()
            self._cache = cache

    def _pull(
        self, source: Iterator[Request | None], scheduler: Scheduler
    ) -> Iterator[Event | None]:
        """Queue requests while slots are free. Yields refusals, and None after the last request."""
        while scheduler.free > len(scheduler.waiting):
            try:
                request = next(source)
            except StopIteration:
                yield None
                return
            if request is None:
                return
            match encode_request(request, self.tokenizer, self.info, beams=False):
                case EncodedGenerate() as encoded:
                    scheduler.waiting.extend(new_sequences(encoded))
                case EncodedLoglikelihood() as encoded:
                    scheduler.waiting.append(Loglikelihood(encoded))
                case EncodedRolling() as encoded:
                    scheduler.waiting.append(LoglikelihoodRolling(encoded))
                case refusal:
                    yield refusal

    def _step(self, scheduler: Scheduler) -> Iterator[Event]:
        """Run one step: tokens of every decoding sequence, and parts of prompts."""
        prefilled = scheduler.admit()
        scheduler.compact()
        decoding = scheduler.decoding
        drafts = self._drafts_for(decoding)
        budget = SHARED_PREFILL_TOKENS if decoding else PREFILL_TOKENS
        scheduled = scheduler.schedule(drafts, budget)
        starts = _logit_rows(scheduled)
        logits = self._run(scheduler, scheduled, starts)
        if prefilled:
            starts |= {item: len(logits) + place for place, item in enumerate(prefilled)}
            first = [scheduler.prompt_logits[item.encoded] for item in prefilled]
            logits = np.concatenate([logits, np.stack(first)])
        scheduler.drop_logits()
        scored = {item: at for item, at in starts.items() if isinstance(item, Loglikelihood)}
        results = list(self._score(scheduler, scored, logits))
        results += self._score_windows(scheduler, scheduled, starts, logits)
        sequences = {item: at for item, at in starts.items() if isinstance(item, Sequence)}
        events = self._sample_next(scheduler, sequences, drafts, logits)
        yield from events
        yield from results

    def _drafts_for(self, sequences: list[Sequence]) -> dict[Sequence, list[int]]:
        """Drafts of the sequences, where they pay."""
        if not sequences or self._draft_length is None:
            return {}
        return self._draft_length.drafts(sequences, self.info.context)

    def _run(
        self, scheduler: Scheduler, scheduled: list[ScheduledTokens], starts: dict[WorkItem, int]
    ) -> Logits:
        """Run the scheduled tokens. Returns the logits that are needed, (W, vocab), in order."""
        tokens = list(chain.from_iterable(part.tokens for part in scheduled))
        wanted, place = [], 0
        for part in scheduled:
            wanted += [place + own for own in part.wanted]
            place += len(part.tokens)
        segments = [part.segment for part in scheduled]
        logits = self._network.forward_step(scheduler.cache, segments, tokens, wanted)
        for part in scheduled:
            scheduler.mark_cached(part)
            if part.item in starts:
                scheduler.share_logits(part, logits[starts[part.item] + len(part.wanted) - 1])
        return logits

    def _score(
        self, scheduler: Scheduler, scored: dict[Loglikelihood, int], logits: Logits
    ) -> Iterator[Event]:
        """Score choices whose prompts are in the KV cache, and free their slots."""
        for item, place in scored.items():
            item.begin(logits[place])
        branches = [
            Branch(item, scheduler.slot(item), place)
            for item in scored
            for place, ids in enumerate(item.encoded.choices)
            if len(ids) > 1
        ]
        for few in grouped(branches, BRANCH_TOKENS):
            tokens = [token for branch in few for token in branch.ids[:-1]]
            segments = [branch.segment for branch in few]
            after = self._network.forward_step(scheduler.cache, segments, tokens)
            targets = [token for branch in few for token in branch.ids[1:]]
            values = iter(likelihoods(after, targets))
            for branch in few:
                branch.scored.logprobs[branch.place] += islice(values, branch.segment.length)
        for item in scored:
            scheduler.release(item)
        for item in scored:
            yield from item.finished()

    def _score_windows(
        self,
        scheduler: Scheduler,
        scheduled: list[ScheduledTokens],
        starts: dict[WorkItem, int],
        logits: Logits,
    ) -> list[Event]:
        """Score what the step ran of windows, and free the slots of those that are done."""
        done = []
        for part in scheduled:
            item = part.item
            if isinstance(item, LoglikelihoodRolling) and part.wanted:
                start = starts[item]
                item.take(logits[start : start + len(part.wanted)])
                if item.done:
                    done.append(item)
        for item in done:
            scheduler.release(item)
        return [item.finished() for item in done]

    def _sample_next(
        self,
        scheduler: Scheduler,
        sequences: dict[Sequence, int],
        drafts: dict[Sequence, list[int]],
        logits: Logits,
    ) -> list[Event]:
        """Sample the next tokens of each sequence, and free the slots of finished ones."""
        written = {sequence: len(sequence.tokens) for sequence in sequences}
        verified = [drafts.get(sequence, []) for sequence in sequences]
        starts = list(sequences.values())
        events = list(advance_drafted(list(sequences), verified, logits, starts))
        # Before any event is yielded: the caller may stop at any of them.
        for sequence, draft in zip(sequences, verified, strict=True):
            if draft and self._draft_length:
                accepted = max(len(sequence.tokens) - written[sequence] - 1, 0)
                scheduler.accept_draft(sequence, draft, accepted)
                self._draft_length.record(sequence, len(draft), accepted)
            if sequence.finish_reason:
                scheduler.release(sequence)
        return events


def _logit_rows(scheduled: list[ScheduledTokens]) -> dict[WorkItem, int]:
    """The first row in the logits of each item that needs any."""
    due = [part for part in scheduled if part.wanted]
    sizes = accumulate((len(part.wanted) for part in due), initial=0)
    return {part.item: place for part, place in zip(due, sizes, strict=False)}
