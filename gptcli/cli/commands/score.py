"""`gptcli score`: log-probability, perplexity and surprisal of texts.

Order: check options and input, open the output, load the model. Rows come in the order of the
input, each as soon as it is computed. The data type is float32 by default, for exact numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from gptcli.cli.declaration import command
from gptcli.cli.output import sink
from gptcli.cli.output.records import order
from gptcli.cli.output.scorings import (
    KINDS,
    ScoreStyle,
    write_compared,
    write_pairs,
    write_texts,
)
from gptcli.cli.output.sink import Sink
from gptcli.cli.session import Session
from gptcli.errors import ExitCode, UsageError
from gptcli.inputs.columns import CarriedNames
from gptcli.inputs.prompt import decode, encode_argument, refuse_file_name
from gptcli.options import Load, Output, TableInput, Talk
from gptcli.options.shared import (
    BATCH_SIZE,
    ERRORS,
    FORCE,
    FORMAT,
    JSON,
    LINES,
    OUTPUT,
    Errors,
    Format,
    chosen_format,
)
from gptcli.options.spec import Options, option
from gptcli.protocol import Engine
from gptcli.scoring import units
from gptcli.scoring.options import Scoring
from gptcli.scoring.pair_files import PairColumns, read_pairs
from gptcli.scoring.pairs import Accuracy, Pair, score_pairs
from gptcli.scoring.regions import is_mark
from gptcli.scoring.scorer import Detail, TextToScore
from gptcli.scoring.scorer import score as scored
from gptcli.scoring.tally import ScoreTally
from gptcli.scoring.texts import TextSource, read_bytes, read_texts

UNCUT = "some words are whole sentences: for text without spaces, --units character or jieba"


@dataclass(frozen=True, kw_only=True)
class Asked(Options):
    """The texts to score."""

    panel = "Input"

    file: tuple[str, ...] = option(
        (),
        "-f --file",
        "Score a file; repeatable; - is standard input.",
        metavar="FILE",
        names="file",
        redeclares="several files can be scored",
    )
    lines: bool = LINES
    compare: bool = option(
        False, "--compare", "Say which of the texts given is the likeliest, after --context."
    )
    pairs: str | None = option(
        None,
        "--pairs",
        "Minimal pairs: CSV, TSV or JSON lines with sentence_good and sentence_bad; - is standard"
        " input. Prints the share of pairs whose good sentence is likelier.",
        metavar="FILE",
        names="file",
    )
    bad_column: str | None = option(
        None,
        "--bad-column",
        "With --pairs: the column of the bad sentence; --column is that of the good one.",
        metavar="NAME",
        shown_default="sentence_bad, or bad",
        rare=True,
    )
    errors: Errors = ERRORS
    batch_size: int = BATCH_SIZE


@dataclass(frozen=True, kw_only=True)
class ScoredColumns(TableInput):
    """Which columns of a table are scored, and how it is read."""

    column: str | None = option(
        None,
        "--column",
        "The text's column or key in a table, by name or by number from 1; with --pairs that of"
        " the good sentence.",
        metavar="NAME",
        shown_default="text, sentence or prompt, else the only column",
        redeclares="texts to score have other names than prompts, and pairs have two columns",
    )


@dataclass(frozen=True, kw_only=True)
class ScoreTable(Options):
    """Rows of the output: their kind, order, format and file."""

    panel = "Output"

    tokens: bool = option(False, "--tokens", "One row per token.")
    words: bool = option(False, "--words", "One row per word: the sum over its tokens.")
    sort: str | None = option(
        None, "--sort", "Sort rows by this column, greatest first.", metavar="COLUMN"
    )
    top: int | None = option(
        None,
        "--top",
        "Only the N rows with the greatest surprisal of a token, word or region, perplexity of a"
        " text, difference of a pair, or value of --sort.",
        low=1,
        high=10**9,
        metavar="N",
    )
    bottom: int | None = option(
        None, "--bottom", "Only the N rows with the least.", low=1, high=10**9, metavar="N"
    )
    output: str | None = OUTPUT
    force: bool = FORCE
    format: Format | None = FORMAT
    json: bool = JSON

    @property
    def shape(self) -> Format:
        """The format: of a flag, else of the suffix of --output. Raises UsageError."""
        return chosen_format(self.output, self.format, self.json)

    def detail(self, scoring: Scoring) -> Detail:
        """What a row holds."""
        if self.tokens:
            return "tokens"
        return "words" if self.words else "texts" if scoring.regions is None else "regions"


# Also where config.toml sets another data type for all commands: the numbers must be exact.
@command(presets=lambda given: {"dtype": "float32"})
def score(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...",
            help="The text to score, or with -f more files; - is standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    asked: Asked,
    columns: ScoredColumns,
    scoring: Scoring,
    load: Load,
    table: ScoreTable,
    talk: Talk,
) -> int:
    """Score texts: perplexity, surprisal, minimal pairs.

    How likely the model finds a text, its tokens or its words; which of several texts is likelier;
    how many of a file's minimal pairs it gets right.
    """
    session = Session.of(talk)
    given = list(texts or ())
    _check(given, asked, table, scoring)
    source = _source(given, asked, columns, scoring)
    style = _style(source, asked, table, scoring, session)
    names = CarriedNames(style.kind.reserved, session.note)
    pairs = _pairs(asked, columns, names, session) if asked.pairs is not None else ()
    found = () if pairs else _texts(given, asked, source, names, session)
    begun = scoring.context[-1:].isalnum()
    if asked.compare and begun and any(text[:1].isalnum() for text in given):
        session.note(
            "a text goes on inside the context's last word: begin it with a space to begin one"
        )
    with sink.opened(Output(output=table.output, force=table.force)) as out:
        engine = session.open_engine(load, asked.batch_size, exact=True)
        if load.server is None and engine.info.dtype != "float32":
            dtype = engine.info.dtype
            session.note(f"weights in {dtype}: the numbers differ a little from float32's")
        alone = style.single or asked.compare  # its error is the command's
        tally = ScoreTally(session.error, alone, style.numbers)
        if pairs:
            said = _write_pairs(out, engine, pairs, scoring, asked, style, tally)
        else:
            scores = tally.watched(scored(engine, found, scoring, style.detail, asked.batch_size))
            if asked.compare:
                write_compared(out, list(scores), style.shape)
            else:
                write_texts(out, scores, style)
            said = "" if alone else tally.summary()
    if tally.uncut and scoring.units == "word":
        session.note(UNCUT)
    place = "the text" if style.single else "the texts"
    session.note(*filter(None, [said]), *tally.unknown.notices(place))
    session.detail(tally.closing(engine.info))
    if tally.error and alone:
        raise tally.error
    return ExitCode.PARTIAL if tally.error else ExitCode.OK


def _check(texts: Sequence[str], asked: Asked, table: ScoreTable, scoring: Scoring) -> None:
    """Raises UsageError for options that exclude each other."""
    ordered = table.sort is not None or table.top is not None or table.bottom is not None
    rows = [
        ("--file", bool(asked.file)),
        ("--lines", asked.lines),
        ("--tokens", table.tokens),
        ("--words", table.words),
        ("--regions", scoring.regions is not None),
    ]
    pairs = ("--pairs", asked.pairs is not None)
    clashes = [(rows[3], rows[2]), (rows[4], rows[2])]
    clashes += [(("--compare", asked.compare), other) for other in (*rows, pairs)]
    clashes += [(("--compare", asked.compare), ("--sort, --top or --bottom", ordered))]
    clashes += [(pairs, other) for other in (*rows, ("a text", bool(texts)))]
    for (flag, given), (other, too) in clashes:
        if given and too:
            raise UsageError(flag, f"does not go with {other}", "Leave one of them out.")
    units.cutter(scoring.units)  # refused before a model loads
    if scoring.word_method == "trailing":
        units.refuse_trailing(scoring.units)
    if asked.bad_column is not None and asked.pairs is None:
        raise UsageError("--bad-column", "it is of --pairs", "Add --pairs FILE, or leave it out.")
    _check_count(texts, asked)


def _check_count(texts: Sequence[str], asked: Asked) -> None:
    """Raises UsageError for too few texts to compare, or too many to score."""
    if asked.compare and len(texts) < 2:
        hint = 'Give two texts or more: --compare " cat" " dog".'
        raise UsageError("--compare", f"{len(texts)} given", hint)
    if len(texts) > 1 and not asked.compare and not asked.file:
        hint = "Put the text in quotes, or name files by -f."
        raise UsageError("TEXT", f"{len(texts)} texts are given", hint)


def _source(
    texts: Sequence[str], asked: Asked, columns: TableInput, scoring: Scoring
) -> TextSource:
    """Where the texts come from, unless they are compared or pairs."""
    regions = scoring.regions
    return TextSource(
        argument=texts[0] if texts and not asked.file else None,
        files=(*asked.file, *(texts if asked.file else ())),
        lines=asked.lines,
        errors=asked.errors,
        table=columns,
        regions=None if regions is None or is_mark(regions.strip()) else regions,
        units=scoring.units,
    )


def _style(
    source: TextSource, asked: Asked, table: ScoreTable, scoring: Scoring, session: Session
) -> ScoreStyle:
    """How the rows are written. Raises UsageError for an unknown column."""
    detail, pairs = table.detail(scoring), asked.pairs is not None
    kind = KINDS["pairs" if pairs else detail]
    rows = asked.lines or source.is_table
    return ScoreStyle(
        shape=table.shape,
        kind=kind.with_regions() if detail == "words" and scoring.regions is not None else kind,
        detail=detail,
        order=order(table.sort, table.top, table.bottom, kind.default, kind.numbers),
        single=source.single and not asked.compare and not pairs,
        titled=not rows and bool(source.names),
        numbers="id" if source.is_table or pairs else "line",
        note=session.note,
    )


def _texts(
    texts: Sequence[str], asked: Asked, source: TextSource, names: CarriedNames, session: Session
) -> Iterable[TextToScore | None]:
    """The texts; a single one is read at once, and its error raised."""
    if asked.compare:
        return [_candidate(number, text, asked) for number, text in enumerate(texts, 1)]
    found = read_texts(source, session.stdin, session.note, names)
    if not source.single:
        return found
    [text] = found
    assert text is not None
    if text.error is not None:
        raise text.error
    if not text.text:
        raise _nothing(asked)
    return [text]


def _nothing(asked: Asked) -> UsageError:
    """The error of an empty text: wrong usage; it names the file."""
    what = f"empty text in {asked.file[0]}" if asked.file else "empty text"
    return UsageError(what, "there is nothing to score", "Give at least one character.")


def _candidate(number: int, text: str, asked: Asked) -> TextToScore:
    refuse_file_name(text, "TEXT")
    source = TextSource(errors=asked.errors)
    return TextToScore(str(number), decode(encode_argument(text), source.input, f"text {number}"))


def _pairs(asked: Asked, columns: TableInput, names: CarriedNames, session: Session) -> list[Pair]:
    """The pairs of the file. Raises UsageError where there are none, and as `read_pairs`."""
    name = str(asked.pairs)
    given = PairColumns(table=columns, bad=asked.bad_column, errors=asked.errors)
    pairs = read_pairs(read_bytes(name, session.stdin), name, given, session.note, names)
    if not pairs:
        raise UsageError("--pairs", f"{name} has no pairs", "Write one pair a row.")
    return pairs


def _write_pairs(
    out: Sink,
    engine: Engine,
    pairs: Sequence[Pair],
    scoring: Scoring,
    asked: Asked,
    style: ScoreStyle,
    tally: ScoreTally,
) -> str:
    """Score and write minimal pairs; returns the summary for stderr."""
    found = score_pairs(engine, pairs, scoring, asked.batch_size)
    return write_pairs(out, tally.pairs(found), style, Accuracy())
