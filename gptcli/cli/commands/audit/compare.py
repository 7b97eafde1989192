"""`gptcli audit compare`: what changed from one model to another, as after fine-tuning."""

from __future__ import annotations

from typing import Annotated

import typer

from gptcli.audit.comparison import changes
from gptcli.audit.options import Measure, Report, TwoModels
from gptcli.audit.record import record_of, same_files
from gptcli.audit.scores import ScoredSet
from gptcli.audit.sets.pairs import PairSet
from gptcli.audit.sets.reading import read_sets
from gptcli.cli.commands.audit.bias import Files, details, scored, sets_of, told
from gptcli.cli.commands.audit.charts import change_chart
from gptcli.cli.commands.audit.report import Findings, Row, opened
from gptcli.cli.commands.audit.tables import compare_text
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.session import Session
from gptcli.options import Talk
from gptcli.protocol import ModelInfo


def _model(help: str) -> typer.models.ArgumentInfo:
    argument: typer.models.ArgumentInfo = typer.Argument(
        help=help, show_default=False, autocompletion=candidates.models
    )
    return argument


@command(presets=lambda given: {"dtype": "float32"}, naming=("model_a", "model_b"))
def compare(
    model_a: Annotated[str, _model("The model before: a folder, a Hub id or an alias.")],
    model_b: Annotated[str, _model("The model after.")],
    files: Files = None,
    *,
    measure: Measure,
    place: TwoModels,
    report: Report,
    talk: Talk,
) -> int:
    """Measure what changed from one model to another, pair by pair.

    For each category the change of the share and of the log-probabilities, with intervals and
    paired tests, adjusted for how many they are.
    """
    session = Session.of(talk)
    sets = read_sets(files or (), session.stdin, session.note)
    session.note(*(notice for one in sets for notice in one.notices))
    with opened(report) as outlets:
        first, before = _scored(model_a, sets, measure, place, session)
        second, after = _scored(model_b, sets, measure, place, session)
        rows = changes(before, after, measure.seed)
        models = {"model_a": first, "model_b": second}
        record = record_of("audit compare", models, measure.seed, **sets_of(sets, measure))
        if same_files(record):
            session.note("the two models are the same, file by file")
        outlets.write(
            Findings(
                record=record,
                rows=[row.to_dict() for row in rows],
                text=compare_text(sets, rows, record),
                chart=change_chart(first.name, second.name, rows),
                named="pairs",
                details=[*_of("a", details(before)), *_of("b", details(after))],
            )
        )
    return max(told(session, before), told(session, after))


def _scored(
    model: str, sets: list[PairSet], measure: Measure, place: TwoModels, session: Session
) -> tuple[ModelInfo, list[ScoredSet]]:
    """A model and its scores; it is out of memory before the next one is opened."""
    engine = session.open_engine(place.load(model), measure.batch_size, exact=True)
    return engine.info, scored(engine, sets, measure, session)


def _of(model: str, rows: list[Row]) -> list[Row]:
    return [{"model": model, **row} for row in rows]
