"""Scores many texts over one engine, in their order.

A text becomes tokens, the tokens windows, each window one RollingRequest. The engine runs as many
requests as it has slots, of one text or of several: each text is a plan of `gptcli.multiplex`. An
error of one text is in that text's score. Not here: the reading of texts is in
`gptcli.scoring.texts`.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Literal

from gptcli.checkpoints.tokenization.parts import numbers_of, parts_of
from gptcli.errors import BadInput, GptcliError, UsageError
from gptcli.multiplex import Exchange, Plan, run_plans
from gptcli.protocol import Engine, RankedLogprob, Request, RollingRequest, Window, WindowLogprobs
from gptcli.scoring import regions, units, words
from gptcli.scoring.options import Scoring
from gptcli.scoring.regions import Region
from gptcli.scoring.scores import (
    BITS_PER_NAT,
    RegionScore,
    TextScore,
    TokenScore,
    WordScore,
    spread,
)
from gptcli.scoring.units import CharRange
from gptcli.scoring.windows import Stretch, checked_stride, stretches
from gptcli.scoring.words import Edge, TokenSpan
from gptcli.system.units import counted

OPEN_TEXTS_PER_SLOT = 4  # texts under way, or done and waiting for an earlier one
Detail = Literal["texts", "tokens", "words", "regions"]


@dataclass(frozen=True)
class TextToScore:
    """A text to score, or the error that took its place.

    `regions` are needed for the detail "regions", unless `Scoring.regions` is a mark that cuts the
    text. `carried` goes into the score as it is.
    """

    id: str
    text: str
    error: GptcliError | None = None
    regions: tuple[Region, ...] = ()
    carried: Mapping[str, object] = field(default_factory=dict)


def score(
    engine: Engine,
    texts: Iterable[TextToScore | None],
    scoring: Scoring,
    detail: Detail = "texts",
    batch_size: int = 1,
) -> Iterator[TextScore]:
    """A TextScore for each text, in order; None among the texts means "none right now".

    `detail` adds the scores of tokens, words or regions. Raises at once UsageError for a stride or
    a word method that the model does not allow, Unavailable where the engine has no tokens. The
    `error` of one text is UsageError (empty), BadInput (no token after another, a lone surrogate,
    regions that do not fit) or BadModel (NaN).
    """
    found = plans(engine, texts, scoring, map(str, count(1)), detail)
    return run_plans(engine, found, OPEN_TEXTS_PER_SLOT * batch_size)


def plans(
    engine: Engine,
    texts: Iterable[TextToScore | None],
    scoring: Scoring,
    ids: Iterator[str],
    detail: Detail = "texts",
) -> Iterator[Plan[TextScore] | None]:
    """A plan for each text, for a run of the engine; `ids` gives its requests their ids.

    Raises at once as `score`.
    """
    return _plans(_Shared(engine, scoring, detail), texts, ids)


class _Shared:
    """What all texts share: tokenizer, stride, context."""

    def __init__(self, engine: Engine, scoring: Scoring, detail: Detail) -> None:
        self.info, self.tokenizer, self.detail = engine.info, engine.tokenizer, detail
        self.stride = checked_stride(scoring.stride, self.info.context)
        roles = self.tokenizer.roles
        if scoring.bos and roles.begin is None:
            why = f"the tokenizer of {self.info.name} names no token that begins a text"
            raise UsageError("--bos", why, "Score without it: --no-bos.")
        self.before = [roles.begin] if scoring.bos and roles.begin is not None else []
        self.before += self.tokenizer.encode(scoring.context, bare=True)
        self.mark = (scoring.regions or "").strip()
        self.cut = units.cutter(scoring.units)
        self.trailing = detail in ("words", "regions") and scoring.word_method == "trailing"
        self.among: tuple[tuple[int, ...], ...] = ()
        # After the text: predicted, never read.
        self.end = 0 if roles.end is None else roles.end
        if self.trailing:
            units.refuse_trailing(scoring.units)
            self.among = words.borders(self.tokenizer, roles.end)
            self.begun = frozenset(self.among[0])


@dataclass(eq=False)
class _Scored:
    """One text under way."""

    text: TextToScore
    shared: _Shared
    string: str = ""  # the text, without marks of regions
    regions: tuple[Region, ...] = ()
    ids: list[int] = field(default_factory=list)
    places: list[CharRange] = field(default_factory=list)
    spans: list[TokenSpan] = field(default_factory=list)  # of the regions
    error: GptcliError | None = None
    logprobs: array[float] = field(default_factory=lambda: array("d"))  # NaN: no score
    details: dict[int, RankedLogprob] = field(default_factory=dict)  # by the token's index

    def exchange(self, ids: Iterator[str]) -> Exchange[tuple[TextScore]]:
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
        self.string, self.regions, self.error = self.text.text, self.text.regions, self.text.error
        try:
            if self.error is None:
                self._tokenize()
        except GptcliError as error:
            self.error = error
        self.logprobs = array("d", [math.nan]) * len(self.ids)

    def _tokenize(self) -> None:
        """Cut the text at its marks, and encode it. Raises UsageError and BadInput."""
        shared = self.shared
        if not self.regions and regions.is_mark(shared.mark):
            self.string, self.regions = regions.marked(self.string, shared.mark)
        if not self.regions and (shared.mark or shared.detail == "regions"):
            why = f"{shared.mark!r} is no mark, and no column of a table"
            raise UsageError("--regions", why, 'Cut the text by marks: --regions "|".')
        if not self.string:
            hint = "Give at least one character."
            raise UsageError("empty text", "there is nothing to score", hint)
        if shared.detail == "texts":
            self.ids = shared.tokenizer.encode(self.string, bare=True)
        else:
            self.ids, self.places = shared.tokenizer.encode_places(self.string)
        if len(self.ids) + len(shared.before) < 2:
            why = f"it has {counted(len(self.ids), 'token')}, and nothing stands before it"
            raise BadInput("nothing to score", why, "Leave out --no-bos, or give --context.")
        if shared.detail == "regions":
            self.spans = list(regions.tokens_of(self.string, self.regions, self.places))

    def _requests(
        self, places: Iterable[Stretch], ids: Iterator[str], firsts: dict[str, int]
    ) -> Iterator[Request]:
        """A request for each window; `firsts` gets the index of its first scored token."""
        shared, known = self.shared, len(self.shared.before)
        sequence = (*shared.before, *self.ids)
        for at in places:
            tokens = sequence[at.begin : at.end]
            if shared.trailing and at.end == len(sequence):
                tokens = (*tokens, shared.end)
            detailed = shared.detail != "texts"
            window = Window(tokens, at.first - at.begin, detailed=detailed, among=shared.among)
            id = next(ids)
            firsts[id] = at.first - known
            yield RollingRequest(id=id, window=window)

    def _take(self, first: int, result: WindowLogprobs) -> None:
        """Store the result of a window that scores the tokens from `first` on."""
        self.error = self.error or result.error
        for index, token in enumerate(result.tokens, first):
            if index < len(self.ids):
                self.logprobs[index] = token.logprob
            if self.shared.detail != "texts":
                self.details[index] = token

    def _score(self) -> TextScore:
        """The finished score."""
        shared = self.shared
        blank = TextScore(
            id=self.text.id,
            text=self.string,
            model=shared.info.name,
            revision=shared.info.revision,
            error=self.error,
            carried=self.text.carried,
        )
        if self.error is not None:
            return blank
        known = [value for value in self.logprobs if not math.isnan(value)]
        total, squares = spread(known)
        return replace(
            blank,
            tokens=len(self.ids),
            scored=len(known),
            unknown=shared.tokenizer.unknown(self.string, self.ids),
            words=sum(1 for _ in shared.cut(self.string)),
            characters=len(self.string),
            bytes=len(self.string.encode("utf-8")),
            logprob=total,
            squares=squares,
            token_scores=tuple(self._tokens()) if shared.detail == "tokens" else (),
            word_scores=tuple(self._words()) if shared.detail == "words" else (),
            region_scores=tuple(self._regions()) if shared.detail == "regions" else (),
        )

    def _tokens(self) -> Iterator[TokenScore]:
        tokenizer = self.shared.tokenizer
        texts = [tokenizer.token_text(id) for id in self.ids]
        parts = parts_of(self.string, self.places, texts)
        for index, (id, (start, end), shown, of) in enumerate(
            zip(self.ids, self.places, texts, parts, strict=True)
        ):
            found = self.details.get(index)
            logprob = None if found is None else found.logprob
            yield TokenScore(
                *(index, shown, id, start, end, logprob, *self._ranked(index)),
                surface=self.string[start:end],
                part=numbers_of(of),
                unknown=id == tokenizer.unknown_id,
            )

    def _ranked(self, index: int | None) -> tuple[int | None, float | None]:
        """Rank, and entropy in bits, in the place of a token."""
        found = None if index is None else self.details.get(index)
        if found is None or found.entropy is None:
            return None if found is None else found.rank, None
        return found.rank, found.entropy * BITS_PER_NAT

    def _words(self) -> Iterator[WordScore]:
        spans = words.spans([*self.shared.cut(self.string)], self.places)
        logprobs, ends = self._by_word(spans), [region.end for region in self.regions]
        for span in spans:
            yield WordScore(
                span.word,
                self.string[span.start : span.end],
                span.start,
                span.end,
                span.tokens,
                words.summed(span, logprobs),
                *self._ranked(words.beginning(span, self.places)),
                region=bisect_right(ends, span.start) if ends else None,
                words=span.words,
            )

    def _regions(self) -> Iterator[RegionScore]:
        found = [*self.shared.cut(self.string)]
        logprobs = self._by_word(words.spans(found, self.places))
        begins = [start for start, _ in found]
        for index, (region, span) in enumerate(zip(self.regions, self.spans, strict=True)):
            first, after = bisect_left(begins, region.start), bisect_left(begins, region.end)
            yield RegionScore(
                index,
                self.string[region.start : region.end],
                region.label,
                region.start,
                region.end,
                first,
                after - first,
                span.tokens,
                words.summed(span, logprobs),
                *self._ranked(words.beginning(span, self.places)),
            )

    def _by_word(self, spans: list[TokenSpan]) -> list[float | None]:
        """Log-probabilities of tokens whose sums are those of the word method."""
        logprobs = [None if math.isnan(value) else value for value in self.logprobs]
        if not self.shared.trailing:
            return logprobs
        at = [self.details.get(index) for index in range(len(self.ids) + 1)]
        edges = [None if token is None else Edge(*token.among) for token in at]
        blank = [id in self.shared.begun for id in self.ids]
        return words.with_ends(spans, logprobs, edges, blank)


def _plans(
    shared: _Shared, texts: Iterable[TextToScore | None], ids: Iterator[str]
) -> Iterator[Plan[TextScore] | None]:
    for text in texts:
        yield None if text is None else Plan(_Scored(text, shared).exchange(ids))
