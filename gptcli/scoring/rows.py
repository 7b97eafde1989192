"""The rows of scores, as JSON has them: texts, their parts, and texts that are compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gptcli.scoring.scorer import Detail
from gptcli.scoring.scores import JsonRow, RegionScore, TextScore, TokenScore, WordScore

_PARTS: dict[Detail, TokenScore | WordScore | RegionScore] = {
    "tokens": TokenScore(0, "", 0, 0, 0, None, None, None),
    "words": WordScore(0, "", 0, 0, 0, None),
    "regions": RegionScore(0, "", None, 0, 0, 0, 0, 0, None),
}


def keys_of(detail: Detail) -> tuple[str, ...]:
    """The keys of a row; one of a text's words can have `region_number`, too."""
    if detail == "texts":
        return tuple(TextScore(id="").to_dict())
    return ("id", *_PARTS[detail].to_dict(), "error")


def text_row(score: TextScore) -> JsonRow:
    """The row of a text."""
    return {"id": score.id, **score.carried, **score.to_dict()}


def part_rows(score: TextScore, keys: Sequence[str]) -> Iterator[JsonRow]:
    """The rows of a text's tokens, words or regions; of a text without a score one with `error`."""
    if score.error is not None:
        blank = dict.fromkeys(keys[1:])
        yield {"id": score.id, **score.carried, **blank, "error": score.error.to_dict()}
    for part in score.token_scores or score.word_scores or score.region_scores:
        yield {"id": score.id, **score.carried, **part.to_dict(), "error": None}


@dataclass(frozen=True)
class ComparedTexts:
    """Which of several texts is the likeliest, counted from 1, and by how many bits."""

    likeliest: int
    margin_bits: float
    rows: list[JsonRow]

    def to_dict(self) -> JsonRow:
        """The shape of `gptcli score --compare --json`."""
        return {"likeliest": self.likeliest, "margin_bits": self.margin_bits, "texts": self.rows}


def compared(scores: Sequence[TextScore]) -> ComparedTexts:
    """Compare two texts or more, all without an error."""
    sums = [score.logprob if score.logprob is not None else -math.inf for score in scores]
    best = max(sums)
    whole = math.fsum(math.exp(value - best) for value in sums)
    rows: list[JsonRow] = [
        {
            "index": number,
            "text": score.text,
            "tokens": score.tokens,
            "logprob": score.logprob,
            "surprisal_bits": score.surprisal_bits,
            "share": math.exp(value - best) / whole,
        }
        for number, (score, value) in enumerate(zip(scores, sums, strict=True), 1)
    ]
    likeliest = sums.index(best)
    margin = (best - max(sums[:likeliest] + sums[likeliest + 1 :])) / math.log(2)
    return ComparedTexts(likeliest + 1, margin, rows)
