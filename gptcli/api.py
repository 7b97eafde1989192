"""GPT-2 in Python: `load("gpt2").generate("Once upon a time")`.

A thin layer over `gptcli.protocol.Engine`. The command line uses the same engine. Nothing is
printed; failures are GptcliErrors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from gptcli.engines import open_engine
from gptcli.errors import UsageError
from gptcli.options import Load, Sampling
from gptcli.protocol import Chunk, Completion, Engine, Event, GenerateRequest, ModelInfo, Request
from gptcli.scoring.options import Scoring
from gptcli.scoring.scorer import Detail, TextToScore, score
from gptcli.scoring.scores import TextScore
from gptcli.tasks.answers import Answer, Question
from gptcli.tasks.definition import catalog
from gptcli.tasks.definition.options import chosen
from gptcli.tasks.prompts import worded
from gptcli.tasks.solver import solve


class Model:
    """A loaded model. Its methods may be called one after the other, not from several threads."""

    def __init__(self, engine: Engine, batch_size: int = 8) -> None:
        self._engine, self._batch_size = engine, batch_size

    @property
    def engine(self) -> Engine:
        """What runs the model, for the functions of `gptcli.inspection`."""
        return self._engine

    @property
    def info(self) -> ModelInfo:
        """Name, revision, context, dtype, device, parameters."""
        return self._engine.info

    def generate(self, prompt: str, sampling: Sampling | None = None) -> Completion:
        """Continue `prompt` once. Raises BadInput if it does not fit the context."""
        settings = _single(sampling)
        return self.generate_many([prompt], settings)[0]

    def generate_many(
        self, prompts: Iterable[str], sampling: Sampling | None = None
    ) -> list[Completion]:
        """Continue every prompt, `batch_size` at a time; n completions each, in input order.

        The first failing prompt's error is raised; use `run` to go on past failures.
        """
        settings = sampling or Sampling()
        requests = (
            GenerateRequest(id=str(number), prompt=prompt, sampling=settings)
            for number, prompt in enumerate(prompts)
        )
        done = [event for event in self.run(requests) if isinstance(event, Completion)]
        done.sort(key=lambda completion: (int(completion.id), completion.index))
        for completion in done:
            if completion.error:
                raise completion.error
        return done

    def stream(self, prompt: str, sampling: Sampling | None = None) -> Iterator[str]:
        """The continuation of `prompt`, piece by piece as it is written."""
        settings = _single(sampling)
        if settings.num_beams > 1:
            raise UsageError("stream", "beam search cannot be streamed", "Use generate")
        for event in self.run([GenerateRequest(id="0", prompt=prompt, sampling=settings)]):
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
        examples: Iterable[str] = (),
    ) -> Answer:
        """Run a task, built-in or the user's: `ask("translate", "Good morning.", {"to": "de"})`.

        `options` are the task's own, by the names of its file; without `sampling` the task's
        defaults count; `examples` are pairs "INPUT = OUTPUT". Raises UsageError, BadTask, BadInput.
        """
        settings = _single(sampling) if sampling else None
        [answer] = self.ask_many(task, [text], options, settings, examples)
        if answer.error:
            raise answer.error
        return answer

    def ask_many(
        self,
        task: str,
        texts: Iterable[str],
        options: Mapping[str, object] | None = None,
        sampling: Sampling | None = None,
        examples: Iterable[str] = (),
    ) -> Iterator[Answer]:
        """Run a task on many texts, in order; what is wrong with one is in its answer's `error`."""
        found = catalog.find(task)
        settings = sampling or Sampling(**found.sampling)  # type: ignore[arg-type]
        wording = worded(found, chosen(found, options or {}), tuple(examples))
        questions = (Question(str(number), text) for number, text in enumerate(texts))
        for event in solve(self._engine, wording, questions, settings, batch_size=self._batch_size):
            if isinstance(event, Answer):
                yield event

    def score(
        self, text: str, scoring: Scoring | None = None, detail: Detail = "tokens"
    ) -> TextScore:
        """How likely `text` is: perplexity, bits per byte, and each token's (or word's) surprisal.

        The numbers are as exact as the weights: load the model with Load(dtype="float32") for
        those of float32. Raises UsageError (an empty text, a stride too long) and BadInput.
        """
        [found] = self.score_many([text], scoring, detail)
        if found.error:
            raise found.error
        return found

    def score_many(
        self, texts: Iterable[str], scoring: Scoring | None = None, detail: Detail = "texts"
    ) -> Iterator[TextScore]:
        """Score many texts, in order; what is wrong with one is in its score's `error`."""
        numbered = (TextToScore(str(number), text) for number, text in enumerate(texts))
        return score(self._engine, numbered, scoring or Scoring(), detail, self._batch_size)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """The engine itself: see `gptcli.protocol.Engine.run`."""
        return self._engine.run(requests)

    def cancel(self, id: str) -> None:
        """End a request of `run` by its id: see `gptcli.protocol.Engine.cancel`."""
        self._engine.cancel(id)


def _single(sampling: Sampling | None) -> Sampling:
    settings = sampling or Sampling()
    if settings.num_return_sequences > 1:
        raise UsageError("num_return_sequences", "one text is given back", "Use generate_many")
    return settings


def load(
    model: str | None = None, options: Load | None = None, batch_size: int = 8, beams: bool = False
) -> Model:
    """Load a model by alias, path or Hub id; without a name as `gptcli generate` would.

    `batch_size` sequences are in flight at once; `beams` allows beam search (through transformers,
    which is slower to load and to run). Raises UsageError, MissingInput, Unavailable,
    BadModel.
    """
    settings = options or Load()
    if model is not None:
        settings = replace(settings, model=model)
    return Model(open_engine(settings, batch_size, beams), batch_size)
