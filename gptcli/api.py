"""GPT-2 in Python: `load("gpt2").generate("Once upon a time")`.

A thin layer over `gptcli.protocol.Engine`. The command line uses the same engine. Nothing is
printed; failures are GptcliErrors, in the words of Python: `top_p`, not `--top-p`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from gptcli.batch.api import Frame, Inputs, Send, Watch, run_batch
from gptcli.batch.input.inputs import Name
from gptcli.batch.options import Batch, BatchInput
from gptcli.batch.run.tally import BatchResult
from gptcli.checkpoints.names import BUNDLED
from gptcli.engines import forking, open_engine
from gptcli.errors import UsageError, told_in_python
from gptcli.inputs.records import Note
from gptcli.inputs.texts import checked, each, each_prompt, prompt_of, token_id
from gptcli.options import Load, Overflow, Sampling
from gptcli.options.keywords import merged, shared_out
from gptcli.options.moderation import ModeratedLoad, moderated
from gptcli.protocol import Chunk, Completion, Engine, Event, GenerateRequest, ModelInfo, Request
from gptcli.scoring.options import Scoring
from gptcli.scoring.scorer import Detail, TextToScore, score
from gptcli.scoring.scores import TextScore
from gptcli.tasks.answers import Answer, Question
from gptcli.tasks.definition import catalog
from gptcli.tasks.definition.options import chosen, parted, settings_of
from gptcli.tasks.prompts import worded
from gptcli.tasks.solver import solve

Prompt = str | Sequence[int]
"""A text, or token ids, which need no tokenizer."""
Examples = Iterable[str | tuple[str, str]]
"""Of a task: "INPUT = OUTPUT", or a pair."""
Found = TypeVar("Found", Completion, Answer, TextScore)


class Model:
    """A loaded model. Its methods may be called one after the other, not from several threads.

    A forked child can use it, on one thread. Sampling is given as a `Sampling`, by keywords
    (`max_new_tokens=5`), or both: keywords win.
    """

    def __init__(self, engine: Engine, batch_size: int = 8, load: Load | None = None) -> None:
        self._engine, self._batch_size = engine, batch_size
        self._load = load or Load(model=engine.info.name)
        self._process = os.getpid()

    def __repr__(self) -> str:
        info = self._engine.info
        size = f"{info.parameters:,} parameters, context {info.context}"
        return f"<gptcli.Model {info.name}: {size}, {info.dtype} on {info.device}>"

    @property
    def engine(self) -> Engine:
        """What runs the model, for `gptcli.inspection`. Raises Unavailable where a forked child
        cannot use it.
        """
        if os.getpid() != self._process:
            forking.check(self._engine.info)
            self._process = os.getpid()
        return self._engine

    @property
    def info(self) -> ModelInfo:
        """Name, revision, context, data type, device, parameters."""
        return self._engine.info

    def encode(self, text: str) -> list[int]:
        """The token ids of a text. Raises BadInput, and Unavailable for a server's model."""
        with told_in_python():
            checked(text, "text")
            return self.engine.tokenizer.encode(text)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of token ids; incomplete characters become U+FFFD. Raises as `encode`."""
        with told_in_python():
            tokenizer, known = self.engine.tokenizer, self.info.vocabulary
            tokens = [token_id(id, known) for id in ids]
            return tokenizer.decode(tokens, special=not skip_special_tokens)

    def count(self, text: str) -> int:
        """How many tokens a text is. Raises as `encode`."""
        with told_in_python():
            checked(text, "text")
            return self.engine.count(text)

    def generate(
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        on_overflow: Overflow = "error",
        **settings: Any,
    ) -> Completion:
        """Continue `prompt` once: `generate("Once", max_new_tokens=5)`.

        A list of token ids is a prompt, too; the new ids are the completion's `tokens`.
        Raises UsageError, and BadInput if the prompt does not fit the context; `on_overflow` can
        cut it instead, "truncate-left" or "truncate-right".
        """
        with told_in_python():
            one = _single(merged(Sampling, sampling, settings))
            given = prompt_of(prompt, "prompt")
        [completion] = self.generate_many([given], one, on_overflow=on_overflow)
        if completion.error:
            raise completion.error
        return completion

    def generate_many(
        self,
        prompts: Iterable[Prompt],
        sampling: Sampling | None = None,
        *,
        on_overflow: Overflow = "error",
        **settings: Any,
    ) -> list[Completion]:
        """Continue every prompt, `batch_size` at a time; n completions each, in input order.

        What is wrong with one prompt is in its completion's `error`, and its text is empty.
        """
        with told_in_python():
            every = merged(Sampling, sampling, settings)
            texts = each_prompt(prompts, "prompts", "generate")
        done: list[Completion] = []

        def requests() -> Iterator[GenerateRequest]:
            for id, prompt, error in texts:
                request = GenerateRequest(
                    id=id, prompt=prompt, sampling=every, on_overflow=on_overflow, shown=False
                )
                if error is None:
                    yield request
                else:
                    done.append(request.refused(error, self.info))

        done += [event for event in self.run(requests()) if isinstance(event, Completion)]
        return sorted(done, key=lambda completion: (int(completion.id), completion.index))

    def stream(
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        on_overflow: Overflow = "error",
        **settings: Any,
    ) -> Iterator[str]:
        """The continuation of `prompt`, piece by piece as it is written. Raises as `generate`."""
        with told_in_python():
            one = _single(merged(Sampling, sampling, settings))
            if one.num_beams > 1:
                raise UsageError("stream", "beam search cannot be streamed", "Use generate.")
            given = prompt_of(prompt, "prompt")
        request = GenerateRequest(id="0", prompt=given, sampling=one, on_overflow=on_overflow)
        for event in self.run([request]):
            if isinstance(event, Chunk):
                if event.text:
                    yield event.text
            elif event.error:
                raise event.error

    def ask(
        self,
        task: str,
        text: str,
        options: Mapping[str, object] | None = None,
        sampling: Sampling | None = None,
        examples: Examples = (),
        *,
        on_overflow: Overflow = "error",
        **settings: Any,
    ) -> Answer:
        """Run a task, built-in or the user's: `ask("translate", "Good morning.", to="de")`.

        `options` are the task's own, by the names of its file; keywords are options of the task or
        of sampling. Without `sampling` the task's defaults count; `examples` are pairs of input and
        output, or texts "INPUT = OUTPUT". Raises UsageError, BadTask, BadInput.
        """
        with told_in_python():
            checked(text, "text")
            if sampling is not None:
                _single(sampling)
        settings |= {"on_overflow": on_overflow}
        found = list(self.ask_many(task, [text], options, sampling, examples, **settings))
        if found[0].error:
            raise found[0].error
        if len(found) > 1:
            raise _several("ask_many")
        return found[0]

    def ask_many(
        self,
        task: str,
        texts: Iterable[str],
        options: Mapping[str, object] | None = None,
        sampling: Sampling | None = None,
        examples: Examples = (),
        *,
        on_overflow: Overflow = "error",
        **settings: Any,
    ) -> Iterator[Answer]:
        """Run a task on many texts, in order; what is wrong with one is in its answer's `error`."""
        with told_in_python():
            found = catalog.find(task)
            own, rest = parted(found, settings, Sampling)
            start = sampling or Sampling(**found.sampling)  # type: ignore[arg-type]
            how = merged(Sampling, start, rest)
            shots = tuple(shot if isinstance(shot, str) else " = ".join(shot) for shot in examples)
            wording = worded(found, chosen(found, {**(options or {}), **own}), shots)
            questions = (Question(*item) for item in each(texts, "texts", "ask"))
            events = solve(self.engine, wording, questions, how, on_overflow, self._batch_size)
            for event in events:
                if isinstance(event, Answer):
                    yield _told(event)

    def score(
        self,
        text: str,
        scoring: Scoring | None = None,
        detail: Detail = "tokens",
        **settings: Any,
    ) -> TextScore:
        """How likely `text` is: perplexity, bits per byte, and each token's (or word's) surprisal.

        The numbers are as exact as the weights: load the model with dtype="float32" for those of
        float32. Raises UsageError (an empty text, a stride too long) and BadInput.
        """
        with told_in_python():
            checked(text, "text")
        [found] = self.score_many([text], scoring, detail, **settings)
        if found.error:
            raise found.error
        return found

    def score_many(
        self,
        texts: Iterable[str],
        scoring: Scoring | None = None,
        detail: Detail = "texts",
        **settings: Any,
    ) -> Iterator[TextScore]:
        """Score many texts, in order; what is wrong with one is in its score's `error`."""
        with told_in_python():
            how = merged(Scoring, scoring, settings)
            numbered = (TextToScore(*item) for item in each(texts, "texts", "score"))
            for found in score(self.engine, numbered, how, detail, self._batch_size):
                yield _told(found)

    def batch_file(
        self,
        inputs: Inputs,
        output: Name | Send,
        *,
        batch: Batch | None = None,
        reading: BatchInput | None = None,
        sampling: Sampling | None = None,
        options: Mapping[str, object] | None = None,
        watch: Watch | None = None,
        note: Note | None = None,
        **settings: Any,
    ) -> BatchResult:
        """Answer the prompts of files durably with this model; called again, it goes on.

        `batch_file("reviews.csv", "labels.jsonl", column="review", task="classify",
        options={"labels": ["good", "bad"]})`. Keywords are options of `Batch`, `BatchInput` and
        `Sampling`; `options` are the task's. All else is as in `gptcli.run_batch`, also what is
        raised; a batch begun by `gptcli batch` with the same options goes on here.
        """
        with told_in_python():
            parts = shared_out((Batch, BatchInput, Sampling), settings)
            own = {"set": settings_of(options)} if options else {}
            how = merged(Batch, batch, {**parts[Batch], **own})
            if how.size is None and how.workers == 1 and how.runner == "local":
                how = replace(how, batch_size=str(self._batch_size))
            if parts[Sampling]:
                task = catalog.find(how.task).sampling if how.task and sampling is None else {}
                start = sampling or Sampling(**task)  # type: ignore[arg-type]
                sampling = merged(Sampling, start, parts[Sampling])
            beams = sampling is not None and sampling.num_beams > 1  # the batch loads its own
            return run_batch(
                inputs,
                output,
                batch=how,
                reading=merged(BatchInput, reading, parts[BatchInput]),
                load=self._load,
                sampling=sampling,
                watch=watch,
                note=note,
                frame=Frame(engine=None if beams else self.engine),
            )

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """The engine itself: see `gptcli.protocol.Engine.run`."""
        with told_in_python():
            for event in self.engine.run(requests):
                if isinstance(event, Chunk) or event.error is None:
                    yield event
                else:
                    yield replace(event, error=event.error.in_python())

    def cancel(self, id: str) -> None:
        """End a request of `run` by its id: see `gptcli.protocol.Engine.cancel`."""
        self._engine.cancel(id)


def load(
    model: Name | None = None,
    options: Load | None = None,
    batch_size: int = 8,
    beams: bool = False,
    **settings: Any,
) -> Model:
    """Load a model by alias, path or Hub id; without a name as `gptcli generate` would.

    `batch_size` sequences are in flight at once; `beams` allows beam search (through transformers,
    which is slower to load and to run). Keywords are fields of `Load`: `load("gpt2",
    dtype="float32")`. Warns where tiny-tales stands in for gpt2. Raises UsageError, MissingInput,
    Unavailable, BadModel.
    """
    with told_in_python():
        how: Load = merged(ModeratedLoad, moderated(options), settings)
        if model is not None:
            how = replace(how, model=os.fspath(model))
        engine = open_engine(how, batch_size, beams, text=False)
    if how.model is None and how.server is None and engine.info.name == BUNDLED:
        why = " ".join(engine.info.notices[:1])
        warnings.warn(f"{why}. To choose it: load({BUNDLED!r})", stacklevel=2)
    return Model(engine, batch_size, how)


def _single(sampling: Sampling) -> Sampling:
    if sampling.num_return_sequences > 1:
        raise _several("generate_many")
    return sampling


def _several(instead: str) -> UsageError:
    return UsageError("num_return_sequences", "one text is given back", f"Use {instead}.")


def _told(found: Found) -> Found:
    """A result whose error is told in the words of Python."""
    return replace(found, error=found.error.in_python()) if found.error else found
