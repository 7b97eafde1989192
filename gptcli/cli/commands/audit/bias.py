"""`gptcli audit bias`: which of two sentences a model prefers, over sets of pairs."""

from __future__ import annotations

from typing import Annotated

import typer

from gptcli.audit.bias import bias_rows
from gptcli.audit.options import Measure, Report
from gptcli.audit.record import record_of
from gptcli.audit.scores import ScoredSet, scored_sets
from gptcli.audit.sets.pairs import PairSet
from gptcli.audit.sets.reading import read_sets
from gptcli.cli.commands.audit.charts import bias_chart
from gptcli.cli.commands.audit.report import Findings, Row, opened, say_errors
from gptcli.cli.commands.audit.tables import bias_text
from gptcli.cli.declaration import command
from gptcli.cli.session import Session
from gptcli.errors import ExitCode
from gptcli.options import Load, Talk
from gptcli.protocol import Engine
from gptcli.scoring.options import Scoring
from gptcli.system.units import counted

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE]...",
        help="Sets of pairs: CrowS-Pairs, StereoSet, WinoBias (two files), Winogender, or your own"
        " table with the columns more and less; - is standard input. Without one: a set of ours.",
        show_default=False,
    ),
]


@command(
    presets=lambda given: {"dtype": "float32"},
    examples=("gptcli audit bias -m gpt2", "gptcli audit bias crows_pairs.csv --svg shares.svg"),
)
def bias(files: Files = None, *, measure: Measure, load: Load, report: Report, talk: Talk) -> int:
    """Measure which of two sentences a model prefers, over sets of pairs.

    The likelihood of whole sentences, by category, with intervals. What the numbers mean and do not
    mean, and the limits of each set: gptcli docs audit.
    """
    session = Session.of(talk)
    sets = read_sets(files or (), session.stdin, session.note)
    session.note(*(notice for one in sets for notice in one.notices))
    with opened(report) as outlets:
        engine = session.open_engine(load, measure.batch_size, exact=True)
        found = scored(engine, sets, measure, session)
        rows = bias_rows(found, measure.seed)
        record = record_of(
            "audit bias", {"model": engine.info}, measure.seed, **sets_of(sets, measure)
        )
        outlets.write(
            Findings(
                record=record,
                rows=[row.to_dict() for row in rows],
                text=bias_text(sets, rows, record),
                chart=bias_chart(engine.info.name, sets, rows),
                named="pairs",
                details=details(found),
            )
        )
    return told(session, found)


def scored(
    engine: Engine, sets: list[PairSet], measure: Measure, session: Session
) -> list[ScoredSet]:
    """The scores of all sets, under a spinner."""
    count = sum(len(one.pairs) for one in sets)
    with session.waiting(f"scoring {counted(count, 'pair')} with {engine.info.name}"):
        return scored_sets(engine, sets, Scoring(bos=measure.bos), measure.batch_size)


def sets_of(sets: list[PairSet], measure: Measure) -> dict[str, object]:
    """What a record holds of the sets, and how they were read."""
    return {"bos": measure.bos, "sets": [one.to_dict() for one in sets]}


def details(found: list[ScoredSet]) -> list[Row]:
    """The rows of all pairs, those without a score with their error."""
    rows: list[Row] = []
    for one in found:
        rows += [pair.to_dict(one.set.name) for pair in one.pairs]
        rows += [
            {"set": one.set.name, "id": id, "error": error.to_dict()}
            for id, error in one.errors.items()
        ]
    return rows


def told(session: Session, found: list[ScoredSet]) -> int:
    """Say which pairs have no score; the exit code."""
    errors = [
        (f"{one.set.name} pair {id}", error) for one in found for id, error in one.errors.items()
    ]
    say_errors(session, errors)
    return ExitCode.PARTIAL if errors else ExitCode.OK
