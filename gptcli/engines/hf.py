"""Any other causal language model, and beam search, through transformers' `generate`.

transformers runs the model and its KV cache. Our sampler still chooses each token, as a logits
processor that leaves one candidate. So seeds, filters, stop strings and log-probabilities mean the
same as in the built-in engine. `generate` blocks, so it runs in a thread and passes events through
a queue. Requests run one after the other, the n sequences of one request together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from queue import SimpleQueue
from threading import Thread
from time import sleep
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from gptcli.checkpoints.adapters.reference import Adapted
from gptcli.checkpoints.config_json import context_of
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.resolve import Checkpoint
from gptcli.checkpoints.tokenization.loading import check_vocabulary, notices_of
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.adapted import adapt
from gptcli.engines.decoding.bans.beams import BeamBans
from gptcli.engines.decoding.loglikelihood import Loglikelihood, likelihoods
from gptcli.engines.decoding.loglikelihood_rolling import LoglikelihoodRolling
from gptcli.engines.decoding.request import (
    EncodedGenerate,
    EncodedLoglikelihood,
    EncodedRolling,
    encode_request,
)
from gptcli.engines.decoding.sequence import Sequence, new_sequences
from gptcli.engines.decoding.step import IDLE_SECONDS, advance, not_finite
from gptcli.engines.decoding.vocabulary_ops import Floats
from gptcli.engines.hf_loading import loaded, quiet
from gptcli.engines.token_counter import DEFAULT_CONTEXT_TOKENS
from gptcli.errors import BadModel
from gptcli.protocol import Event, ModelInfo, Request


class HFEngine:
    """A transformers model; see `gptcli.protocol.Engine`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        checked: CheckedCheckpoint,
        tokenizer: Tokenizer,
        device: torch.device,
        dtype: torch.dtype,
        adapted: Adapted,
    ) -> None:
        model = loaded(checkpoint, dtype)
        applied = adapt(model, inspect(checkpoint.folder), checkpoint.adapters, checkpoint.name)
        self._model = model.to(device).eval()
        defaults = self._model.generation_config
        # A checkpoint's own sampling settings must not mix with those that were asked for.
        self._model.generation_config = GenerationConfig()
        self.tokenizer = tokenizer
        self._cancelled_by_run: list[set[str]] = []  # ids of cancelled requests, one set a run
        vocabulary = self._model.get_input_embeddings().num_embeddings
        check_vocabulary(tokenizer, vocabulary)
        tokenizer.roles = tokenizer.roles.with_defaults(
            defaults.bos_token_id, defaults.eos_token_id
        ).within(vocabulary)
        context, assumed = _context(checkpoint.name, checked)
        told = checked.notices_beside(tokenizer.roles.ends)
        self.info = ModelInfo(
            name=checkpoint.title,
            revision=checkpoint.revision,
            architecture=checked.model_type,
            context=context,
            vocabulary=vocabulary,
            parameters=self._model.num_parameters(),
            dtype=str(dtype).removeprefix("torch."),
            device=str(device),
            notices=checkpoint.notices + told + assumed + notices_of(tokenizer),
            folder=checkpoint.folder,
            adapted=replace(adapted, applied=applied),
        )

    def count(self, text: str) -> int:
        """How many tokens a text is."""
        return len(self.tokenizer.encode(text))

    def cancel(self, id: str) -> None:
        """End the request `id`; a beam search is not interrupted. See `gptcli.protocol.Engine`."""
        for cancelled in self._cancelled_by_run:
            cancelled.add(id)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Continue every request, one after the other; see `gptcli.protocol.Engine.run`."""
        cancelled: set[str] = set()
        self._cancelled_by_run.append(cancelled)
        try:
            for request in requests:
                if request is None:
                    sleep(IDLE_SECONDS)
                    continue
                match encode_request(request, self.tokenizer, self.info, beams=True):
                    case EncodedGenerate() as encoded if encoded.request.sampling.num_beams > 1:
                        yield from self._search(encoded)
                    case EncodedGenerate() as encoded:
                        yield from self._stream(encoded, cancelled)
                    case EncodedLoglikelihood() as encoded:
                        yield from self._score(encoded)
                    case EncodedRolling() as encoded:
                        yield self._score_window(encoded)
                    case refusal:
                        yield refusal
        finally:
            # Not remove(), which would take any equal set.
            self._cancelled_by_run = [
                other for other in self._cancelled_by_run if other is not cancelled
            ]

    def _stream(self, encoded: EncodedGenerate, cancelled: set[str]) -> Iterator[Event]:
        """Generate the sequences of a request step by step."""
        hooks = GenerateHooks(list(new_sequences(encoded)), cancelled)

        def work() -> None:
            try:
                self._generate(
                    [encoded.prompt_ids] * len(hooks.sequences),
                    GenerationConfig(
                        do_sample=False, max_new_tokens=encoded.new_token_limit, pad_token_id=0
                    ),
                    logits_processor=[hooks.choose],
                    stopping_criteria=[hooks.ended],
                )
            except BaseException as error:  # raised again where the events are read
                hooks.events.put(error)
            finally:
                hooks.events.put(None)

        worker = Thread(target=work, name="generate", daemon=True)
        worker.start()
        try:
            while (event := hooks.events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
            for sequence in hooks.sequences:
                if sequence.finish_reason is None:
                    yield from sequence.cancel()
        finally:
            hooks.abandoned = True
            worker.join()

    def _score(self, encoded: EncodedLoglikelihood) -> Iterator[Event]:
        """Score the choices, each after the whole prompt: they share no KV cache here."""
        scored, prompt = Loglikelihood(encoded), encoded.prompt_ids
        for ids in encoded.choices:
            tokens = torch.tensor([[*prompt, *ids[:-1]]], device=self._model.device)
            with torch.inference_mode(), quiet():
                logits = self._model(tokens, use_cache=False).logits[0, len(prompt) - 1 :]
            scored.logprobs.append(likelihoods(as_rows(logits), list(ids)))
        yield from scored.finished()

    def _score_window(self, encoded: EncodedRolling) -> Event:
        """Score a window. All its logits are in memory at once."""
        scored = LoglikelihoodRolling(encoded)
        tokens = torch.tensor([encoded.prompt_ids], device=self._model.device)
        with torch.inference_mode(), quiet():
            logits = self._model(tokens, use_cache=False).logits[0, encoded.logits_from :]
        scored.take(as_rows(logits))
        return scored.finished()

    def _search(self, encoded: EncodedGenerate) -> Iterator[Event]:
        """Beam search: the best sequences arrive at once, each as if generated in one step."""
        sampling, rules = encoded.request.sampling, encoded.rules
        eos = [*rules.eos, *rules.stops] or None
        settings = GenerationConfig(
            do_sample=False,
            num_beams=sampling.num_beams,
            num_return_sequences=sampling.num_return_sequences,
            max_new_tokens=encoded.new_token_limit,
            min_new_tokens=sampling.min_new_tokens or None,
            repetition_penalty=sampling.repetition_penalty,
            no_repeat_ngram_size=sampling.no_repeat_ngram_size,
            bad_words_ids=[list(word) for word in rules.bad_words] or None,
            sequence_bias=[[[token], value] for token, value in rules.bias] or None,
            eos_token_id=eos,
            pad_token_id=eos[0] if eos else 0,
        )
        sequences = list(new_sequences(encoded))

        def check(input_ids: Tensor, scores: Tensor) -> Tensor:
            """A logits processor that changes nothing."""
            if scores.isnan().any():
                raise not_finite(self.info.name, 1)
            return scores

        processors: list[Any] = [check]
        if rules.bans is not None:
            processors.append(BeamBans(rules.bans, rules.ban_start, len(encoded.prompt_ids)))
        try:
            found = self._generate([encoded.prompt_ids], settings, logits_processor=processors)
        except BadModel as error:
            for sequence in sequences:
                yield from sequence.fail(error)
            return
        for sequence, tokens in zip(
            sequences, found[:, len(encoded.prompt_ids) :].tolist(), strict=True
        ):
            yield from _pushed(sequence, tokens)

    def _generate(
        self,
        prompts: list[tuple[int, ...]],
        settings: GenerationConfig,
        logits_processor: list[Any] | None = None,
        stopping_criteria: list[Any] | None = None,
    ) -> Tensor:
        """transformers' `generate` on equal prompts: tokens (rows, prompt + new)."""
        tokens = torch.tensor(prompts, device=self._model.device)
        with quiet():
            return self._model.generate(  # type: ignore[no-any-return]
                tokens,
                attention_mask=torch.ones_like(tokens),
                generation_config=settings,
                logits_processor=logits_processor,
                stopping_criteria=stopping_criteria,
            )


def _pushed(sequence: Sequence, tokens: list[int]) -> Iterator[Event]:
    """The events of a sequence that was found, up to its end."""
    for token in tokens:
        if sequence.sampler.forbids(token):  # a beam goes on with it where it has no other
            break
        yield sequence.push(token)
        if sequence.finish_reason:
            yield sequence.completion()
            return
    yield from sequence.give_up()


class GenerateHooks:
    """The callbacks of `generate`: our sampler, and our stopping criterion."""

    def __init__(self, sequences: list[Sequence], cancelled: set[str]) -> None:
        self.sequences = sequences
        self.events: SimpleQueue[Event | BaseException | None] = SimpleQueue()
        self.abandoned = False
        self._cancelled = cancelled

    def choose(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """A logits processor, (B, vocab): leaves each row only the token that our sampler chose."""
        live = [
            row for row, sequence in enumerate(self.sequences) if sequence.finish_reason is None
        ]
        sequences = [self.sequences[row] for row in live]
        for event in advance(sequences, as_rows(scores[live])):
            self.events.put(event)
        chosen = torch.full_like(scores, -torch.inf)
        for row, sequence in enumerate(self.sequences):
            chosen[row, sequence.tokens[-1] if sequence.tokens else 0] = 0
        return chosen

    def ended(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """A stopping criterion, (B,): which sequences are finished."""
        gone = self.abandoned or self.sequences[0].encoded.request.id in self._cancelled
        done = [gone or sequence.finish_reason is not None for sequence in self.sequences]
        return torch.tensor(done, device=input_ids.device)


def as_rows(logits: Tensor) -> Floats:
    """Logits as the sampler takes them."""
    rows: Floats = logits.float().cpu().numpy()
    return rows


def _context(name: str, checked: CheckedCheckpoint) -> tuple[int, tuple[str, ...]]:
    """The longest sequence of a model, with a notice where its configuration does not say."""
    context = context_of(checked.config)
    if context is not None:
        return context, ()
    return DEFAULT_CONTEXT_TOKENS, (
        f"{name} names no context length: {DEFAULT_CONTEXT_TOKENS} tokens assumed",
    )
