"""The built-in engine: GPT-2 with continuous batching, in torch alone.

Sequences live in slots of one KV cache. Each turn of the loop fills the free slots with new
requests, then takes one step: one token of every sequence that is being written, with a draft of
the next ones where that pays, and a part of the prompts that came in. So a long prompt holds up
what is being written by no more than that part; a finished sequence leaves its slot to the next
request at once. Beam search and other models are in `gptcli.engines.hf`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, islice
from time import sleep

import torch
from torch import Tensor

from gptcli.checkpoints.tokenizer import Tokenizer
from gptcli.engines.decoding.loglikelihood import Branch, Loglikelihood, likelihoods, packed
from gptcli.engines.decoding.loglikelihood_rolling import LoglikelihoodRolling
from gptcli.engines.decoding.request import (
    EncodedGenerate,
    EncodedLoglikelihood,
    EncodedRolling,
    accept,
)
from gptcli.engines.decoding.sequence import Sequence, sequences
from gptcli.engines.decoding.speculative import Drafter, DraftLength
from gptcli.engines.decoding.step import IDLE, advance_drafted
from gptcli.engines.gpt2.kv_cache import KVCache
from gptcli.engines.gpt2.network import forward_step
from gptcli.engines.gpt2.scheduler import Item, ScheduledTokens, Scheduler
from gptcli.engines.gpt2.weights import Weights
from gptcli.protocol import Event, ModelInfo, Request

PROMPT_TOKENS = 2048  # prompts run together up to this many tokens, which bounds the memory
CHUNK = 256  # so many while something is being written, which bounds how long that waits
BRANCH_TOKENS = 256  # choices likewise; these need all their logits
MEASURED_TOKENS = 512  # windows as well: 100 MB of GPT-2's logits


class GPT2Engine:
    """GPT-2 on one device with `slots` sequences in flight; see `gptcli.protocol.Engine`."""

    def __init__(
        self,
        weights: Weights,
        tokenizer: Tokenizer,
        info: ModelInfo,
        slots: int,
        prefix_cache: bool = True,
        drafter: Drafter | None = None,
    ) -> None:
        self.info = info
        self._speculation = DraftLength(drafter, info.device) if drafter else None
        self._reuse = prefix_cache
        self.tokenizer = tokenizer
        self.weights = weights  # in whatever form they are by now
        self._slots = slots
        self._eos = weights.config.eos_token_ids
        self._open: list[Scheduler] = []  # runs under way
        self._cache: KVCache | None = None  # kept between runs

    def count(self, text: str) -> int:
        """How many tokens a text is."""
        return len(self.tokenizer.encode(text))

    def cancel(self, id: str) -> None:
        """End the request `id`; see `gptcli.protocol.Engine.cancel`."""
        for batch in self._open:
            batch.cancelled.add(id)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Continue every request; see `gptcli.protocol.Engine.run`."""
        cache, self._cache = self._cache or self._new_cache(), None
        batch = Scheduler(cache, self._reuse)
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
                yield from self._step(batch)
        finally:
            self._open.remove(batch)
            batch.abandon()
            self._cache = cache

    def _new_cache(self) -> KVCache:
        weights = self.weights
        return KVCache(weights.config, self._slots, weights.device, weights.dtype)

    def _pull(self, source: Iterator[Request | None], batch: Scheduler) -> Iterator[Event | None]:
        """Queue requests while slots are free; gives refusals, and None when there are no more."""
        while batch.free > len(batch.waiting):
            try:
                request = next(source)
            except StopIteration:
                yield None
                return
            if request is None:
                return
            match accept(request, self.tokenizer, self.info, self._eos, beams=False):
                case EncodedGenerate() as encoded:
                    batch.waiting.extend(sequences(encoded))
                case EncodedLoglikelihood() as encoded:
                    batch.waiting.append(Loglikelihood(encoded))
                case EncodedRolling() as encoded:
                    batch.waiting.append(LoglikelihoodRolling(encoded))
                case refusal:
                    yield refusal

    def _step(self, batch: Scheduler) -> Iterator[Event]:
        """Write one more token, or several, to every sequence in flight; run parts of prompts."""
        known = batch.admit()
        batch.compact()
        writing = batch.writing
        guesses = self._guesses(writing)
        if writing:
            self.weights.pack_next(len(writing) + sum(map(len, guesses.values())))
        drafts = guesses if self.weights.wide else {}
        room = MEASURED_TOKENS if batch.measuring else PROMPT_TOKENS
        spans = batch.spans(drafts, CHUNK if writing else room)
        starts = _starts(spans)  # of each item whose next token is due, its place in the logits
        logits = self._run(batch, spans, starts)
        if known:
            starts |= {item: len(logits) + place for place, item in enumerate(known)}
            first = [batch.first_logits[item.encoded] for item in known]
            logits = torch.cat([logits, torch.stack(first)])
        batch.forget()
        scored = {item: at for item, at in starts.items() if isinstance(item, Loglikelihood)}
        results = list(self._score(batch, scored, logits))
        results += self._score_windows(batch, spans, starts, logits)
        rows = {item: at for item, at in starts.items() if isinstance(item, Sequence)}
        events = self._write(batch, rows, drafts, logits)
        if guesses and not drafts:
            self._watch(guesses)
        yield from events
        yield from results

    def _guesses(self, rows: list[Sequence]) -> dict[Sequence, list[int]]:
        """Guesses of what each row will write next, where they pay or soon would."""
        if not rows or self._speculation is None:
            return {}
        return self._speculation.drafts(rows, self.info.context)

    def _watch(self, guesses: dict[Sequence, list[int]]) -> None:
        """Learn from guesses that were not run: the weights are not ready for several rows."""
        for row, guess in guesses.items():
            if self._speculation:
                self._speculation.learn(row, 1, int(row.tokens[-1] == guess[0]))

    def _run(
        self, batch: Scheduler, spans: list[ScheduledTokens], starts: dict[Item, int]
    ) -> Tensor:
        """Run the spans' tokens; the logits that are wanted of them, one after the other."""
        tokens = list(chain.from_iterable(span.tokens for span in spans))
        wanted, place = [], 0
        for span in spans:
            wanted += [place + own for own in span.wanted]
            place += len(span.tokens)
        segments = [span.segment for span in spans]
        logits = forward_step(self.weights, batch.cache, segments, tokens, wanted)
        for span in spans:
            batch.keep(span)
            if span.item in starts:
                batch.share(span, logits[starts[span.item] + len(span.wanted) - 1])
        return logits

    def _score(
        self, batch: Scheduler, scored: dict[Loglikelihood, int], logits: Tensor
    ) -> Iterator[Event]:
        """Score choices whose prompts are in the cache; their slots are free again."""
        for item, place in scored.items():
            item.begin(logits[place])
        branches = [
            Branch(item, batch.slot(item), place)
            for item in scored
            for place, ids in enumerate(item.encoded.choices)
            if len(ids) > 1
        ]
        for few in packed(branches, BRANCH_TOKENS):
            tokens = [token for branch in few for token in branch.ids[:-1]]
            after = forward_step(
                self.weights, batch.cache, [branch.segment for branch in few], tokens
            )
            targets = [token for branch in few for token in branch.ids[1:]]
            values = iter(likelihoods(after, targets))
            for branch in few:
                branch.scored.logprobs[branch.place] += islice(values, branch.segment.length)
        for item in scored:
            batch.leave(item)
        for item in scored:
            yield from item.finished()

    def _score_windows(
        self,
        batch: Scheduler,
        spans: list[ScheduledTokens],
        starts: dict[Item, int],
        logits: Tensor,
    ) -> list[Event]:
        """Score what the step ran of windows; those that are done leave their slots."""
        done = []
        for span in spans:
            item = span.item
            if isinstance(item, LoglikelihoodRolling) and span.wanted:
                start = starts[item]
                item.take(logits[start : start + len(span.wanted)])
                if item.done:
                    done.append(item)
        for item in done:
            batch.leave(item)
        return [item.finished() for item in done]

    def _write(
        self,
        batch: Scheduler,
        rows: dict[Sequence, int],
        drafts: dict[Sequence, list[int]],
        logits: Tensor,
    ) -> list[Event]:
        """Write the next tokens of each row; finished rows leave their slots."""
        written = {row: len(row.tokens) for row in rows}
        guesses = [drafts.get(row, []) for row in rows]
        events = list(advance_drafted(list(rows), guesses, logits, list(rows.values())))
        # All this before anything is given out: whoever reads the events may stop at any of them.
        for row, guess in zip(rows, guesses, strict=True):
            if guess and self._speculation:
                right = max(len(row.tokens) - written[row] - 1, 0)
                batch.extend(row, guess, right)
                self._speculation.learn(row, len(guess), right)
            if row.finish_reason:
                batch.leave(row)
        return events


def _starts(spans: list[ScheduledTokens]) -> dict[Item, int]:
    """Where the logits of each span begin, of those that want any."""
    due = [span for span in spans if span.wanted]
    sizes = accumulate((len(span.wanted) for span in due), initial=0)
    return {span.item: place for span, place in zip(due, sizes, strict=False)}
