"""Answers the questions of a task over one engine, in order.

The requests of each plan run through `gptcli.multiplex`. Generated text is read while it arrives: a
text whose reading is complete is cancelled, so no token is generated in vain. Not here: the
requests for a question are in `gptcli.tasks.plans`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import cast

from gptcli.multiplex import Exchange, Plan, run_plans
from gptcli.options import Overflow, Sampling
from gptcli.protocol import (
    ChoiceLogprobs,
    Chunk,
    Completion,
    Engine,
    Event,
    LoglikelihoodRequest,
    Request,
)
from gptcli.tasks.answers import Answer, AnswerChunk, Question
from gptcli.tasks.plans import plan
from gptcli.tasks.prompts import Wording
from gptcli.tasks.run_context import (
    Ask,
    AskText,
    Reply,
    RunContext,
    calibration_prompts,
    prepared,
)
from gptcli.tasks.text.joining import between

WAITING_PER_SLOT = 4  # finished answers that may wait for an earlier one, per slot


def solve(
    engine: Engine,
    wording: Wording,
    questions: Iterable[Question | None],
    sampling: Sampling,
    on_overflow: Overflow = "error",
    batch_size: int = 1,
    say: Callable[[str], None] = lambda text: None,
    shown: bool = True,
) -> Iterator[AnswerChunk | Answer]:
    """Answer every question. Answers come in order, each as soon as the earlier ones are there.

    With one sequence, the chunks of an answer's text come before it. Questions are pulled when a
    slot is free; None means "none right now". `say` receives a message for every step. `shown` is
    what `GenerateRequest` has. Raises what makes the whole run impossible; an error of one question
    is in its answer.
    """
    context = replace(prepared(engine, wording, sampling, on_overflow, say), shown=shown)
    ids = map(str, count(1))
    [context] = run_plans(engine, [Plan(calibrated(context, ids))])
    yield from run_plans(
        engine, plans(engine, context, questions, ids), WAITING_PER_SLOT * batch_size
    )


def plans(
    engine: Engine,
    context: RunContext,
    questions: Iterable[Question | None],
    ids: Iterator[str],
) -> Iterator[Plan[AnswerChunk | Answer] | None]:
    """A plan for each question, for a run of the engine; `ids` gives its requests their ids.

    The context is one that `calibrated` gave.
    """
    for question in questions:
        if question is None:
            yield None
            continue
        asking = _Question(engine, context, question, ids)
        yield Plan(asking.exchange(), so_far=asking.pieces)


def calibrated(context: RunContext, ids: Iterator[str]) -> Exchange[tuple[RunContext]]:
    """The context with the labels' log-probabilities without an input, where it needs them."""
    if context.kind != "labels":
        return (context,)
    prompts = calibration_prompts(context.wording)
    requests = [
        LoglikelihoodRequest(id=next(ids), prompt=text, choices=context.choices(text))
        for text in prompts
    ]
    scores: dict[str, ChoiceLogprobs] = {}
    asked: Iterable[Request] = requests
    while len(scores) < len(requests):
        event = yield asked
        asked = ()
        if isinstance(event, ChoiceLogprobs):
            scores[event.id] = event
    for score in scores.values():
        if score.error:
            raise score.error
    found = [tuple(choice.total for choice in scores[one.id].choices) for one in requests]
    return (replace(context, prior=tuple(found)),)


@dataclass
class _Asked:
    """A request in progress."""

    ask: Ask
    request: Request
    read: dict[int, tuple[str, bool]] = field(default_factory=dict)  # by index
    results: dict[int, Completion | ChoiceLogprobs] = field(default_factory=dict)
    so_far: dict[int, str] = field(default_factory=dict)  # text written, by index
    given: int = 0  # characters of the answer that were yielded

    @property
    def finished(self) -> bool:
        """Whether all results are there; a refused request has only one."""
        return len(self.results) == self.request.results or self.failed

    @property
    def failed(self) -> bool:
        """Whether a result is an error."""
        return any(result.error for result in self.results.values())

    @property
    def settled(self) -> bool:
        """Whether no further text can change the answer of any sequence."""
        return len(self.read) == self.request.results and all(
            done for _, done in self.read.values()
        )

    def take(self, event: Event) -> None:
        """Record an event, and read the text so far."""
        match event, self.ask:
            case Chunk(index=index), AskText(read=read):
                self.so_far[index] = self.so_far.get(index, "") + event.text
                self.read[index] = read(self.so_far[index], False)
            case Completion(index=index), AskText(read=read):
                self.results[index] = event
                text, _ = read(event.text, True)
                self.read[index] = text, self.read.get(index, ("", False))[1]
            case ChoiceLogprobs(), _:
                self.results[0] = event

    def reply(self) -> Reply:
        """The reply for the plan."""
        results = tuple(self.results[index] for index in sorted(self.results))
        read = [self.read.get(index, ("", True)) for index in range(self.request.results)]
        texts, done = tuple(text for text, _ in read), tuple(done for _, done in read)
        return Reply(self.ask.part, self.ask.before, texts, done, results)


class _Question:
    """A question in progress: its current requests, and the text that was yielded."""

    def __init__(
        self, engine: Engine, context: RunContext, question: Question, ids: Iterator[str]
    ) -> None:
        self._engine, self._context, self._question = engine, context, question
        self._ids = ids  # for the requests of the run
        self._asked: list[_Asked] = []

    def exchange(self) -> Exchange[tuple[Answer, ...]]:
        """Run the requests of its plan, and send the plan their replies."""
        steps = plan(self._context, self._question)
        replies: tuple[Reply, ...] | None = None
        while True:
            try:
                asks = next(steps) if replies is None else steps.send(replies)
            except StopIteration as done:
                return cast(tuple[Answer, ...], done.value)
            shown = self._context.shown
            self._asked = [_Asked(ask, ask.request(next(self._ids), shown)) for ask in asks]
            yield from self._results()
            replies = tuple(asked.reply() for asked in self._asked)

    def _results(self) -> Exchange[None]:
        """Wait for the results of all current requests."""
        known = {asked.request.id: asked for asked in self._asked}
        requests: list[Request] = [asked.request for asked in self._asked]
        while not all(asked.finished for asked in self._asked):
            event = yield requests
            requests = []
            asked = known.get(event.id)
            if asked is None or asked.finished:
                continue
            asked.take(event)
            if isinstance(event, Chunk) and asked.settled:
                self._engine.cancel(event.id)

    def pieces(self) -> Iterator[AnswerChunk]:
        """The new text of the answer, up to the first unfinished request."""
        left = ""  # the end of what is there
        for asked in self._asked:
            ask = asked.ask
            single = isinstance(ask, AskText) and asked.request.results == 1
            if not (single and ask.final) or asked.failed:
                return
            text = asked.read[0][0] if asked.read else ""
            if text or asked.finished:
                text = between(ask.before, left, text) + text
                if len(text) > asked.given:
                    yield AnswerChunk(text[asked.given :])
                    asked.given = len(text)
            if not asked.finished:
                return
            left = text or left
