"""Scores many texts over one engine, in their order.

A text becomes tokens, the tokens windows, each window one RollingRequest. The engine runs as many
requests as it has slots, of one text or of several: each text is a plan of `gptcli.multiplex`. An
error of one text is in that text's score. Not here: the reading of texts is in
`gptcli.scoring.texts`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from gptcli.errors import BadInput, GptcliError, UsageError
from gptcli.multiplex import Exchange, Plan, run_plans
from gptcli.protocol import Engine, RankedLogprob, Request, RollingRequest, Window, WindowLogprobs
from gptcli.scoring import words
from gptcli.scoring.options import Scoring
from gptcli.scoring.scores import BITS_PER_NAT, TextScore, TokenScore, WordScore, spread
from gptcli.scoring.windows import Stretch, checked_stride, stretches
from gptcli.scoring.words import CharRange, Edge

OPEN_TEXTS_PER_SLOT = 4  # texts under way, or done and waiting for an earlier one
Detail = Literal["texts", "tokens", "words"]


@dataclass(frozen=True)
class TextToScore:
    """A text to score, or the error that took its place."""

    id: str
    text: str
    error: GptcliError | None = None


def score(
    engine: Engine,
    texts: Iterable[TextToScore | None],
    scoring: Scoring,
    detail: Detail = "texts",
    batch_size: int = 1,
) -> Iterator[TextScore]:
    """A TextScore for each text, in order; None among the texts means "none right now".

    `detail` adds the scores of tokens or words. Raises UsageError for a stride or a word method
    that the model does not allow, Unavailable where the engine has no tokens. The `error` of one
    text is UsageError (empty), BadInput (no token after another, a lone surrogate) or BadModel
    (NaN).
    """
    yield from run_plans(
        engine, _plans(_Shared(engine, scoring, detail), texts), OPEN_TEXTS_PER_SLOT * batch_size
    )


class _Shared:
    """What all texts share: tokenizer, stride, context."""

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
        self.end = 0 if eos is None else eos  # after the text: predicted, never read
        if self.trailing:
            self.among = words.borders(self.tokenizer, eos)
            self.begun = frozenset(self.among[0])


@dataclass(eq=False)
class _Scored:
    """One text under way."""

    text: TextToScore
    shared: _Shared
    ids: list[int] = field(default_factory=list)
    places: list[CharRange] = field(default_factory=list)
    error: GptcliError | None = None
    logprobs: array[float] = field(default_factory=lambda: array("d"))  # NaN: no score
    details: dict[int, RankedLogprob] = field(default_factory=dict)  # by the token's index

    def exchange(self, ids: Iterator[int]) -> Exchange[tuple[TextScore]]:
        """Ask one request a window; `ids` gives request ids, unique in the run."""
        self._begin()
        if self.error is None:
            known, info = len(self.shared.before), self.shared.info
            length = known + len(self.ids)
            places = list(stretches(length, known, info.context, self.shared.stride))
            firsts: dict[str, int] = {}
            requests: Iterable[Request] = self._requests(places, ids, firsts)
            for _ in places:  # each has one result
                event = yield requests
                requests = ()
                if isinstance(event, WindowLogprobs):
                    self._take(firsts.pop(event.id), event)
        return (self._score(),)

    def _begin(self) -> None:
        """Tokenize the text."""
        shared, text = self.shared, self.text.text
        self.error = self.text.error
        try:
            if self.error is None and not text:
                raise UsageError(
                    "empty text", "there is nothing to score", "Give at least one character."
                )
            if self.error is None and shared.detail == "texts":
                self.ids = shared.tokenizer.encode(text, bare=True)
            elif self.error is None:
                self.ids, self.places = shared.tokenizer.encode_places(text)
            if self.error is None and len(self.ids) + len(shared.before) < 2:
                why = f"it has {len(self.ids)} token, and nothing stands before it"
                raise BadInput("nothing to score", why, "Leave out --no-bos, or give --context.")
        except GptcliError as error:
            self.error = error
        self.logprobs = array("d", [math.nan]) * len(self.ids)

    def _requests(
        self, places: Iterable[Stretch], ids: Iterator[int], firsts: dict[str, int]
    ) -> Iterator[Request]:
        """A request for each window; `firsts` gets the index of its first scored token."""
        shared, known = self.shared, len(self.shared.before)
        sequence = (*shared.before, *self.ids)
        for at in places:
            tokens = sequence[at.begin : at.end]
            if shared.trailing and at.end == len(sequence):
                tokens = (*tokens, shared.end)
            detailed = shared.detail == "tokens"
            window = Window(tokens, at.first - at.begin, detailed=detailed, among=shared.among)
            id = str(next(ids))
            firsts[id] = at.first - known
            yield RollingRequest(id=id, window=window)

    def _take(self, first: int, result: WindowLogprobs) -> None:
        """Store the result of a window that scores the tokens from `first` on."""
        self.error = self.error or result.error
        for index, token in enumerate(result.tokens, first):
            if index < len(self.ids):
                self.logprobs[index] = token.logprob
            if self.shared.detail == "tokens" or self.shared.trailing:
                self.details[index] = token

    def _score(self) -> TextScore:
        """The finished score."""
        shared, text = self.shared, self.text.text
        blank = TextScore(
            id=self.text.id,
            text=text,
            model=shared.info.name,
            revision=shared.info.revision,
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
            token_scores=tuple(self._tokens()) if shared.detail == "tokens" else (),
            word_scores=tuple(self._words()) if shared.detail == "words" else (),
        )

    def _tokens(self) -> Iterator[TokenScore]:
        for index, (id, (start, end)) in enumerate(zip(self.ids, self.places, strict=True)):
            shown, found = self.shared.tokenizer.token_text(id), self.details.get(index)
            if found is None:
                yield TokenScore(index, shown, id, start, end, None, None, None)
                continue
            entropy = None if found.entropy is None else found.entropy * BITS_PER_NAT
            yield TokenScore(index, shown, id, start, end, found.logprob, found.rank, entropy)

    def _words(self) -> list[WordScore]:
        text, shared = self.text.text, self.shared
        found = list(words.spans(text, self.places))
        logprobs = [None if math.isnan(value) else value for value in self.logprobs]
        if not shared.trailing:
            return words.leading(text, found, logprobs)
        at = [self.details.get(index) for index in range(len(self.ids) + 1)]
        edges = [None if token is None else Edge(*token.among) for token in at]
        return words.trailing(text, found, logprobs, edges, [id in shared.begun for id in self.ids])


def _plans(
    shared: _Shared, texts: Iterable[TextToScore | None]
) -> Iterator[Plan[TextScore] | None]:
    ids = count(1)
    for text in texts:
        yield None if text is None else Plan(_Scored(text, shared).exchange(ids))
