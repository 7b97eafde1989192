"""Writes scores: the columns of each kind of row, and the summary on stderr.

One text alone is a block of lines as text, and one object as JSON; all else is rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from gptcli.cli.output import table
from gptcli.cli.output.records import Column, Order, RecordFormat, document, written
from gptcli.cli.output.sink import Sink
from gptcli.errors import GptcliError
from gptcli.protocol import ModelInfo
from gptcli.scoring.pairs import Accuracy, PairScore
from gptcli.scoring.scorer import Detail
from gptcli.scoring.scores import (
    BITS_PER_NAT,
    JsonRow,
    RegionScore,
    TextScore,
    TokenScore,
    WordScore,
    together,
)
from gptcli.system import stages
from gptcli.system.units import counted, rate, seconds

Tell = Callable[[str], None]


@dataclass(frozen=True)
class RowKind:
    """A kind of row: its keys, the columns of the text table, the keys to sort by."""

    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    default: str  # the key that --top sorts by
    others: tuple[str, ...]  # the keys without numbers

    def with_regions(self) -> RowKind:
        """The same with the number of the region, after the id."""
        keys, columns = (self.keys[0], REGION.name, *self.keys[1:]), self.columns
        return replace(self, keys=keys, columns=(columns[0], REGION, *columns[1:]))

    @property
    def numbers(self) -> tuple[str, ...]:
        """The keys with numbers."""
        return tuple(key for key in self.keys if key not in self.others)


MAX_NAME = 4096  # characters: names of files are not cut
INDEX, START = Column("index", 5, 0), Column("start", 5, 0)
LOGPROB, SURPRISAL = Column("logprob", 9, 4), Column("surprisal_bits", 14, 4)
RANK, ENTROPY = Column("rank", 5, 0), Column("entropy_bits", 12, 4)
ID = Column("id", 6, most=MAX_NAME, quoted=False)
COUNT = Column("tokens", 6, 0)
REGION = Column("region_number", 13, 0)
TEXTS = RowKind(
    tuple(TextScore(id="").to_dict()),
    (
        Column("id", 6, quoted=False),
        Column("tokens", 7, 0),
        Column("logprob", 11, 4),
        Column("perplexity", 10, 2),
        Column("perplexity_se", 13, 2),
        Column("bits_per_token", 14, 4),
        Column("bits_per_word", 13, 4),
        Column("bits_per_byte", 13, 4),
        Column("text"),
    ),
    "perplexity",
    ("id", "text", "model", "revision", "error"),
)
KINDS = {
    "texts": TEXTS,
    "tokens": RowKind(
        ("id", *TokenScore(0, "", 0, 0, 0, None, None, None).to_dict(), "error"),
        (
            *(ID, INDEX, START, Column("token_id", 8, 0), LOGPROB, SURPRISAL, RANK, ENTROPY),
            Column("token"),
        ),
        "surprisal_bits",
        ("id", "token", "error"),
    ),
    "words": RowKind(
        ("id", *WordScore(0, "", 0, 0, 0, None).to_dict(), "error"),
        (
            ID,
            Column("word_number", 11, 0),
            COUNT,
            LOGPROB,
            SURPRISAL,
            RANK,
            ENTROPY,
            Column("word"),
        ),
        "surprisal_bits",
        ("id", "word", "error"),
    ),
    "regions": RowKind(
        ("id", *RegionScore(0, "", None, 0, 0, 0, 0, 0, None).to_dict(), "error"),
        (
            *(ID, REGION, Column("words", 5, 0), COUNT, LOGPROB, SURPRISAL),
            *(Column("region_label", 12, quoted=False), Column("region")),
        ),
        "surprisal_bits",
        ("id", "region_label", "region", "error"),
    ),
    "pairs": RowKind(
        tuple(PairScore("", "", "").to_dict()),
        (
            *(Column("id", 6, quoted=False), Column("difference_bits", 15, 4)),
            Column("correct", 7, 1),
            *(Column("good", 40, most=40), Column("bad", most=40)),
        ),
        "difference_bits",
        ("id", "good", "bad", "error"),
    ),
}
COMPARED = (*(INDEX, COUNT, LOGPROB, SURPRISAL, Column("share", 8, 4), Column("text")),)


@dataclass
class ScoreTally:
    """Counts and totals of the texts so far; no text is kept."""

    tell: Tell  # says the error of one text
    single: bool  # there is only one text
    texts: int = 0
    failed: int = 0
    error: GptcliError | None = None  # the first one
    total: TextScore | None = None
    started: float = field(default_factory=perf_counter)

    def watched(self, scores: Iterable[TextScore]) -> Iterator[TextScore]:
        """Pass scores on, and count them."""
        for score in scores:
            if not self.texts:
                stages.mark(stages.FIRST_TOKEN)
            self.texts += 1
            if score.error is None:
                bare = replace(score, text=None, token_scores=(), word_scores=(), region_scores=())
                self.total = bare if self.total is None else together((self.total, bare))
            else:
                self.failed_with(score.error, score.id)
            yield score

    def pairs(self, scores: Iterable[PairScore]) -> Iterator[PairScore]:
        """The same for minimal pairs."""
        for score in scores:
            if not self.texts:
                stages.mark(stages.FIRST_TOKEN)
            self.texts += 1
            if score.error is not None:
                self.failed_with(score.error, score.id)
            yield score

    def failed_with(self, error: GptcliError, id: str) -> None:
        """Count an error, and say it unless there is only one text."""
        self.failed += 1
        self.error = self.error or error
        if not self.single:
            named = f"line {id}" if id.isdigit() else id
            self.tell(str(error) if f" {named}" in f" {error.message}" else f"{named}: {error}")

    def summary(self) -> str:
        """All texts together; empty where none was scored."""
        if self.total is None:
            return ""
        done = self.texts - self.failed
        shown = ", ".join(f"{name} {value}" for name, value in _figures(self.total))
        return f"{counted(done, 'text')} together: {shown}"

    def closing(self, info: ModelInfo) -> str:
        """Tokens, time, speed and model, in one line."""
        passed = perf_counter() - self.started
        count, unit = (self.total.tokens, "token") if self.total else (self.texts, "row")
        done = f"{counted(count, unit)} in {seconds(passed)}"
        speed = rate(count, passed, f"{unit}s")
        return f"{done} ({speed}); {info.name} in {info.dtype} on {info.device}"


@dataclass(frozen=True)
class ScoreStyle:
    """How scores are written."""

    shape: RecordFormat
    detail: Detail = "texts"
    order: Order | None = None
    single: bool = False  # one text alone
    regions: bool = False  # words have the number of their region
    titled: bool = False  # rows show the names of files, not the texts


def write_texts(out: Sink, scores: Iterable[TextScore], style: ScoreStyle) -> None:
    """Write texts, or their tokens or words, in the format of `style`."""
    kind = KINDS[style.detail]
    if style.regions and style.detail == "words":
        kind = kind.with_regions()
    if style.single:
        scores = list(scores)
        if any(score.error for score in scores):
            return  # the command raises it, and nothing is written
        if style.detail == "texts" and style.shape in ("text", "json"):
            for score in scores:
                shown = _row(score, style)
                out.write(document(shown) if style.shape == "json" else block(score))
            return
    rows = (row for score in scores for row in _rows(score, style, kind))
    columns = kind.columns
    if style.single:
        columns = tuple(column for column in columns if column is not ID)
    if style.titled and style.detail == "texts":
        columns = (Column("id", 30, most=MAX_NAME, quoted=False), *columns[1:-1])
    _write(out, rows, style, kind.keys, columns)


def _write(
    out: Sink,
    rows: Iterable[JsonRow],
    style: ScoreStyle,
    keys: Sequence[str],
    columns: Sequence[Column],
) -> None:
    ordered = rows if style.order is None else style.order.applied(rows)
    for piece in written(ordered, style.shape, keys, columns):
        out.write(piece)


def _rows(score: TextScore, style: ScoreStyle, kind: RowKind) -> Iterator[JsonRow]:
    """The rows of a text. A text without a score is one row with `error`, except in text tables."""
    if score.error is not None and style.shape == "text":
        return
    if style.detail == "texts":
        yield _row(score, style)
        return
    if score.error is not None:
        yield {**dict.fromkeys(kind.keys), "id": score.id, "error": score.error.to_dict()}
    for part in score.token_scores or score.word_scores or score.region_scores:
        yield {"id": score.id, **part.to_dict(), "error": None}


def _row(score: TextScore, style: ScoreStyle) -> JsonRow:
    return (replace(score, text=None) if style.titled else score).to_dict()


def block(score: TextScore) -> str:
    """One text's score as text: one line a figure."""
    counts = [
        ("tokens", f"{score.tokens}" + f", {score.scored} scored" * (score.scored < score.tokens)),
        ("words", f"{score.words}"),
        ("bytes", f"{score.bytes}"),
        ("log-probability", _with_error(score.logprob, _error(score, BITS_PER_NAT), 4) + " nats"),
    ]
    figures = [*counts, *_figures(score)]
    return "".join(table.line(figure, (16, 0), gap="") + "\n" for figure in figures)


def _figures(score: TextScore) -> Iterator[tuple[str, str]]:
    yield "perplexity", _with_error(score.perplexity, score.perplexity_se, 2)
    yield "bits per token", _with_error(score.bits_per_token, score.bits_per_token_se, 4)
    yield "bits per word", _with_error(score.bits_per_word, _error(score, score.words), 4)
    yield "bits per byte", _with_error(score.bits_per_byte, _error(score, score.bytes), 4)


def _error(score: TextScore, by: float) -> float | None:
    """The standard error of the surprisal, divided by a count."""
    error = score.surprisal_se_bits
    return error / by if by and error is not None else None


def _with_error(value: float | None, error: float | None, decimals: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{decimals}f}" + (f" ± {error:.{decimals}f}" if error is not None else "")


def write_compared(out: Sink, scores: Sequence[TextScore], shape: RecordFormat) -> None:
    """Write which text is the likeliest, and by how many bits; nothing if one has no score."""
    if any(score.error for score in scores):
        return
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
    if shape == "json":
        out.write(document({"likeliest": likeliest + 1, "margin_bits": margin, "texts": rows}))
        return
    _write(out, rows, ScoreStyle(shape), tuple(rows[0]), COMPARED)
    if shape == "text":
        out.write(f"likeliest: {likeliest + 1}, by {margin:.4f} bits\n")


def write_pairs(
    out: Sink, scores: Iterable[PairScore], style: ScoreStyle, accuracy: Accuracy
) -> str:
    """Write minimal pairs; returns the accuracy for stderr, where the output holds only rows."""

    def rows() -> Iterator[JsonRow]:
        for score in scores:
            accuracy.add(score)
            if score.error is None or style.shape != "text":
                yield score.to_dict()

    kind = KINDS["pairs"]
    if style.shape == "json":
        shown = list(rows() if style.order is None else style.order.applied(rows()))
        out.write(document({**accuracy.to_dict(), "rows": shown}))
        return ""
    _write(out, rows(), style, kind.keys, kind.columns)
    if style.shape == "text":
        out.write(_share(accuracy) + "\n")
        return ""
    return _share(accuracy)


def _share(accuracy: Accuracy) -> str:
    """The accuracy in one line."""
    share = accuracy.share
    if share is None:
        return "accuracy: no pair was scored"
    low, high = accuracy.interval
    ties = f", {accuracy.ties} tied" if accuracy.ties else ""
    count = f"{accuracy.correct:g} of {accuracy.pairs} pairs{ties}"
    return f"accuracy: {share:.2%} ({count}); 95 % interval {low:.2%} to {high:.2%}"
