"""The built-in engine: GPT-2 with continuous batching, in torch alone.

Sequences live in slots of one KV cache. Each turn of the loop fills the free slots with new
requests (prompts run together, without padding), then writes one token to every sequence in flight;
a finished one leaves its slot to the next request at once. Beam search and other models are in
`gptcli.engines.auto`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from time import sleep

import torch
from torch import Tensor

from gptcli.engines.measures import Branch, Measure, likelihoods, packed
from gptcli.engines.network import Cache, decode, prefill
from gptcli.engines.sequences import Job, Sequence, accept
from gptcli.engines.slots import Batch
from gptcli.engines.steps import IDLE, advance
from gptcli.engines.weights import Weights
from gptcli.results import Event, ModelInfo, Request
from gptcli.tokenization import Tokenizer

PREFILL_TOKENS = 2048  # prompts run together up to this many tokens, which bounds the memory
BRANCH_TOKENS = 256  # choices likewise; these need all their logits
# Packing a matrix costs about as much as this many one-row steps gain by it; with more rows it pays
# at once. The first is for the head, the second for the blocks.
PATIENCE = 16, 64


class GPT2Engine:
    """GPT-2 on one device with `slots` sequences in flight; see `gptcli.engines.Engine`."""

    def __init__(
        self,
        weights: Weights,
        tokenizer: Tokenizer,
        info: ModelInfo,
        slots: int,
        prefix_cache: bool = True,
    ) -> None:
        self.info = info
        self._reuse = prefix_cache
        self._weights, self._tokenizer, self._slots = weights, tokenizer, slots
        self._eos = weights.config.eos_token_ids
        self._steps = 0
        self._open: list[Batch] = []  # runs under way
        self._cache: Cache | None = None  # kept between runs

    def count(self, text: str) -> int:
        """How many tokens a text is."""
        return len(self._tokenizer.encode(text))

    def cancel(self, id: str) -> None:
        """End the request `id`; see `gptcli.engines.Engine.cancel`."""
        for batch in self._open:
            batch.cancelled.add(id)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Continue every request; see `gptcli.engines.Engine.run`."""
        cache, self._cache = self._cache or self._new_cache(), None
        batch = Batch(cache, self._reuse)
        self._open.append(batch)
        source: Iterator[Request | None] | None = iter(requests)
        try:
            while source or batch.busy:
                if source:
                    for event in self._pull(source, batch):
                        if event is None:
                            source = None
                        else:
                            yield event
                    if source and not batch.busy:
                        sleep(IDLE)
                yield from batch.drop_cancelled()
                yield from self._begin(batch)
                yield from self._step(batch)
        finally:
            self._open.remove(batch)
            self._cache = cache

    def _new_cache(self) -> Cache:
        weights = self._weights
        return Cache(weights.config, self._slots, weights.device, weights.dtype)

    def _pull(self, source: Iterator[Request | None], batch: Batch) -> Iterator[Event | None]:
        """Queue requests while slots are free; gives refusals, and None when there are no more."""
        while batch.free > len(batch.waiting):
            try:
                request = next(source)
            except StopIteration:
                yield None
                return
            if request is None:
                return
            job = accept(request, self._tokenizer, self.info, self._eos, beams=False)
            if not isinstance(job, Job):
                yield job
            elif job.choices:
                batch.waiting.append(Measure(job))
            else:
                batch.waiting.extend(job.sequences())

    def _begin(self, batch: Batch) -> Iterator[Event]:
        """Give free slots to what is waiting: score it, or write the first token of each."""
        while batch.waiting and batch.free:
            admission = batch.admit(PREFILL_TOKENS)
            for source, target, length in admission.copies:
                batch.cache.copy(source, target, length)
            if admission.prompts:
                segments, jobs = zip(*admission.prompts, strict=True)
                new = [job.prompt[segment.start :] for segment, job in admission.prompts]
                logits = prefill(self._weights, batch.cache, segments, list(chain(*new)))
                batch.first_logits.update(zip(jobs, logits, strict=True))
                for segment, job in admission.prompts:
                    batch.cache.held[segment.slot] = list(job.prompt)
            first = [batch.first_logits[item.job] for item, _ in admission.items]
            batch.forget()
            begun = list(zip(admission.items, first, strict=True))
            measures = [(m, slot, x) for (m, slot), x in begun if isinstance(m, Measure)]
            scores = list(self._score(batch, measures))
            rows = [(row, x) for (row, _), x in begun if isinstance(row, Sequence)]
            if rows:
                written = [row for row, _ in rows]
                yield from self._write(batch, written, torch.stack([x for _, x in rows]))
            yield from scores

    def _score(self, batch: Batch, measures: list[tuple[Measure, int, Tensor]]) -> Iterator[Event]:
        """Score choices whose prompts are in the cache; their slots are free again."""
        for measure, _, logits in measures:
            measure.begin(logits)
        branches = [
            Branch(measure, slot, place)
            for measure, slot, _ in measures
            for place, ids in enumerate(measure.job.choices)
            if len(ids) > 1
        ]
        for few in packed(branches, BRANCH_TOKENS):
            tokens = [token for branch in few for token in branch.ids[:-1]]
            segments = [branch.segment for branch in few]
            logits = prefill(self._weights, batch.cache, segments, tokens, every=True)
            targets = [token for branch in few for token in branch.ids[1:]]
            scored = iter(likelihoods(logits, targets))
            for branch in few:
                branch.measure.logprobs[branch.place] += islice(scored, branch.segment.length)
        for measure, _, _ in measures:
            batch.leave(measure)
        for measure, _, _ in measures:
            yield from measure.finished()

    def _step(self, batch: Batch) -> Iterator[Event]:
        """Write one more token to every sequence in flight."""
        batch.compact()
        rows = batch.rows
        if not rows:
            return
        self._steps += 1
        if len(rows) > 1 or self._steps == PATIENCE[0] or self._steps >= PATIENCE[1]:
            self._weights.pack_next()
        tokens = [row.tokens[-1] for row in rows]
        lengths = [row.length - 1 for row in rows]
        logits = decode(self._weights, batch.cache, tokens, lengths)
        for slot, token in enumerate(tokens):
            batch.cache.held[slot].append(token)
        yield from self._write(batch, rows, logits)

    def _write(self, batch: Batch, rows: list[Sequence], logits: Tensor) -> Iterator[Event]:
        """Write the next token of each row; finished rows leave their slots."""
        events = list(advance(rows, logits))
        # Before anything is given out: whoever reads the events may stop at any of them.
        for row in rows:
            if row.finish_reason:
                batch.leave(row)
        yield from events
