"""Runs the plans of many inputs over one engine, and gives their answers in order.

One `Engine.run` serves all: requests of every open plan wait in one queue, and None tells the
engine that there is none right now. A text whose reading is done is cancelled, so that nothing is
written in vain. Left out: what a plan asks, see `gptcli.tasks.plans`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from gptcli.engines import Engine
from gptcli.options import Overflow, Sampling
from gptcli.results import Chunk, Completion, Event, Measured, Request, Score
from gptcli.tasks.answers import Answer, Piece, Question
from gptcli.tasks.plans import Plan, plan
from gptcli.tasks.prompts import Wording
from gptcli.tasks.setting import Ask, Reply, Setting, check_sampling, continuing, most_tokens

AHEAD = 4  # answers that wait for an earlier one, as a multiple of the batch size


def solve(
    engine: Engine,
    wording: Wording,
    questions: Iterable[Question | None],
    sampling: Sampling,
    on_overflow: Overflow = "error",
    batch_size: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Piece | Answer]:
    """Answer every question; the answers come in order, each as soon as those before are there.

    The pieces of an answer's text come before it, as they are written, where there is one sequence.
    Questions are pulled when there is room for one; None stands for "none right now". `say` is told
    of every step. Raises what makes the whole run impossible; what is wrong with one question is in
    its answer.
    """
    check_sampling(wording.task, wording.chosen, sampling)
    limit = most_tokens(wording, sampling, engine.info)
    fewer = trimmed(wording, engine, limit)
    notices: tuple[str, ...] = ()
    if len(fewer.shots) < len(wording.shots):
        notices = (
            f"{len(wording.shots) - len(fewer.shots)} of {len(wording.shots)} examples left out:"
            f" there is room for {limit} tokens in all",
        )
    setting = Setting(
        wording=fewer,
        sampling=sampling,
        info=engine.info,
        count=engine.count,
        on_overflow=on_overflow,
        notices=notices,
        say=say,
    )
    if setting.kind == "labels":
        setting = replace(setting, prior=_prior(engine, setting))
    board = _Board(engine, setting, iter(questions), batch_size)
    while board.open:
        for event in engine.run(board.requests()):
            board.take(event)
            yield from board.ready()
        yield from board.ready()


def trimmed(wording: Wording, engine: Engine, limit: int) -> Wording:
    """The wording with as many examples, the last ones, as leave half of `limit` tokens.

    A text that may be long does not count: it is what is cut then.
    """
    long = wording.task.long.field
    field = "" if long == "input" else long
    while wording.shots and engine.count(wording.text("", field)) > limit // 2:
        wording = wording.without(1)
    return wording


def _prior(engine: Engine, setting: Setting) -> tuple[tuple[float, ...], ...]:
    """The labels' log-probabilities without an input, as the calibration asks for them."""
    wording = setting.wording
    way = wording.parameter("calibration") or "none"
    prompts: list[str] = []
    if way == "contextual":
        free = wording.parameter("content_free")
        prompts = [wording.text(text) for text in (free if isinstance(free, tuple) else ("N/A",))]
    elif way == "pmi":
        prompts = [wording.domain]
    requests = [
        Request(id=str(number), prompt=text, choices=continuing(text, setting.labels))
        for number, text in enumerate(prompts)
    ]
    scores = {event.id: event for event in engine.run(requests) if isinstance(event, Score)}
    for score in scores.values():
        if score.error:
            raise score.error
    return tuple(
        tuple(choice.total for choice in scores[request.id].choices) for request in requests
    )


@dataclass
class _Asked:
    """A request under way."""

    ask: Ask
    read: dict[int, tuple[str, bool]] = field(default_factory=dict)  # by index
    results: dict[int, Completion | Score] = field(default_factory=dict)
    so_far: dict[int, str] = field(default_factory=dict)  # text written, by index
    given: int = 0  # characters of the answer that were given out

    @property
    def due(self) -> int:
        """How many results are awaited."""
        return 1 if self.ask.choices else self.ask.sampling.num_return_sequences

    @property
    def finished(self) -> bool:
        """Whether all results are there; a refused request has only one."""
        return len(self.results) == self.due or any(r.error for r in self.results.values())

    def reply(self) -> Reply:
        """What came of it."""
        results = tuple(self.results[index] for index in sorted(self.results))
        read = [self.read.get(index, ("", True)) for index in range(self.due)]
        texts, done = tuple(text for text, _ in read), tuple(done for _, done in read)
        return Reply(self.ask.part, self.ask.before, texts, done, results)


@dataclass
class _Open:
    """A plan under way, or done."""

    plan: Plan
    asked: list[_Asked] = field(default_factory=list)
    answers: tuple[Answer, ...] | None = None


class _Board:
    """The plans under way: which request belongs to which, and what is ready to be given out."""

    def __init__(
        self,
        engine: Engine,
        setting: Setting,
        questions: Iterator[Question | None],
        batch_size: int,
    ) -> None:
        self._engine, self._setting = engine, setting
        self._questions: Iterator[Question | None] | None = questions
        self._batch_size = batch_size
        self._queue: deque[Request] = deque()
        self._places: dict[str, tuple[_Open, _Asked]] = {}  # by the request's id
        self._open: deque[_Open] = deque()  # in the order of the questions
        self._number = 0

    @property
    def open(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._questions or self._open)

    def requests(self) -> Iterator[Request | None]:
        """What the engine pulls; it ends where answers are ready and nothing is under way."""
        while self._queue or self._questions or self._places:
            if self._queue:
                yield self._queue.popleft()
            elif not self._begin():
                if not self._places and self._open:
                    return
                yield None

    def _begin(self) -> bool:
        """Open the plan of one more question. False if there is none now, or no room."""
        if self._questions is None or len(self._open) >= AHEAD * self._batch_size:
            return False
        try:
            question = next(self._questions)
        except StopIteration:
            self._questions = None
            return False
        if question is None:
            return False
        begun = _Open(plan(self._setting, question))
        self._open.append(begun)
        self._advance(begun)
        return True

    def _advance(self, open: _Open) -> None:
        """Send a plan its replies, and queue what it asks next."""
        replies = tuple(asked.reply() for asked in open.asked)
        try:
            asks = open.plan.send(replies) if open.asked else next(open.plan)
        except StopIteration as done:
            open.answers = done.value
            return
        open.asked = [_Asked(ask) for ask in asks]
        for asked in open.asked:
            self._number += 1
            request = Request(
                id=str(self._number),
                prompt=asked.ask.prompt,
                sampling=asked.ask.sampling,
                choices=asked.ask.choices,
            )
            self._places[request.id] = open, asked
            self._queue.append(request)
        if not asks:  # nothing to ask: an input of white space
            open.asked = []
            self._finish(open)

    def _finish(self, open: _Open) -> None:
        try:
            open.plan.send(())
        except StopIteration as done:
            open.answers = done.value

    def take(self, event: Event) -> None:
        """Note what the engine gave; a plan that has all its replies goes on."""
        if event.id not in self._places or isinstance(event, Measured):
            return
        open, asked = self._places[event.id]
        if isinstance(event, Chunk):
            self._read(event, asked)
            return
        index = 0 if isinstance(event, Score) else event.index
        asked.results[index] = event
        if isinstance(event, Completion) and asked.ask.read:
            text, _ = asked.ask.read(event.text, True)
            asked.read[index] = text, asked.read.get(index, ("", False))[1]
        if asked.finished:
            del self._places[event.id]
            if all(other.finished for other in open.asked):
                self._advance(open)

    def _read(self, chunk: Chunk, asked: _Asked) -> None:
        """Read what was written so far; end it when no more can change the answer."""
        assert asked.ask.read
        asked.so_far[chunk.index] = asked.so_far.get(chunk.index, "") + chunk.text
        asked.read[chunk.index] = asked.ask.read(asked.so_far[chunk.index], False)
        done = [done for _, done in asked.read.values()]
        if len(done) == asked.due and all(done):
            self._engine.cancel(chunk.id)

    def ready(self) -> Iterator[Piece | Answer]:
        """What can be given out: pieces of the first open answer, and all that are whole."""
        while self._open:
            first = self._open[0]
            yield from self._pieces(first)
            if first.answers is None:
                return
            self._open.popleft()
            yield from first.answers

    def _pieces(self, open: _Open) -> Iterator[Piece]:
        """What is new of the answer's text, up to the first request that is not finished."""
        for asked in open.asked:
            if not asked.ask.final or asked.ask.choices or asked.due > 1:
                return
            if any(result.error for result in asked.results.values()):
                return
            text = asked.read[0][0] if asked.read else ""
            if text or asked.finished:
                text = asked.ask.before + text
                if len(text) > asked.given:
                    yield Piece(text[asked.given :])
                    asked.given = len(text)
            if not asked.finished:
                return
