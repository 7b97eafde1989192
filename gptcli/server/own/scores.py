"""`/v1/score`: what `gptcli score --json` says of texts, compared texts and minimal pairs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gptcli.errors import UsageError
from gptcli.multiplex import Exchange, joined
from gptcli.options.keywords import merged
from gptcli.scoring.options import Scoring
from gptcli.scoring.pairs import Accuracy, Pair, PairScore, paired, texts_of
from gptcli.scoring.rows import compared, keys_of, part_rows, text_row
from gptcli.scoring.scorer import Detail, TextToScore, plans
from gptcli.scoring.scores import JsonRow, TextScore
from gptcli.server.body import field, refuse_unserved, shown
from gptcli.server.engine_thread import ClientJob, Send
from gptcli.server.own.settings import (
    check_text,
    given_settings,
    input_texts,
    numbered,
    refused,
)
from gptcli.server.refusals import bad_field, refusal_of
from gptcli.server.service import Service

KINDS = ("tokens", "words", "compare")
READ_HERE = (*KINDS, "pairs")
_ORDER = "sort the rows of the answer"
UNSERVED = {
    "sort": _ORDER,
    "top": _ORDER,
    "bottom": _ORDER,
    "file": "the texts come in input",
    "lines": "give a list as input",
    "column": "the texts come in input",
    "bad_column": "the pairs come in pairs",
    "stream": "scores come together",
}
GOOD, BAD = "sentence_good", "sentence_bad"
CHARACTERS_A_TOKEN = 4  # about, to bound what waits before anything is encoded


@dataclass(frozen=True, kw_only=True)
class ScoreCall:
    """A request, checked: texts, or pairs."""

    scoring: Scoring
    texts: tuple[TextToScore, ...]
    single: bool = False  # one text alone
    detail: Detail = "texts"
    compare: bool = False
    pairs: tuple[Pair, ...] = ()

    @property
    def tokens(self) -> int:
        """About how many tokens the texts have."""
        before = len(self.scoring.context) // CHARACTERS_A_TOKEN + 1
        return sum(len(text.text) // CHARACTERS_A_TOKEN + before for text in self.texts)


def read_score(body: Mapping[str, Any], service: Service) -> ScoreCall:
    """Check a request. Raises Refusal, naming the field."""
    service.check_model(field(body, "model", str))
    refuse_unserved(body, UNSERVED)
    _, rest = given_settings(body, Scoring, (), READ_HERE)
    try:
        scoring = merged(Scoring, None, rest)
    except UsageError as error:
        raise refused(error, body) from None
    asked = [name for name in KINDS if field(body, name, bool, default=False)]
    pairs = _pairs(body, service)
    if pairs is not None:
        asked.append("pairs")
    if len(asked) > 1:
        raise bad_field(asked[1], f"it does not go with {asked[0]}")
    if scoring.regions is not None and asked and asked != ["words"]:
        raise bad_field("regions", f"it does not go with {asked[0]}")
    if pairs is not None:
        if body.get("input") is not None:
            raise bad_field("input", "it does not go with pairs")
        both = tuple(text for pair in pairs for text in texts_of(pair))
        return ScoreCall(scoring=scoring, texts=both, pairs=pairs)
    return _of_texts(body, service, scoring, asked)


def _of_texts(
    body: Mapping[str, Any], service: Service, scoring: Scoring, asked: list[str]
) -> ScoreCall:
    texts, single = input_texts(body, service)
    compare = asked == ["compare"]
    if compare and len(texts) < 2:
        raise bad_field("compare", f"{len(texts)} text is given; give two or more")
    detail: Detail = "texts" if scoring.regions is None else "regions"
    if asked == ["tokens"]:
        detail = "tokens"
    elif asked == ["words"]:
        detail = "words"
    found = tuple(TextToScore(id, text) for id, text in numbered(texts, single))
    return ScoreCall(scoring=scoring, texts=found, single=single, detail=detail, compare=compare)


def _pairs(body: Mapping[str, Any], service: Service) -> tuple[Pair, ...] | None:
    """Minimal pairs: objects with sentence_good and sentence_bad. Raises Refusal."""
    given = body.get("pairs")
    if given is None:
        return None
    if not isinstance(given, list) or not given:
        raise bad_field("pairs", f"a list of pairs is needed, not {shown(given)}")
    if 2 * len(given) > service.limits.sequences:
        raise bad_field("pairs", f"{len(given)} pairs; at most {service.limits.sequences // 2}")
    return tuple(_pair(number, pair) for number, pair in enumerate(given, 1))


def _pair(number: int, given: object) -> Pair:
    if not isinstance(given, dict):
        raise bad_field("pairs", f"pair {number} is no object, but {shown(given)}")
    for name in (GOOD, BAD):
        check_text(given.get(name), "pairs", f"pair {number}: a text as {name} is needed")
    return Pair(str(given.get("id") or number), given[GOOD], given[BAD])


def job_for(call: ScoreCall, service: Service) -> ClientJob:
    """The work for the engine; it sends TextScore."""
    return ClientJob(lambda send, ids: _exchange(call, service, send, ids), call.tokens)


def _exchange(call: ScoreCall, service: Service, send: Send, ids: Iterator[str]) -> Exchange[None]:
    asked = plans(service.engine.engine, call.texts, call.scoring, ids, call.detail)
    yield from joined((plan for plan in asked if plan is not None), send)


async def whole(call: ScoreCall, job: ClientJob) -> object:
    """The answer: an object for one text, for texts that are compared, and for pairs; else rows.

    Raises what is wrong with one text alone.
    """
    scores: list[TextScore] = [item async for items in job.items() for item in items]
    for score in scores:
        if score.error is not None and (call.single or call.compare):
            raise refusal_of(score.error, "input")
    scores = [
        replace(score, error=score.error.in_python()) if score.error else score for score in scores
    ]
    if call.pairs:
        return _pairs_answer(paired(deque(call.pairs), iter(scores)))
    if call.compare:
        return compared(scores).to_dict()
    if call.detail == "texts":
        return text_row(scores[0]) if call.single else [text_row(score) for score in scores]
    return [row for score in scores for row in part_rows(score, _keys(call))]


def _keys(call: ScoreCall) -> tuple[str, ...]:
    keys = keys_of(call.detail)
    if call.detail == "words" and call.scoring.regions is not None:
        return (keys[0], "region_number", *keys[1:])
    return keys


def _pairs_answer(scores: Iterator[PairScore]) -> JsonRow:
    accuracy, rows = Accuracy(), []
    for score in scores:
        accuracy.add(score)
        rows.append(score.to_dict())
    return {**accuracy.to_dict(), "rows": rows}
