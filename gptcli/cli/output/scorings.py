"""Writes scores: the columns of each kind of row, and the summary on stderr.

One text alone is a block of lines as text, and one object as JSON; all else is rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from gptcli.cli.output import table
from gptcli.cli.output.records import Column, Order, Record, document, quoted, written
from gptcli.cli.output.sink import Sink
from gptcli.inputs.lines import unheard
from gptcli.options import Format
from gptcli.scoring.pairs import Accuracy, PairScore
from gptcli.scoring.rows import compared, keys_of, part_rows, text_row
from gptcli.scoring.scorer import Detail
from gptcli.scoring.scores import (
    BITS_PER_NAT,
    JsonRow,
    TextScore,
    TokenScore,
)
from gptcli.scoring.tally import Tell, figures, standard_error, with_error
from gptcli.system.text.characters import width


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
    def reserved(self) -> frozenset[str]:
        """Names that carried columns cannot have."""
        return frozenset((*self.keys, REGION.name))

    @property
    def numbers(self) -> tuple[str, ...]:
        """The keys with numbers."""
        return tuple(key for key in self.keys if key not in self.others)


MAX_NAME = 4096  # columns: names of files are not cut
INDEX, START = Column("index", 5, 0), Column("start", 5, 0)
LOGPROB, SURPRISAL = Column("logprob", 9, 4), Column("surprisal_bits", 14, 4)
RANK, ENTROPY = Column("rank", 5, 0), Column("entropy_bits", 12, 4)
ID = Column("id", 6, most=MAX_NAME, quoted=False)
COUNT = Column("tokens", 6, 0)
REGION = Column("region_number", 13, 0)
TEXTS = RowKind(
    keys_of("texts"),
    (
        Column("id", 6, quoted=False),
        Column("tokens", 7, 0),
        Column("logprob", 11, 4),
        Column("perplexity", 10, 2),
        Column("perplexity_se", 13, 2),
        Column("bits_per_token", 14, 4),
        Column("bits_per_word", 13, 4),
        Column("bits_per_character", 18, 4),
        Column("bits_per_byte", 13, 4),
        Column("text"),
    ),
    "perplexity",
    ("id", "text", "model", "revision", "error"),
)
KINDS = {
    "texts": TEXTS,
    "tokens": RowKind(
        keys_of("tokens"),
        (
            *(ID, INDEX, START, Column("token_id", 8, 0), LOGPROB, SURPRISAL, RANK, ENTROPY),
            Column("token", quoted=False),
        ),
        "surprisal_bits",
        ("id", "token", "error"),
    ),
    "words": RowKind(
        keys_of("words"),
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
        keys_of("regions"),
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
            *(Column("good", 42, most=40), Column("bad", most=40)),
        ),
        "difference_bits",
        ("id", "good", "bad", "error"),
    ),
}
COMPARED_COLUMNS = (*(INDEX, COUNT, LOGPROB, SURPRISAL, Column("share", 8, 4), Column("text")),)


@dataclass(frozen=True)
class ScoreStyle:
    """How scores are written."""

    shape: Format
    kind: RowKind = TEXTS
    detail: Detail = "texts"
    order: Order | None = None
    single: bool = False  # one text alone
    titled: bool = False  # rows show the names of files, not the texts
    numbers: str = "line"  # what an id of digits is the number of
    note: Tell = unheard  # says that a column is left out


def write_texts(out: Sink, scores: Iterable[TextScore], style: ScoreStyle) -> None:
    """Write texts, or their tokens or words, in the format of `style`."""
    kind = style.kind
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
    elif style.titled and style.detail == "texts":
        columns = (Column("id", 30, most=MAX_NAME, quoted=False), *columns[1:-1])
    _write(out, rows, style, kind.keys, columns)


def _write(
    out: Sink,
    rows: Iterable[Record],
    style: ScoreStyle,
    keys: Sequence[str],
    columns: Sequence[Column],
) -> None:
    ordered = rows if style.order is None else style.order.applied(rows)
    if style.shape in ("text", "csv", "tsv"):
        ordered, carried = _carrying(iter(ordered), keys, style.note)
        keys = (keys[0], *carried, *keys[1:])
        shown = [Column(name, max(width(name), 8), most=24, quoted=False) for name in carried]
        columns = (*columns[:1], *shown, *columns[1:]) if columns[0].name == ID.name else columns
    for piece in written(ordered, style.shape, keys, columns):
        out.write(piece)


def _carrying(
    rows: Iterator[Record], keys: Sequence[str], note: Tell
) -> tuple[Iterator[Record], list[str]]:
    """The rows, and the other columns that they carry: those of the first row without an error."""
    held: list[Record] = []
    for row in rows:
        held.append(row)
        if row.get("error") is None:
            break
    carried = list(dict.fromkeys(key for row in held for key in row if key not in keys))
    return _kept(chain(held, rows), {*keys, *carried}, note), carried


def _kept(rows: Iterator[Record], keys: set[str], note: Tell) -> Iterator[Record]:
    """The rows with these keys, in which a carried one can be missing."""
    said: set[str] = set()
    for row in rows:
        for key in row.keys() - keys - said:
            said.add(key)
            note(f"column {key} is left out: the first row has none; --format jsonl keeps it")
        yield {**dict.fromkeys(keys), **row}


def _rows(score: TextScore, style: ScoreStyle, kind: RowKind) -> Iterator[JsonRow]:
    """The rows of a text. A text without a score is one row with `error`, except in text tables."""
    if score.error is not None and style.shape == "text":
        return
    if style.detail == "texts":
        yield _row(score, style)
        return
    rows = part_rows(score, kind.keys)
    if style.detail != "tokens" or style.shape != "text":
        yield from rows
        return
    for row, token in zip(rows, score.token_scores, strict=True):
        yield {**row, "token": _shown_token(token)}


def _shown_token(token: TokenScore) -> str:
    """A token for people: quoted, and of a part of a character, or an unknown one, what it is."""
    if token.unknown and token.surface.strip():
        return f"{quoted(token.surface.strip())}·{token.token}"
    if token.part is not None:
        return f"{quoted(token.surface)}·{token.part}"
    return quoted(token.token)


def _row(score: TextScore, style: ScoreStyle) -> JsonRow:
    return text_row(replace(score, text=None) if style.titled else score)


def block(score: TextScore) -> str:
    """One text's score as text: one line a figure."""
    total = with_error(score.logprob, standard_error(score, BITS_PER_NAT), 4)
    counts = [
        ("tokens", f"{score.tokens}" + f", {score.scored} scored" * (score.scored < score.tokens)),
        ("words", f"{score.words}"),
        ("characters", f"{score.characters}"),
        ("bytes", f"{score.bytes}"),
        ("log-probability", f"{total} nats"),
    ]
    shown = [*counts, *figures(score)]
    return "".join(table.line(figure, (19, 0), gap="") + "\n" for figure in shown)


def write_compared(out: Sink, scores: Sequence[TextScore], shape: Format) -> None:
    """Write which text is the likeliest, and by how many bits; nothing if one has no score."""
    if any(score.error for score in scores):
        return
    found = compared(scores)
    rows = found.rows
    if shape == "json":
        out.write(document(found.to_dict()))
        return
    _write(out, rows, ScoreStyle(shape), tuple(rows[0]), COMPARED_COLUMNS)
    if shape == "text":
        out.write(f"likeliest: {found.likeliest}, by {found.margin_bits:.4f} bits\n")


def write_pairs(
    out: Sink, scores: Iterable[PairScore], style: ScoreStyle, accuracy: Accuracy
) -> str:
    """Write minimal pairs; returns the accuracy for stderr, where the output holds only rows."""

    def rows() -> Iterator[JsonRow]:
        for score in scores:
            accuracy.add(score)
            if score.error is None or style.shape != "text":
                yield {"id": score.id, **score.carried, **score.to_dict()}

    kind = style.kind
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
