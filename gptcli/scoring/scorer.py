"""Scores of many texts, in their order, each as soon as it and those before it are done.

A text becomes tokens, tokens windows, windows requests; the engine runs as many of them as it has
slots, of one text or of several. A thin loop over `Engine.run`, as everything else. What is wrong
with one text is its own error. Left out: where texts come from, see `gptcli.scoring.texts`.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from gptcli.engines import Engine
from gptcli.errors import BadInput, GptcliError, UsageError
from gptcli.results import Event, Measured, Request, TokenMeasure, Window
from gptcli.scoring import words
from gptcli.scoring.scores import NAT, TextScore, TokenScore, WordScore, spread
from gptcli.scoring.settings import Scoring
from gptcli.scoring.windows import checked_stride, stretches
from gptcli.scoring.words import Edge, Place

AHEAD = 4  # texts that wait for an earlier one, as a multiple of the batch size
Detail = Literal["texts", "tokens", "words"]


@dataclass(frozen=True)
class Text:
    """A text to be scored, or why there is none."""

    id: str
    text: str
    error: GptcliError | None = None


def score(
    engine: Engine,
    texts: Iterable[Text | None],
    scoring: Scoring,
    detail: Detail = "texts",
    batch_size: int = 1,
) -> Iterator[TextScore]:
    """A TextScore for each text, in order; None among the texts means "none right now".

    `detail` asks for each token's or each word's score besides. Raises UsageError for a stride or
    a method that does not go with the model, Unavailable where the engine has no tokens. A text's
    own `error` is UsageError (empty), BadInput (no token with another before it, a lone surrogate)
    or BadModel (numbers that are none).
    """
    board = _Board(_Plan(engine, scoring, detail), iter(texts), AHEAD * batch_size)
    while board.open:
        for event in engine.run(board.requests()):
            board.take(event)
            yield from board.ready()
        yield from board.ready()


class _Plan:
    """What is the same for all texts."""

    def __init__(self, engine: Engine, scoring: Scoring, detail: Detail) -> None:
        self.info, self.tokenizer, self.detail = engine.info, engine.tokenizer, detail
        self.stride = checked_stride(scoring.stride, self.info.context)
        eos = self.tokenizer.eos_id
        if scoring.bos and eos is None:
            why = f"the tokenizer of {self.info.name} names no token for the end of a text"
            raise UsageError("--bos", why, "Score without it: --no-bos.")
        self.before = [eos] if scoring.bos and eos is not None else []
        self.before += self.tokenizer.encode(scoring.context, bare=True)
        self.trailing = detail == "words" and scoring.word_method == "trailing"
        self.among: tuple[tuple[int, ...], ...] = ()
        self.end = 0 if eos is None else eos  # stands behind a text, to be predicted only
        if self.trailing:
            self.among = words.borders(self.tokenizer, eos)
            self.begun = frozenset(self.among[0])


@dataclass(eq=False)
class _Open:
    """A text while it is scored."""

    text: Text
    plan: _Plan
    ids: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    due: int = 0  # windows that are under way
    planned: bool = False  # whether all its windows are
    error: GptcliError | None = None
    logprobs: array[float] = field(default_factory=lambda: array("d"))  # NaN: no score
    details: dict[int, TokenMeasure] = field(default_factory=dict)  # by the token's index

    def begin(self) -> None:
        """Make tokens of the text."""
        plan, text = self.plan, self.text.text
        self.error = self.text.error
        try:
            if self.error is None and not text:
                raise UsageError(
                    "empty text", "there is nothing to score", "Give at least one character."
                )
            if self.error is None and plan.detail == "texts":
                self.ids = plan.tokenizer.encode(text, bare=True)
            elif self.error is None:
                self.ids, self.places = plan.tokenizer.encode_places(text)
            if self.error is None and len(self.ids) + len(plan.before) < 2:
                why = f"it has {len(self.ids)} token, and nothing stands before it"
                raise BadInput("nothing to score", why, "Leave out --no-bos, or give --context.")
        except GptcliError as error:
            self.error = error
        self.logprobs = array("d", [math.nan]) * len(self.ids)

    def windows(self) -> Iterator[tuple[int, Window]]:
        """Its windows, each with the index of the first token that it scores."""
        if self.error is None:
            plan, known = self.plan, len(self.plan.before)
            sequence = (*plan.before, *self.ids)
            length = len(sequence)
            for at in stretches(length, known, plan.info.context, plan.stride):
                ids = sequence[at.begin : at.end]
                if plan.trailing and at.end == length:
                    ids = (*ids, plan.end)
                detailed = plan.detail == "tokens"
                window = Window(ids, at.first - at.begin, detailed=detailed, among=plan.among)
                yield at.first - known, window
        self.planned = True

    def take(self, first: int, measured: Measured) -> None:
        """Note what came of a window that scores the tokens from `first` on."""
        self.due -= 1
        self.error = self.error or measured.error
        for index, token in enumerate(measured.tokens, first):
            if index < len(self.ids):
                self.logprobs[index] = token.logprob
            if self.plan.detail == "tokens" or self.plan.trailing:
                self.details[index] = token

    @property
    def done(self) -> bool:
        """Whether nothing more comes."""
        return self.planned and self.due == 0

    def score(self) -> TextScore:
        """What came out."""
        plan, text = self.plan, self.text.text
        blank = TextScore(
            id=self.text.id,
            text=text,
            model=plan.info.name,
            revision=plan.info.revision,
            error=self.error,
        )
        if self.error is not None:
            return blank
        known = [value for value in self.logprobs if not math.isnan(value)]
        total, squares = spread(known)
        return TextScore(
            id=blank.id,
            text=text,
            tokens=len(self.ids),
            scored=len(known),
            words=words.count(text),
            bytes=len(text.encode("utf-8")),
            logprob=total,
            squares=squares,
            model=blank.model,
            revision=blank.revision,
            token_scores=tuple(self._tokens()) if plan.detail == "tokens" else (),
            word_scores=tuple(self._words()) if plan.detail == "words" else (),
        )

    def _tokens(self) -> Iterator[TokenScore]:
        for index, (id, (start, end)) in enumerate(zip(self.ids, self.places, strict=True)):
            shown, found = self.plan.tokenizer.token_text(id), self.details.get(index)
            if found is None:
                yield TokenScore(index, shown, id, start, end, None, None, None)
                continue
            entropy = None if found.entropy is None else found.entropy * NAT
            yield TokenScore(index, shown, id, start, end, found.logprob, found.rank, entropy)

    def _words(self) -> list[WordScore]:
        text, plan = self.text.text, self.plan
        found = list(words.spans(text, self.places))
        logprobs = [None if math.isnan(value) else value for value in self.logprobs]
        if not plan.trailing:
            return words.leading(text, found, logprobs)
        at = [self.details.get(index) for index in range(len(self.ids) + 1)]
        edges = [None if token is None else Edge(*token.among) for token in at]
        return words.trailing(text, found, logprobs, edges, [id in plan.begun for id in self.ids])


class _Board:
    """The texts that are not given out yet, in order, and the windows that are under way."""

    def __init__(self, plan: _Plan, texts: Iterator[Text | None], limit: int) -> None:
        self._plan, self._texts, self._limit = plan, texts, limit
        self._waiting: deque[_Open] = deque()
        self._under_way: dict[str, tuple[_Open, int]] = {}
        self._more = True

    @property
    def open(self) -> bool:
        """Whether there is anything left to do."""
        return self._more or bool(self._waiting)

    def requests(self) -> Iterator[Request | None]:
        """A request for each window; it pauses where too many texts wait for an earlier one.

        It ends early where something can be given out, but nothing is under way that would say so.
        """
        count = 0
        while self._more:
            full = len(self._waiting) >= self._limit
            text = None if full else next(self._texts, _END)
            if text is _END:
                self._more = False
            elif text is None:
                if not self._under_way and self._waiting and self._waiting[0].done:
                    return
                yield None
            else:
                opened = _Open(text, self._plan)
                self._waiting.append(opened)
                opened.begin()
                for first, window in opened.windows():
                    count += 1
                    opened.due += 1
                    self._under_way[str(count)] = opened, first
                    yield Request(id=str(count), prompt="", window=window)

    def take(self, event: Event) -> None:
        """Note what the engine gave."""
        if isinstance(event, Measured):
            opened, first = self._under_way.pop(event.id)
            opened.take(first, event)

    def ready(self) -> Iterator[TextScore]:
        """The texts that are done, up to the first that is not."""
        while self._waiting and self._waiting[0].done:
            yield self._waiting.popleft().score()


_END = Text("", "")
